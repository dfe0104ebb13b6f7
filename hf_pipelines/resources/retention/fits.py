"""States of fits that were never ended: checkpoints of runs that nobody has done again."""

from hf_pipelines.resources.fit_states import FITS
from hf_pipelines.resources.retention.judging import Holdings, Judged

KIND = "fit"


def judge(holdings: Holdings) -> list[Judged]:
    """Every state; a retry within the days goes on from it."""
    return [
        Judged(
            KIND,
            key,
            written,
            is_old := written < holdings.oldest,
            f"a fit that was not ended for {holdings.policy.days} days" if is_old else holdings.young,
            size,
            is_spare=not is_old,
        )
        for key, (written, size) in holdings.store.objects.ages_and_sizes(FITS).items()
    ]


def remove(holdings: Holdings, judged: Judged) -> None:
    """Remove one object."""
    holdings.store.objects.delete(judged.name)
