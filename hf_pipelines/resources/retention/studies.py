"""Studies that Optuna's tools show: copies to look at, of which nothing is ever read but progress."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hf_pipelines.resources import settings
from hf_pipelines.resources.retention.judging import Holdings, Judged
from hf_pipelines.resources.shown_studies import BEGAN, open_studies

KIND = "study"


def judge(holdings: Holdings) -> list[Judged]:
    """Every study of this machine's journals, or of the database.

    Raises
    ------
    ConnectionError
        If the database does not answer.
    """
    judged = []
    for storage in _storages():
        for study in storage.get_all_studies():
            trials = storage.get_all_trials(study._study_id, deepcopy=False)
            began = study.user_attrs.get(BEGAN, [holdings.now.timestamp()])[0]
            times = [each.datetime_complete or each.datetime_start for each in trials]
            written = max(
                [datetime.fromtimestamp(began, UTC), *(each.astimezone(UTC) for each in times if each is not None)]
            )
            is_old = written < holdings.oldest
            why = f"{holdings.aged}; its trials are in the store and in the ledger" if is_old else holdings.young
            judged.append(Judged(KIND, study.study_name, written, is_old, why))
    return sorted(judged, key=lambda each: (each.written, each.name))


def remove(holdings: Holdings, judged: Judged) -> None:
    """Delete a study; a journal that nobody has written to for long, and all of whose studies go, is removed at once."""
    strategy = judged.name.partition("/")[0]
    path = _folder() / f"{strategy}.journal"
    if not settings.studies_url() and not path.exists():
        return
    storage = open_studies(strategy)
    going = {each.name for each in holdings.judged[KIND] if each.goes}
    is_quiet = not settings.studies_url() and path.stat().st_mtime < holdings.oldest.timestamp()
    if is_quiet and all(each.study_name in going for each in storage.get_all_studies()):
        path.unlink(missing_ok=True)
        return
    with suppress(KeyError):
        storage.delete_study(storage.get_study_id_from_name(judged.name))


def _folder() -> Path:
    return settings.data_dir() / "studies"


def _storages() -> Iterator[Any]:
    try:
        import optuna  # noqa: F401 - without it there are none
    except ImportError:
        return
    if settings.studies_url():
        yield open_studies("all")
        return
    for path in sorted(_folder().glob("*.journal")):
        yield open_studies(path.stem)
