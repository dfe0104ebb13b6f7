"""Hold-out: the weeks of a strategy that nothing may look at which chooses between models.

Lives here: where a hold-out begins, which readers are kept out of it, and the run tag of a final refit. Does not live here: who has
looked at it (`holdout_looks`), the YAML (`components.strategy_fields`), which asset may read what (`components.strategy_stages`), reading (`parquet_io_manager`).

A hold-out begins on the Sunday of a week and has no end. It is a fixed date, of the YAML or counted back from the market's
`end`: one that was counted back from each week, or from today, would give up a week of it at every retraining.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import polars as pl

from hf_pipelines.partitions import parse_key
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.partition_codec import Stored

# Run tag: the run fits the model of a promoted configuration, which the value names, on all weeks before the one it serves.
FINAL_REFIT_TAG = "hf/final_refit"

# Fact of a footer: the week of the hold-out that the content knows nothing of, nor of any later week.
MADE_WITHOUT = "holdout"

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


@dataclass(frozen=True)
class Holdout:
    """Weeks of a strategy that CV and the choice of models do not see.

    Attributes
    ----------
    strategy : str
    week : str
        Key of its first week; all later ones belong to it.
    begins : datetime
        The instant at which that week begins, UTC.
    market : str
    looks : int
        How often it may be looked at.
    """

    strategy: str
    week: str
    begins: datetime
    market: str = ""
    looks: int = 0

    def before(self, weeks: Sequence[str]) -> list[str]:
        """Those of some weeks that lie before it."""
        return [each for each in weeks if each < self.week]

    def is_reached(self, part: Stored) -> bool:
        """Whether a partition knows something of it.

        By its rows: sessions, and the ends of labels; where it has no such columns by its key. What the strategy itself has made for
        a later week has scores and models, too, of which no row tells: it must say that it was made without the hold-out.
        """
        frame, footer = part.frame, part.footer
        # By `session`, not by `ts`: a Saturday bar around the clock closes as the Sunday begins.
        reaches = [
            frame.select((pl.col(name) >= begin).any()).item()
            for name, begin in (("session", parse_key(self.week)), ("label_end", self.begins))
            if name in frame.columns
        ]
        if footer.asset.startswith(f"{self.strategy}/"):
            without = footer.facts.get(MADE_WITHOUT)
            is_unsaid = not (isinstance(without, str) and without <= self.week)
            return any(reaches) or (footer.partition > self.week and is_unsaid)
        return any(reaches) if reaches else footer.partition >= self.week


@dataclass(frozen=True)
class HoldoutGuard:
    """Keeps one reader out of a hold-out.

    Attributes
    ----------
    reader : str
        Asset that the partitions are read for.
    opens_to_final_refit : bool
        Whether a run that is the final refit of a promoted configuration may read it.
    """

    holdout: Holdout
    reader: str
    opens_to_final_refit: bool = False

    def to_json(self) -> dict[str, Any]:
        """For the metadata of an input."""
        return {**asdict(self), "holdout": {**asdict(self.holdout), "begins": self.holdout.begins.isoformat()}}

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> "HoldoutGuard":
        held = fields["holdout"]
        return HoldoutGuard(
            **{**fields, "holdout": Holdout(**{**held, "begins": datetime.fromisoformat(held["begins"])})}
        )

    def refused(self, asset: str, parts: Mapping[str, Stored], tags: Mapping[str, str]) -> dict[str, str]:
        """Partitions of an asset that a run with some tags may not read, and why."""
        if self.opens_to_final_refit and final_refit_of(tags) is not None:
            return {}
        keys = sorted(key for key, part in parts.items() if self.holdout.is_reached(part))
        strategy = self.holdout.strategy
        if self.opens_to_final_refit and not asset.startswith(f"{strategy}/"):
            remedy = f"a final refit may read it: hfp retrain {strategy} --week SUNDAY --final-refit NAME"
        elif asset.startswith(f"{strategy}/"):
            remedy = (
                f"it was made without this hold-out, make it again: hfp retrain {strategy} --week {''.join(keys[:1])}"
            )
        else:
            remedy = "leave these weeks out; signals, track_record and the final refit of a promoted configuration alone read them"
        reason = (
            f"`{asset}` must end before the hold-out of {strategy}, which begins with week {self.holdout.week}, for {self.reader}, "
            f"reached into it in {some_of(keys)}; {remedy}"
        )
        return dict.fromkeys(keys, reason)


def final_refit_of(tags: Mapping[str, str]) -> str | None:
    """Name of the promoted configuration that a run refits, None for any other run.

    Raises
    ------
    ValueError
        If the tag names none.
    """
    name = tags.get(FINAL_REFIT_TAG)
    if name is not None and not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(
            f"`{FINAL_REFIT_TAG}` must name the promoted configuration by {NAME_PATTERN}, was {name[:80]!r}; leave it out of any "
            "other run."
        )
    return name
