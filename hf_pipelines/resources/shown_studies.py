"""Shown studies: what a study has done, where Optuna's dashboard and other processes see it while it runs.

Lives here: the storages of Optuna, writing a study's trials into one, reading how far it is. Does not live here: what a retry goes on from
(`fit_states`, one object a trial in the store, so that a study outlives its machine), the study itself (`research.tuning`).

A study here is a copy to look at. It is named `<strategy>/<week>/<hash>`, has one trial for each slot, however often the run was killed,
and nothing is ever read from it but progress. If its database does not answer, the study goes on without it and the log says so.
"""

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_pipelines.research.tuning import COMPLETED, PRUNED, Journal, Task, Trial
from hf_pipelines.research.tuning.samplers import optuna_distribution
from hf_pipelines.research.tuning.study import Design
from hf_pipelines.resources import settings
from hf_pipelines.resources.redaction import redacted

if TYPE_CHECKING:
    import optuna

# Attributes of a study and of its trials.
ASKED, BEGAN, ENDED, SLOT = "trials asked for", "began", "ended", "slot"

# Any number that no one else locks in a database of studies.
SCHEMA_LOCK = 7_266_310

CONNECT_TIMEOUT_S = 5


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Attributes
    ----------
    name : str
        `<strategy>/<week>/<hash>`.
    n_asked, n_done, n_running, n_failed : int
        Trials; failed ones are among those that are done.
    best : tuple of float
        Values of the best trial; of several objectives the best in the first one. Empty without any.
    goals : tuple of str
    left_s : float or None
        Seconds left at the speed of this run; None before it has ended a trial.
    silent_s : float
        Seconds since a trial began or ended.
    ended : str
        "" while it runs.
    """

    name: str
    n_asked: int
    n_done: int
    n_running: int
    n_failed: int
    best: tuple[float, ...]
    goals: tuple[str, ...]
    left_s: float | None
    silent_s: float
    ended: str


def open_studies(strategy: str, *, is_new: bool = False) -> "optuna.storages.BaseStorage":
    """Optuna's storage of the studies of a strategy: its journal, or the database of `HF_STUDIES_URL`, with its tables.

    Parameters
    ----------
    is_new : bool
        Whether a journal that is not there is begun.

    Raises
    ------
    ValueError
        If Optuna is not installed, or the strategy has no journal here.
    ConnectionError
        If the database does not answer.
    """
    try:
        import optuna
    except ImportError as e:
        raise ValueError(
            'Optuna must be installed for studies, was not; install the extra: pip install "hf_pipelines[tuning]".'
        ) from e
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url := settings.studies_url():
        return _open_database(url)
    path = journal_path(strategy)
    if not path.exists() and not is_new:
        raise ValueError(none_here(strategy))
    path.parent.mkdir(parents=True, exist_ok=True)
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    _mend(path)
    return optuna.storages.JournalStorage(backend)


def journal_path(strategy: str) -> Path:
    """File of the studies of a strategy.

    Raises
    ------
    ValueError
        If it is no name.
    """
    if not re.fullmatch(r"\w+", strategy):
        raise ValueError(f"`strategy` must be the name of a strategy, was {strategy[:80]!r}.")
    return settings.data_dir() / "studies" / f"{strategy}.journal"


def none_here(strategy: str, week: str | None = None) -> str:
    """What is said where a strategy has no study."""
    return (
        f"`strategy` must have a study{f' of week {week}' if week else ''} here, {strategy} has none; materialise {strategy}/tuning, look "
        "on the machine that it runs on, or set HF_STUDIES_URL to the database that its studies are shown in."
    )


@contextmanager
def showing(
    journal: Journal,
    design: Design,
    *,
    strategy: str,
    week: str,
    digest: str,
    place: str = "",
    tell: Callable[[str], object],
) -> Iterator[Journal]:
    """A study's journal whose trials are shown, too.

    Parameters
    ----------
    journal : Journal
        Which keeps the trials.
    strategy, week, digest, place : str
        The name of the study; the digest is of its design and data, the place of an outer fold.
    tell : callable
        Is given a line if studies cannot be shown.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    name = "/".join(each for each in (strategy, week, digest[:8], place) if each)
    faults = (optuna.exceptions.OptunaError, SQLAlchemyError, OSError, RuntimeError)
    shown = ShownJournal(journal, design, name, faults, tell)
    shown.attempt(lambda: shown.open(strategy))
    ended = "interrupted"
    try:
        yield shown
        ended = "done"
    finally:
        shown.attempt(lambda: shown.note(ENDED, ended))


