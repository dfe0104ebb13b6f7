"""Choices: a learner with its parameters, preprocessing and calibration, as a strategy names them.

Lives here: checking what was given against the registries, and what follows for everything around the learner. Not here:
making estimators of it (`pipeline`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_pipelines.research.learners.calibration import CALIBRATIONS, FOLDS, Calibration
from hf_pipelines.research.learners.learner import Learner, Output, Task
from hf_pipelines.research.learners.preprocessing import PREPROCESSING, Step
from hf_pipelines.research.learners.registry import ALIASES, LEARNERS
from hf_pipelines.research.params import Param, complete_params
from hf_pipelines.research.targets import Target

# Learners inside of learners: a vote of stacks of pipelines is three.
MAX_DEPTH = 5


@dataclass(frozen=True)
class PartChoice:
    """A key of `PREPROCESSING` or `CALIBRATIONS`, and every parameter of it."""

    name: str
    params: Mapping[str, Any]

    def settings(self) -> dict[str, Any]:
        """As JSON values; `choose_learner` takes them back."""
        return {"type": self.name, "params": _plain(self.params)}


@dataclass(frozen=True)
class LearnerChoice:
    """A learner that was chosen and checked; made by `choose_learner`.

    Attributes
    ----------
    name : str
        As it was written: a key of `LEARNERS` or of `ALIASES`.
    params : mapping
        Every parameter; nested learners are choices too.
    preprocessing : tuple of PartChoice
    calibration : PartChoice or None
    """

    name: str
    params: Mapping[str, Any]
    preprocessing: tuple[PartChoice, ...] = ()
    calibration: PartChoice | None = None

    @property
    def entry(self) -> Learner:
        """Its entry in `LEARNERS`."""
        return LEARNERS[_key(self.name)]

    @property
    def steps(self) -> tuple[Step, ...]:
        """Entries of its preprocessing, in order."""
        return tuple(PREPROCESSING[each.name] for each in self.preprocessing)

    @property
    def calibrator(self) -> Calibration | None:
        """Entry of its calibration."""
        return CALIBRATIONS[self.calibration.name] if self.calibration else None

    @property
    def _parts(self) -> list[Step | Calibration]:
        return [*self.steps, *([self.calibrator] if self.calibrator else [])]

    @property
    def nested(self) -> tuple[LearnerChoice, ...]:
        """Learners inside of it."""
        return tuple(_choices(self.params.values()))

    @property
    def readers(self) -> tuple[LearnerChoice, ...]:
        """Learners inside of it that read the features: a final learner reads what the members predict."""
        members: tuple[LearnerChoice, ...] = tuple(self.params.get("members", ()))
        return members or self.nested

    @property
    def tasks(self) -> frozenset[Task]:
        """Tasks that it and all learners inside of it can do; calibration is of probabilities alone."""
        tasks = ALIASES[self.name].tasks if self.name in ALIASES else self.entry.tasks
        if self.calibration is not None:
            tasks &= {"classification"}
        return tasks.intersection(*(each.tasks for each in self.nested))

    @property
    def handles_missing(self) -> bool:
        """Whether rows with unknown features can be fitted and predicted."""
        for step in self.steps:
            if not step.handles_missing:
                return False
            if step.fills_missing:
                return True
        return all(each.handles_missing for each in self.readers) if self.readers else self.entry.handles_missing

    @property
    def needs_validation(self) -> bool:
        """Whether the latest part of the training rows is kept apart."""
        return (
            self.entry.needs_validation
            or (self.calibration is not None and not self.calibrates_on_folds)
            or any(each.needs_validation for each in self.nested)
        )

    @property
    def calibrates_on_folds(self) -> bool:
        """Whether its calibration is fitted on out-of-fold predictions, and no row is kept apart for it."""
        return self.calibration is not None and self.calibration.params.get("fitted_on") == FOLDS

    @property
    def keeps_progress(self) -> bool:
        """Whether its fit, or one inside of it, can go on from a state that it has kept."""
        return self.entry.keeps_progress or any(each.keeps_progress for each in self.nested)

    @property
    def takes_weights(self) -> bool:
        """Whether it, and all learners inside of it, read sample weights."""
        return self.entry.takes_weights and all(each.takes_weights for each in self.nested)

    @property
    def needs_shap(self) -> bool:
        """Whether contributions by its own method, or those of a learner inside of it, need the library shap."""
        return self.entry.contributions_need_shap or any(each.needs_shap for each in self.nested)

    @property
    def is_divided(self) -> bool:
        """Whether a fit, or that of a learner inside of it, is many small ones that threads divide among them."""
        return self.entry.is_divided or any(each.is_divided for each in self.nested)

    def require_target(self, target: Target) -> None:
        """Refuse a target that it, or a learner inside of it, does not stand for, and steps that change units before one.

        Raises
        ------
        ValueError
        """
        own = self.entry.require_target
        if own is not None:
            own(self.params, target)
        # Filled values are in the units of the others.
        if (steps := [step.name for step in self.steps if not step.fills_missing]) and (name := self._of_units()):
            raise ValueError(
                f"`preprocessing` of learner {self.name!r} must keep the units of the features for {name!r}, whose predictions are in "
                f"those of its feature, was with {', '.join(steps[:5])}; leave it out, or give it to the learners beside {name!r}."
            )
        for each in self.nested:
            each.require_target(target)

    def _of_units(self) -> str | None:
        """The first learner, itself or inside of it, that does not learn from labels what a prediction means."""
        own = self.name if self.entry.require_target is not None else None
        return own or next((name for each in self.nested if (name := each._of_units())), None)

    @property
    def history_bars(self) -> int:
        """Bars before a row that its prediction reads."""
        own = self.entry.history_bars
        return max([own(self.params) if own else 0, *(each.history_bars for each in self.nested)])

    def outputs(self, task: Task) -> tuple[Output, ...]:
        """What it gives for each row."""
        return self.entry.outputs(self.params, task)

    def horizons(self, task: Task) -> tuple[int, ...]:
        """Horizons that it predicts, of a target with several; none of a learner that fits one label a row."""
        return tuple(map(int, self.params["horizons"])) if "horizons" in self.outputs(task) else ()

    def prediction_columns(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Columns of its predictions besides the keys, for a target with these classes; for a return: none."""
        outputs = self.outputs("classification" if classes else "regression")
        return (
            "prediction",
            "confidence",
            *(f"probability_{each}" for each in classes if "classes" in outputs),
            *(f"quantile_{each:g}" for each in self.params.get("quantiles", ()) if "quantiles" in outputs),
            *(f"prediction_{each:g}" for each in self.params.get("horizons", ()) if "horizons" in outputs),
        )

    def check_batches(self) -> None:
        """Refuse a learner that cannot be fitted on rows whose features are read in batches.

        Raises
        ------
        ValueError
        """
        able = ", ".join(sorted(name for name, entry in LEARNERS.items() if entry.fit_batches is not None))
        if self.entry.fit_batches is None:
            raise ValueError(
                f"`learner` must be able to read its rows in batches, was {self.name!r}; take one of {able}, or read the matrix "
                "whole."
            )
        if self.preprocessing or self.calibration:
            part = "preprocessing" if self.preprocessing else "calibration"
            raise ValueError(
                f"`learner` must be without {part} to read its rows in batches, was with it; leave it out, or read the matrix "
                "whole."
            )
        if self.entry.check_batches is not None:
            self.entry.check_batches(self.params)

    def require_columns(self, n_columns: int, where: str = "") -> None:
        """Refuse a choice of more features than can reach it, of the members of an ensemble too: it would choose nothing.

        Parameters
        ----------
        n_columns : int
            Features of the strategy.
        where : str
            Prefix of the places in messages.

        Raises
        ------
        ValueError
            Naming the parameter by its place.
        """
        for at, (part, step) in enumerate(zip(self.preprocessing, self.steps, strict=True)):
            if part.params.get("k", 0) > n_columns:
                raise ValueError(
                    f"`{where}preprocessing.{at}.params.k` must be at most the {n_columns} columns that can reach {part.name!r}, was "
                    f"{part.params['k']}; take fewer, or leave the step out."
                )
            n_columns = step.most_columns(part.params, n_columns)
        for at, each in enumerate(self.readers):
            each.require_columns(n_columns, f"{where}members.{at}.")

    def settings(self) -> dict[str, Any]:
        """As JSON values; `choose_learner` takes them back."""
        found: dict[str, Any] = {"type": self.name, "params": _plain(self.params)}
        if self.preprocessing:
            found["preprocessing"] = [each.settings() for each in self.preprocessing]
        if self.calibration:
            found["calibration"] = self.calibration.settings()
        return found

    def fitting_functions(self) -> tuple[Callable[..., Any], ...]:
        """Every function of the entries that fits, describes or saves; for code versions."""
        entry, parts = self.entry, self._parts
        own: list[Callable[..., Any]] = [entry.build, entry.format.save, entry.format.load, entry.outputs]
        own += [each for each in (entry.fit, entry.check, entry.history_bars, entry.importances, entry.report) if each]
        of_parts: list[Callable[..., Any]] = [
            function for part in parts for function in (part.build, part.format.save, part.format.load)
        ]
        if self.calibrator is not None and self.calibrator.report is not None:
            of_parts.append(self.calibrator.report)
        of_parts += [step.origins for step in self.steps if step.origins is not None]
        return (*own, *of_parts, *(function for each in self.nested for function in each.fitting_functions()))

    def explaining_functions(self) -> tuple[Callable[..., Any], ...]:
        """Functions of the entries that give contributions; for code versions."""
        own = [self.entry.contributions] if self.entry.contributions else []
        return (*own, *(function for each in self.nested for function in each.explaining_functions()))

    def predicting_functions(self) -> tuple[Callable[..., Any], ...]:
        """Every function of the entries that loads and predicts; for code versions."""
        entry, parts = self.entry, self._parts
        own: list[Callable[..., Any]] = [entry.build, entry.format.load, entry.outputs]
        own += [each for each in (entry.check, entry.history_bars) if each]
        of_parts: list[Callable[..., Any]] = [function for part in parts for function in (part.build, part.format.load)]
        return (*own, *of_parts, *(function for each in self.nested for function in each.predicting_functions()))


