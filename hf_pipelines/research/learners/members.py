"""Members: several learners that are fitted and stored as one, and what each predicts of rows that it was not fitted on.

Lives here: what ensembles share. Not here: how they combine their members (one module a way).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.learners.archive import pack, unpack
from hf_pipelines.research.learners.attribution import Attribution
from hf_pipelines.research.learners.fit_faults import placed
from hf_pipelines.research.learners.learner import Learner, ModelFormat, Rows, Setup, TrainingRows
from hf_pipelines.research.params import Listing, Nested, Number, Param
from hf_pipelines.research.validation_rows import VALIDATION_SHARE, cut_validation

Floats: TypeAlias = npt.NDArray[np.float64]

MEMBERS = Listing(item=Nested(), is_required=True, least=2, most=20, meaning="the learners that it is made of")
N_SPLITS = Number(
    default=5, low=2, high=50, is_whole=True, meaning="folds of the training rows that members are judged on"
)

STATE = "state.json"

R = TypeVar("R", bound=Rows)


class Members:
    """Fitted members, and numbers that were learned of them; to be subclassed.

    Of a subclass with numbers `has_state` is true, and `state` gives them as JSON values; of one that fits its members on parts of the
    training rows to judge them by the others, `judges_members` is true.

    Parameters
    ----------
    params : mapping
        Every parameter; `members` are pipelines that are not fitted.
    setup : Setup
    """

    has_state = False
    judges_members = False

    def __init__(self, params: Mapping[str, Any], setup: Setup) -> None:
        self.params = params
        self.setup = setup
        self.members: Sequence[Any] = params["members"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """As scikit-learn's, so that it can be cloned."""
        return {"params": self.params, "setup": self.setup}

    @property
    def parts(self) -> list[Any]:
        """Every pipeline that is stored with it."""
        return [*self.members]

    @property
    def state(self) -> dict[str, Any]:
        """Numbers that it has learned."""
        return {}

    def report(self) -> dict[str, Any]:
        """What the members tell of their fits, in their order, where one tells something."""
        told = [dict(each.report()) for each in self.members]
        return {"members": told} if any(told) else {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""

    @property
    def classes_(self) -> npt.NDArray[np.float64]:
        """Codes of the classes; all members are fitted on the same rows."""
        return np.asarray(self.members[0].classes_)

    @property
    def is_classification(self) -> bool:
        return self.setup.task == "classification"

    def fit_members(self, rows: TrainingRows, validation: TrainingRows | None) -> None:
        """Fit every member on the same rows."""
        for at, each in enumerate(self.members):
            with placed(_place(at, each)):
                each.fit(rows, validation)

    def ask_members(self, rows: Rows, wanted: npt.NDArray[np.bool_]) -> Floats:
        """What members give for the rows `wanted`: (n_wanted, n_members, n_columns), a column for a return, or one a class."""
        found = []
        for at, each in enumerate(self.members):
            with placed(_place(at, each)):
                found.append(_answer(each, rows, wanted))
        return np.stack(found, axis=1)

    def predict(self, rows: Rows, wanted: npt.NDArray[np.bool_]) -> Floats:
        """Numbers of a regression."""
        return self.combine(self.ask_members(rows, wanted), rows, wanted)[:, 0]

    def predict_proba(self, rows: Rows, wanted: npt.NDArray[np.bool_]) -> Floats:
        """Probabilities of classes."""
        return self.combine(self.ask_members(rows, wanted), rows, wanted)

    def combine(self, answers: Floats, rows: Rows, wanted: npt.NDArray[np.bool_]) -> Floats:
        """One answer a row of those of the members."""
        raise NotImplementedError


def out_of_fold(
    members: Sequence[Any],
    rows: TrainingRows,
    folds: Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]],
    *,
    classes: Sequence[str],
) -> tuple[npt.NDArray[np.int64], Floats]:
    """What members predict of rows that they were not fitted on; never of those that they were.

    Parameters
    ----------
    members : sequence of pipelines
        Not touched: copies of them are fitted.
    rows : TrainingRows
    folds : iterable of (train, test)
        Row numbers; purged, of `rows`.
    classes : sequence of str
        From `classes_of`.

    Returns
    -------
    tested : int array
        Numbers of rows with a prediction of every member, ascending.
    answers : array of shape (n_tested, n_members, n_columns)

    Raises
    ------
    ValueError
        If the rows of a fold lack a class, or no row is predicted by all members.
    """
    answers = np.full((len(rows), len(members), max(len(classes), 1)), np.nan)
    for number, (train, test) in enumerate(folds):
        with placed(f"inner fold {number}"):
            part = rows.take(train)
            if lacking := [name for code, name in enumerate(classes) if code not in part.y]:
                raise ValueError(
                    f"`n_splits` must leave every class to train on, was without {lacking}; take fewer folds, or more weeks of training."
                )
            wanted = np.zeros(len(rows), dtype=bool)
            # Of weight 0 is what some members read as history.
            wanted[test] = rows.weight[test] > 0
            for at, member in enumerate(members):
                with placed(_place(at, member)):
                    answers[wanted, at] = _answer(fitted_apart(member.unfitted(), part), rows, wanted)
    tested = np.flatnonzero(np.isfinite(answers).all(axis=(1, 2)))
    if not len(tested):
        raise ValueError(
            "`members` must predict rows of the inner folds, were without any that all predict; train on more weeks."
        )
    return tested, answers[tested]