@dataclass
class ShownJournal:
    """Keeps trials in a journal, then writes them where they are seen."""

    journal: Journal
    design: Design
    name: str
    faults: tuple[type[Exception], ...]
    tell: Callable[[str], object]
    _storage: Any = None
    _study: int = 0
    _numbers: dict[int, int] = field(default_factory=dict)
    _done: set[int] = field(default_factory=set)

    def known(self) -> Mapping[int, Trial]:
        """Trials that were kept; those among them that were not shown yet are."""
        known = self.journal.known()
        for trial in known.values():
            self.attempt(partial(self._show_end, trial))
        return known

    def begin(self, tasks: Sequence[Task]) -> None:
        """See `Journal`."""
        self.journal.begin(tasks)
        for task in tasks:
            self.attempt(partial(self._show_begin, task.slot, task.point))

    def record(self, trial: Trial) -> None:
        """See `Journal`."""
        self.journal.record(trial)
        self.attempt(lambda: self._show_end(trial))

    def attempt(self, deed: Callable[[], object]) -> None:
        """Do it, unless studies cannot be shown: what cannot be seen is no reason to stop a study."""
        if self._storage is None and self._study < 0:
            return
        try:
            deed()
        except self.faults as e:
            self._storage, self._study = None, -1
            self.tell(f"the study goes on, but is not shown any more: {redacted(str(e).strip().splitlines()[0])[:300]}")

    def open(self, strategy: str) -> None:
        """Find the study, or make it."""
        import optuna

        self._storage = open_studies(strategy, is_new=True)
        study = optuna.create_study(
            storage=self._storage,
            study_name=self.name,
            load_if_exists=True,
            directions=["maximize" if each.is_better_higher else "minimize" for each in self.design.goals],
        )
        self._study = study._study_id
        for trial in self._storage.get_all_trials(self._study, deepcopy=False):
            self._numbers[trial.user_attrs[SLOT]] = trial._trial_id
            if trial.state.is_finished():
                self._done.add(trial.user_attrs[SLOT])
        with warnings.catch_warnings():
            # Optuna calls names of objectives experimental.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([each.name for each in self.design.goals])
        self.note(ASKED, self.design.n_trials)
        self.note(BEGAN, [_now(), len(self._done)])
        self.note(ENDED, "")

    def note(self, name: str, value: Any) -> None:
        """Write an attribute of the study."""
        self._storage.set_study_user_attr(self._study, name, value)

    def _show_begin(self, slot: int, point: Mapping[str, Any]) -> None:
        if slot not in self._numbers:
            template = self._template(slot, point)
            self._numbers[slot] = self._storage.create_new_trial(self._study, template_trial=template)

    def _show_end(self, trial: Trial) -> None:
        from optuna.trial import TrialState

        if trial.slot in self._done:
            return
        self._show_begin(trial.slot, trial.point)
        number, outcome = self._numbers[trial.slot], trial.outcome
        if outcome.state == PRUNED:
            last = len(outcome.fold_scores) - 1
            self._storage.set_trial_intermediate_value(number, last, outcome.running_means()[last])
        if outcome.error:
            self._storage.set_trial_user_attr(number, "error", outcome.error[:500])
        state = {COMPLETED: TrialState.COMPLETE, PRUNED: TrialState.PRUNED}.get(outcome.state, TrialState.FAIL)
        values = list(outcome.values) if outcome.state == COMPLETED else None
        self._storage.set_trial_state_values(number, state, values)
        self._done.add(trial.slot)

    def _template(self, slot: int, point: Mapping[str, Any]) -> "optuna.trial.FrozenTrial":
        import optuna

        dimensions = [each for each in self.design.space.dimensions if each.name in point]
        return optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=dict(point),
            distributions={each.name: optuna_distribution(each.distribution) for each in dimensions},
            user_attrs={SLOT: slot},
        )