def choose_learner(
    name: str,
    params: Mapping[str, Any] | None = None,
    *,
    preprocessing: Sequence[Any] = (),
    calibration: Any = None,
) -> LearnerChoice:
    """Check a learner as a strategy names it, and fill in defaults.

    Parameters
    ----------
    name : str
        A key of `LEARNERS` or of `ALIASES`.
    params : mapping, optional
        Hyper-parameters that differ from the learner's defaults. A nested learner is a mapping `type`, `params`,
        `preprocessing`, `calibration`, or its name alone.
    preprocessing : sequence
        Keys of `PREPROCESSING`, or mappings `type`, `params`, in the order in which they are applied.
    calibration : str or mapping, optional
        The same of `CALIBRATIONS`.

    Returns
    -------
    LearnerChoice
        With every parameter of the learner and of what it holds.

    Raises
    ------
    ValueError
        If a name or a parameter is unknown, or a value outside of its range.
    TypeError
        If a value is of another type.

    Examples
    --------
    >>> choose_learner("ridge", {"alpha": 10}).params["alpha"]
    10.0
    """
    given = {"type": name, "params": params, "preprocessing": preprocessing, "calibration": calibration}
    return _choose({key: value for key, value in given.items() if value is not None}, "", depth=0)


def _choose(given: Mapping[str, Any], where: str, *, depth: int) -> LearnerChoice:
    known = ("type", "params", "preprocessing", "calibration")
    if strays := sorted(str(each) for each in set(given) - set(known)):
        raise ValueError(f"`{where.rstrip('.')}` must have the fields {', '.join(known)} alone, was with {strays[:5]}.")
    name = given.get("type")
    if not isinstance(name, str) or _key(name) not in LEARNERS:
        names = ", ".join(sorted({*LEARNERS, *ALIASES}))
        raise ValueError(f"`{where or 'learner.'}type` must be among {names}, was {str(name)[:40]}.")
    if depth > MAX_DEPTH:
        raise ValueError(f"`{where}type` must be nested {MAX_DEPTH} deep at most, was deeper.")

    def nested(value: Any, place: str) -> LearnerChoice:
        inner = {"type": value} if isinstance(value, str) else value
        if not isinstance(inner, Mapping):
            raise TypeError(f"`{place}` must be a learner or a mapping with its `type`, was {str(value)[:40]!r}.")
        return _choose(inner, f"{place}.", depth=depth + 1)

    entry = LEARNERS[_key(name)]
    # At the top the parameters stand alone, as in their file below `params`.
    prefix = f"{where}params." if where else ""
    filled = complete_params(
        name, _mapping(given.get("params"), f"{where}params"), entry.params, where=prefix, nested=nested
    )
    if entry.check is not None:
        entry.check(filled)
    calibration = given.get("calibration")
    chosen = None if calibration is None else _part(calibration, CALIBRATIONS, f"{where}calibration")
    if chosen is not None and where and chosen.params.get("fitted_on") == FOLDS:
        raise ValueError(
            f"`{where}calibration.params.fitted_on` must be validation for a learner inside of another one, which has no folds of its "
            "own, was folds; leave it out there, or calibrate the outer learner."
        )
    return LearnerChoice(
        name=name,
        params=filled,
        preprocessing=tuple(
            _part(each, PREPROCESSING, f"{where}preprocessing.{at}")
            for at, each in enumerate(_sequence(given.get("preprocessing"), f"{where}preprocessing"))
        ),
        calibration=chosen,
    )