def fitted_apart(pipeline: Any, rows: TrainingRows) -> Any:
    """Fit a pipeline on rows; one that needs validation rows gets the latest of them, purged from the others."""
    if not pipeline.choice.needs_validation:
        return pipeline.fit(rows, None)
    fit, validation = cut_validation(rows.keys, share=VALIDATION_SHARE)
    return pipeline.fit(rows.take(fit), rows.take_with_history(validation, bars=pipeline.choice.history_bars))


def classes_of(rows: TrainingRows, setup: Setup) -> tuple[str, ...]:
    """Names of the classes of training rows, their codes where there are none; empty of a regression."""
    if setup.task == "regression":
        return ()
    return setup.classes or tuple(f"code {code:g}" for code in np.unique(rows.y))


def losses(answers: Floats, y: Floats) -> Floats:
    """Loss of each answer: the squared error of a return, minus the logarithm of the probability of a class.

    Parameters
    ----------
    answers : array of shape (n_rows, n_members, n_columns)
    y : array of shape (n_rows,)

    Returns
    -------
    array of shape (n_rows, n_members)
    """
    if answers.shape[2] == 1:
        return np.asarray((answers[:, :, 0] - y[:, None]) ** 2)
    chosen = np.take_along_axis(answers, y.astype(int)[:, None, None], axis=2)[:, :, 0]
    return np.asarray(-np.log(np.clip(chosen, 1e-6, 1.0)))


def by_session(values: Floats, weight: Floats, rows: TrainingRows) -> Floats:
    """Weighted means of rows by session, in their order of time: (n_sessions, n_columns)."""
    _, session = np.unique(rows.keys["session"].to_numpy(), return_inverse=True)
    total = np.bincount(session, weights=weight)
    return np.stack([np.bincount(session, weights=weight * column) / total for column in values.T], axis=1)


def weighted_mean(answers: Floats, shares: Floats) -> Floats:
    """Mean of the members' answers, (n_rows, n_members, n_columns), by their shares, (n_rows, n_members)."""
    # One addition a member, in their order: the bits do not depend on how numpy sums.
    total = np.zeros((answers.shape[0], answers.shape[2]))
    for at in range(answers.shape[1]):
        total += shares[:, at, None] * answers[:, at]
    return total


def save_members(estimator: Members) -> bytes:
    """Every part in its own format, and learned numbers as JSON, as one archive."""
    files = {_file_name(at, each): each.save() for at, each in enumerate(estimator.parts)}
    if estimator.has_state:
        files[STATE] = json.dumps(estimator.state, sort_keys=True).encode()
    return pack(files)


def load_members(data: bytes, unfitted: Members) -> Members:
    """Return the ensemble; every part loads by its own format and its own list of types.

    Raises
    ------
    ValueError
        If the archive does not hold these parts.
    """
    names = [_file_name(at, each) for at, each in enumerate(unfitted.parts)]
    files = unpack(data, [*names, *([STATE] if unfitted.has_state else [])])
    for name, each in zip(names, unfitted.parts, strict=True):
        each.load(files[name])
    if unfitted.has_state:
        try:
            unfitted.set_state(json.loads(files[STATE]))
        except (KeyError, TypeError, ValueError) as e:
            raise ValueError(
                f"`data` must hold the numbers of this ensemble, was with others ({type(e).__name__})."
            ) from e
    return unfitted


def _report(estimator: Members) -> dict[str, Any]:
    return estimator.report()


def ensemble(
    name: str,
    *,
    kind: type[Members],
    params: Mapping[str, Param],
    importances: Callable[[Any, Sequence[str]], Mapping[str, float]],
    contributions: Callable[[Any, Rows], Attribution | None] | None = None,
    check: Callable[[Mapping[str, Any]], None] | None = None,
) -> Learner:
    """Entry of an ensemble.

    Parameters
    ----------
    name : str
    kind : subclass of Members
        What is built, of every parameter and the setup.
    params : mapping of str to Param
        Those beside `members`.
    importances, contributions, check : callable
        As of any `Learner`.
    """
    return Learner(
        name=name,
        family="ensemble",
        tasks=frozenset({"regression", "classification"}),
        build=kind,
        params={"members": MEMBERS, **params},
        format=ModelFormat("zip", save_members, load_members),
        check=check,
        is_keyed=True,
        judges_members=kind.judges_members,
        importances=importances,
        contributions=contributions,
        report=_report,
    )


def shared_importances(members: Sequence[Any], shares: Floats, names: Sequence[str]) -> dict[str, float]:
    """Weighted mean of the members' shares; members that tell none are left out."""
    found: dict[str, float] = dict.fromkeys(names, 0.0)
    for share, each in zip(shares, members, strict=True):
        for name, size in each.importances(names).items():
            found[name] = found.get(name, 0.0) + float(share) * size
    return found


def _answer(pipeline: Any, rows: Rows, wanted: npt.NDArray[np.bool_]) -> Floats:
    predicted = pipeline.predict(rows, wanted)
    if predicted.probability is not None:
        return np.asarray(predicted.probability, dtype=np.float64)
    return np.asarray(predicted.point, dtype=np.float64)[:, None]


def _place(at: int, member: Any) -> str:
    return f"members.{at} ({member.choice.name})"


def _file_name(at: int, member: Any) -> str:
    return f"member_{at}.{member.extension}"


def with_answers(rows: R, answers: Floats) -> R:
    """The same rows with the answers of members as their features: of probabilities all but the first, which follows."""
    _, n_members, n_columns = answers.shape
    kept = answers if n_columns == 1 else answers[:, :, 1:]
    names = [f"member_{member}_{column}" for member in range(n_members) for column in range(kept.shape[2])]
    return rows.with_features(kept.reshape(len(answers), -1), names)