def latest_study(storage: "optuna.storages.BaseStorage", strategy: str, week: str | None = None) -> str | None:
    """Name of the study of a strategy, or of one of its weeks, that began last; None without any."""
    wanted = f"{strategy}/{week}/" if week else f"{strategy}/"
    found = [each for each in storage.get_all_studies() if each.study_name.startswith(wanted)]
    begun = [each for each in found if BEGAN in each.user_attrs]
    return max(begun, key=lambda each: each.user_attrs[BEGAN][0]).study_name if begun else None


def read_progress(storage: "optuna.storages.BaseStorage", name: str) -> Progress:
    """How far a study is, as another process has written it."""
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    study = storage.get_study_id_from_name(name)
    noted = storage.get_study_user_attrs(study)
    trials = storage.get_all_trials(study, deepcopy=False)
    done = [each for each in trials if each.state.is_finished()]
    completed = [each for each in done if each.state is TrialState.COMPLETE]
    sign = -1.0 if storage.get_study_directions(study)[0] is StudyDirection.MAXIMIZE else 1.0
    best = min(completed, key=lambda each: (sign * each.values[0], each.user_attrs[SLOT]), default=None)
    began, n_before = noted[BEGAN]
    times = [each.datetime_complete or each.datetime_start for each in trials]
    latest = max((each.astimezone(UTC).timestamp() for each in times if each is not None), default=began)
    n_here = len(done) - n_before
    n_left = max(noted[ASKED] - len(done), 0)
    return Progress(
        name=name,
        n_asked=noted[ASKED],
        n_done=len(done),
        n_running=sum(each.state is TrialState.RUNNING for each in trials),
        n_failed=sum(each.state is TrialState.FAIL for each in trials),
        best=() if best is None else tuple(best.values),
        goals=tuple(storage.get_study_system_attrs(study).get("study:metric_names", ())),
        left_s=(latest - began) / n_here * n_left if n_here > 0 else None,
        silent_s=max(_now() - max(latest, began), 0.0),
        ended=noted.get(ENDED, ""),
    )


def _open_database(url: str) -> "optuna.storages.BaseStorage":
    from optuna.storages import RDBStorage
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    connecting = {"connect_timeout": CONNECT_TIMEOUT_S}
    engine = create_engine(url, connect_args=connecting)
    try:
        # Of two processes that make the tables of an empty database one would die.
        with engine.connect() as held:
            held.execute(text("SELECT pg_advisory_lock(:number)"), {"number": SCHEMA_LOCK})
            return RDBStorage(url, engine_kwargs={"connect_args": connecting, "pool_pre_ping": True})
    except SQLAlchemyError as e:
        reason = redacted(str(e).strip().splitlines()[0])[:300]
    finally:
        engine.dispose()
    # Not chained: causes quote the address with its password.
    raise ConnectionError(
        f"`HF_STUDIES_URL` must be a PostgreSQL database that answers, did not ({reason}); start it, or unset it for a journal on disk."
    )


def _mend(path: Path) -> None:
    """Cut off a line that was not finished when the power went: what is appended to it could not be read."""
    from optuna.storages.journal import JournalFileSymlinkLock

    lock = JournalFileSymlinkLock(str(path))
    with path.open("rb+") as file:
        if not file.seek(0, os.SEEK_END):
            return
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n":
            return
        lock.acquire()
        try:
            whole = path.read_bytes()
            file.truncate(whole.rfind(b"\n") + 1)
        finally:
            lock.release()


def _now() -> float:
    return datetime.now(UTC).timestamp()