def _part(given: Any, registry: Mapping[str, Step] | Mapping[str, Calibration], where: str) -> PartChoice:
    value = {"type": given} if isinstance(given, str) else given
    if not isinstance(value, Mapping) or set(value) - {"type", "params"}:
        raise ValueError(f"`{where}` must be a name or a mapping of `type` and `params`, was {str(given)[:60]}.")
    name = value.get("type")
    if not isinstance(name, str) or name not in registry:
        field = where if isinstance(given, str) else f"{where}.type"
        raise ValueError(f"`{field}` must be among {', '.join(sorted(registry))}, was {str(name)[:40]}.")
    spec: Mapping[str, Param] = registry[name].params
    given_params = _mapping(value.get("params"), f"{where}.params")
    return PartChoice(name, complete_params(name, given_params, spec, where=f"{where}.params."))


def _key(name: str) -> str:
    return ALIASES[name].name if name in ALIASES else name


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"`{name}` must be a mapping, was {str(value)[:40]!r}.")
    return value or {}


def _sequence(value: Any, name: str) -> Sequence[Any]:
    if isinstance(value, str) or (value is not None and not isinstance(value, Sequence)):
        raise TypeError(f"`{name}` must be a list, was {str(value)[:40]!r}.")
    return value or ()


def _choices(values: Any) -> Iterator[LearnerChoice]:
    for each in values:
        if isinstance(each, LearnerChoice):
            yield each
        elif isinstance(each, tuple):
            yield from _choices(each)


def _plain(value: Any) -> Any:
    """As JSON values."""
    if isinstance(value, LearnerChoice):
        return value.settings()
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
