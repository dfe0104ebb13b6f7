"""Pipelines: preprocessing, a learner and its calibration, fitted, asked and stored as one.

Lives here: `build_pipeline` and what it makes. Not here: which rows a fold holds (`cross_validation`), predictions as a
frame (`prediction`), what each part does (`registry`, `preprocessing`, `calibration`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from hf_pipelines.research.learners.archive import pack, unpack
from hf_pipelines.research.learners.attribution import Attribution
from hf_pipelines.research.learners.choice import LearnerChoice
from hf_pipelines.research.learners.fit_faults import placed
from hf_pipelines.research.learners.learner import (
    BatchedRows,
    Estimator,
    PartProgress,
    Rows,
    Setup,
    TrainingRows,
    ask_learner,
    fit_learner,
)
from hf_pipelines.research.learners.origins import column_origins
from hf_pipelines.research.learners.preprocessing import Step, apply_step, fit_step

# Seeds are whole numbers below this.
_SEEDS = 2**31

_AnyRows = TypeVar("_AnyRows", TrainingRows, BatchedRows)


@dataclass(frozen=True)
class Predicted:
    """What a pipeline gives for rows; an array for each of its outputs.

    Attributes
    ----------
    point : ndarray of shape (n_rows,), optional
        Regression.
    probability : ndarray of shape (n_rows, n_classes), optional
        Classification, a column for each of `classes_`.
    quantiles : ndarray of shape (n_rows, n_quantiles), optional
    horizons : ndarray of shape (n_rows, n_horizons), optional
    """

    point: np.ndarray | None = None
    probability: np.ndarray | None = None
    quantiles: np.ndarray | None = None
    horizons: np.ndarray | None = None


class Pipeline:
    """A learner with its preprocessing and calibration; made by `build_pipeline`.

    Attributes
    ----------
    choice : LearnerChoice
    setup : Setup
    steps : list of transformers
    estimator : the learner's own
    calibrator : that of the calibration, or None
    is_calibrated : bool
        Whether its calibration was fitted here and changes probabilities.
    """

    def __init__(
        self,
        choice: LearnerChoice,
        setup: Setup,
        *,
        steps: Sequence[Estimator],
        estimator: Estimator,
        calibrator: Estimator | None,
    ) -> None:
        self.choice = choice
        self.setup = setup
        self.steps = list(steps)
        self.estimator = estimator
        self.calibrator = calibrator
        self.is_calibrated = False

    @property
    def classes_(self) -> np.ndarray:
        """Codes of the classes, ascending."""
        return np.asarray(self.estimator.classes_)

    def fit(self, rows: TrainingRows, validation: TrainingRows | None = None) -> Pipeline:
        """Fit every part: preprocessing and learner on `rows`, calibration on `validation` unless it is fitted on folds.

        Rows of weight 0 are left out: to some libraries they would count. For a learner of sequences they are history, and no
        part is fitted on them.

        Raises
        ------
        ValueError
            If no row has a weight, no row of a class has one, or a part cannot be fitted.
        """
        reads_history = self.choice.history_bars > 0
        weighted = _weighted(rows, "training")
        _check_classes(weighted, self.setup.classes)
        rows = rows if reads_history else weighted
        if validation is not None:
            judged = _weighted(validation, "validation")
            validation = validation if reads_history else judged
        for place, step, transformer in self._placed_steps():
            with placed(place):
                fit_step(step, transformer, _weighted(rows, "training"))
                rows = apply_step(step, transformer, rows)
                validation = None if validation is None else apply_step(step, transformer, validation)
        fit_learner(self.choice.entry, self.estimator, rows, validation)
        if self.calibrator is not None and not self.choice.calibrates_on_folds:
            if validation is None:
                raise ValueError(
                    "`validation` must be given for a learner with a calibration, was None; cut it from the training rows."
                )
            with placed("calibration"):
                self._calibrate(validation)
        return self

    def _calibrate(self, validation: TrainingRows) -> None:
        """Fit the calibration on the validation rows with a weight and a prediction."""
        probability = self._ask("predict_proba", validation, np.ones(len(validation), dtype=bool))
        is_judged = (validation.weight > 0) & np.isfinite(probability).all(axis=1)
        if not is_judged.any():
            raise ValueError(
                f"`validation` must hold a row that the learner can predict, was without among {len(validation)}; train on more "
                "weeks, or let the learner read fewer bars."
            )
        self.fit_calibration(probability, validation.y, validation.weight)

    def fit_calibration(self, probability: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Pipeline:
        """Fit the calibration alone, on rows that the learner was not fitted on.

        Parameters
        ----------
        probability : ndarray of shape (n_rows, n_classes)
            Out-of-sample predictions; rows of NaN are left out.
        y : ndarray of shape (n_rows,)
            Class codes.
        weight : ndarray of shape (n_rows,)
            Rows of weight 0 are left out. Without any row the calibration stays unfitted.
        """
        is_judged = (weight > 0) & np.isfinite(probability).all(axis=1)
        if is_judged.any():
            assert self.calibrator is not None
            self.calibrator.fit(probability[is_judged], y[is_judged], weight[is_judged])
            # Entries of other modules may not tell why they change nothing.
            self.is_calibrated = not getattr(self.calibrator, "reason", "")
        return self

    def fit_batches(self, rows: BatchedRows, validation: BatchedRows | None = None) -> Pipeline:
        """Fit as `fit`, to the same bits, on rows whose features are read in batches.

        Raises
        ------
        ValueError
            As `fit`; if the learner cannot be fitted so, see `LearnerChoice.check_batches`.
        """
        self.choice.check_batches()
        assert self.choice.entry.fit_batches is not None
        rows = _weighted(rows, "training")
        _check_classes(rows, self.setup.classes)
        validation = None if validation is None else _weighted(validation, "validation")
        self.choice.entry.fit_batches(self.estimator, rows, validation)
        return self

    def predict(self, rows: Rows, wanted: np.ndarray | None = None) -> Predicted:
        """Predict rows.

        Parameters
        ----------
        rows : Rows
            In the order of training; for a learner of sequences with the rows before them.
        wanted : ndarray of bool of shape (n_rows,), optional
            Rows that are answered for; the others are history. Default: all.
        """
        wanted = np.ones(len(rows), dtype=bool) if wanted is None else wanted
        for place, step, transformer in self._placed_steps():
            with placed(place):
                rows = apply_step(step, transformer, rows)
        outputs = self.choice.outputs(self.setup.task)
        found: dict[str, np.ndarray] = {}
        if "classes" in outputs:
            probability = self._ask("predict_proba", rows, wanted)
            found["probability"] = probability if self.calibrator is None else self.calibrator.transform(probability)
        if "horizons" in outputs:
            found["horizons"] = self._ask("predict", rows, wanted)
            found["point"] = found["horizons"][:, 0]
        elif "point" in outputs or "quantiles" in outputs:
            found["point"] = self._ask("predict", rows, wanted)
        if "quantiles" in outputs:
            found["quantiles"] = self._ask("predict_quantiles", rows, wanted)
        return Predicted(**found)

    def unfitted(self) -> Pipeline:
        """Another pipeline of the same choice and setup, not fitted; its fit reports nothing."""
        return build_pipeline(self.choice, replace(self.setup, progress=PartProgress(self.setup.progress, None)))

    def importances(self, names: Sequence[str]) -> dict[str, float]:
        """How much the fitted learner uses each column, adding up to 1 (all 0 if it uses none).

        Parameters
        ----------
        names : sequence of str
            Of the features, in order; preprocessing may make other columns of them.

        Returns
        -------
        dict of str to float
            Empty of a learner that does not tell.
        """
        describe = self.choice.entry.importances
        if describe is None:
            return {}
        for step, transformer in zip(self.choice.steps, self.steps, strict=True):
            if not step.keeps_columns:
                names = list(map(str, transformer.get_feature_names_out(np.array(names, dtype=object))))
        sizes = describe(self.estimator, names)
        total = np.asarray(list(sizes.values()), dtype=np.float64).sum()
        return {name: float(size / total) if total > 0 else 0.0 for name, size in sizes.items()}

    def contributions(self, rows: Rows) -> Attribution | None:
        """What each feature adds to what the learner gives for rows, by its own exact method, before any calibration.

        None without such a method. Columns of the preprocessing belong to the features that they were made of: `column_origins`.

        Raises
        ------
        ValueError
            If that needs a library which is not installed.
        """
        describe, shares = self.choice.entry.contributions, self.origins(len(rows.names))
        if describe is None or shares is None:
            return None
        for step, transformer in zip(self.choice.steps, self.steps, strict=True):
            rows = apply_step(step, transformer, rows)
        found = describe(self.estimator, rows)
        return None if found is None else found.by_origin(shares)

    def origins(self, n_features: int) -> np.ndarray | None:
        """Features that the learner's columns were made of, see `column_origins`."""
        return column_origins(zip(self.choice.steps, self.steps, strict=True), n_features)

    def report(self) -> Mapping[str, Any]:
        """What the learner tells of its fit, as JSON values."""
        describe = self.choice.entry.report
        return {} if describe is None else describe(self.estimator)

    @property
    def extension(self) -> str:
        """File name extension of what `save` makes."""
        return "zip" if self._is_composed else self.choice.entry.format.extension

    def save(self) -> bytes:
        """The fitted pipeline: the learner's own file, or one archive of the files of all parts."""
        learner = self.choice.entry.format.save(self.estimator)
        if not self._is_composed:
            return learner
        parts = [each.format.save(part) for each, part in self._parts]
        return pack(dict(zip(self._file_names, [learner, *parts], strict=True)))

    def load(self, data: bytes) -> Pipeline:
        """Fill this pipeline with what `save` made of one of the same choice; check the sha256 of the bytes first.

        Raises
        ------
        ValueError
            If the bytes are not such a file, or hold anything but the types that the parts' entries name.
        """
        files = unpack(data, self._file_names) if self._is_composed else {self._file_names[0]: data}
        learner, *parts = (files[name] for name in self._file_names)
        self.estimator = self.choice.entry.format.load(learner, self.estimator)
        loaded = [each.format.load(payload, part) for (each, part), payload in zip(self._parts, parts, strict=True)]
        self.steps = loaded[: len(self.steps)]
        if self.calibrator is not None:
            self.calibrator = loaded[-1]
        return self

    @property
    def _is_composed(self) -> bool:
        return bool(self.steps) or self.calibrator is not None

    @property
    def _parts(self) -> list[tuple[Any, Estimator]]:
        """Entries of preprocessing and calibration with what was built of them."""
        parts: list[tuple[Any, Estimator]] = list(zip(self.choice.steps, self.steps, strict=True))
        return parts if self.calibrator is None else [*parts, (self.choice.calibrator, self.calibrator)]

    @property
    def _file_names(self) -> list[str]:
        steps = [f"preprocessing_{at}.{each.format.extension}" for at, each in enumerate(self.choice.steps)]
        calibrator = self.choice.calibrator
        calibrations = [f"calibration.{calibrator.format.extension}"] if calibrator else []
        return [f"learner.{self.choice.entry.format.extension}", *steps, *calibrations]

    def _placed_steps(self) -> list[tuple[str, Step, Estimator]]:
        """Steps with their places in the YAML."""
        return [
            (f"preprocessing.{at} ({step.name})", step, transformer)
            for at, (step, transformer) in enumerate(zip(self.choice.steps, self.steps, strict=True))
        ]

    def _ask(self, method: str, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        return ask_learner(self.choice.entry, self.estimator, method, rows, wanted)


def build_pipeline(choice: LearnerChoice, setup: Setup) -> Pipeline:
    """Make an unfitted pipeline of a choice.

    Parameters
    ----------
    choice : LearnerChoice
        From `choose_learner`.
    setup : Setup
        Task, seed and threads; learners inside of it get seeds of their own.

    Returns
    -------
    Pipeline
        Steps, estimator and calibrator, none of them fitted.
    """
    built = {name: _built(value, setup, name) for name, value in choice.params.items()}
    return Pipeline(
        choice,
        setup,
        steps=[step.build(part.params, setup) for step, part in zip(choice.steps, choice.preprocessing, strict=True)],
        estimator=choice.entry.build(built, setup),
        calibrator=choice.calibrator.build(choice.calibration.params, setup)
        if choice.calibrator and choice.calibration
        else None,
    )


def report_preprocessing(pipeline: Pipeline, names: Sequence[str], *, where: str = "") -> dict[str, Any]:
    """What the fitted steps that change the columns made of them, those of nested learners too.

    Parameters
    ----------
    pipeline : Pipeline
    names : sequence of str
        Of the features, in order.
    where : str
        Prefix of the places.

    Returns
    -------
    dict of str to dict
        JSON values by the step's place in the YAML, such as `preprocessing.1` or `members.0.preprocessing.0`: its `type`, and
        what its entry reports.
    """
    found: dict[str, Any] = {}
    for at, (step, transformer) in enumerate(zip(pipeline.choice.steps, pipeline.steps, strict=True)):
        if step.report is not None:
            found[f"{where}preprocessing.{at}"] = {"type": step.name, **step.report(transformer, names)}
        if not step.keeps_columns:
            names = list(map(str, transformer.get_feature_names_out(np.array(names, dtype=object))))
    # Of an ensemble the members: its final learner sees what they predict, no feature.
    inner = {"members": list(pipeline.estimator.members)} if hasattr(pipeline.estimator, "members") else None
    for place, each in _nested_pipelines(pipeline, inner):
        found |= report_preprocessing(each, names, where=f"{where}{place}")
    return found


def report_calibration(pipeline: Pipeline, *, where: str = "") -> dict[str, Any]:
    """What the fitted calibration tells, those of nested learners too.

    Returns
    -------
    dict of str to dict
        JSON values by the place in the YAML, such as `calibration` or `members.0.calibration`.
    """
    calibrator, found = pipeline.choice.calibrator, {}
    if calibrator is not None and calibrator.report is not None and pipeline.calibrator is not None:
        found[f"{where}calibration"] = {"type": calibrator.name, **calibrator.report(pipeline.calibrator)}
    fitted = {
        name: getattr(pipeline.estimator, name) for name in ("members", "final") if hasattr(pipeline.estimator, name)
    }
    for place, each in _nested_pipelines(pipeline, fitted or None):
        found |= report_calibration(each, where=f"{where}{place}")
    return found


def _nested_pipelines(pipeline: Pipeline, given: Mapping[str, Any] | None) -> Iterator[tuple[str, Pipeline]]:
    """Pipelines among the parameters of a learner, or among those given, with their places in the YAML."""
    for name, value in (pipeline.estimator.get_params(deep=False) if given is None else given).items():
        listed = isinstance(value, list | tuple)
        for at, each in enumerate(value if listed else [value]):
            if isinstance(each, Pipeline):
                yield f"{name}.{f'{at}.' if listed else ''}", each


def report_fit(pipeline: Pipeline, names: Sequence[str]) -> dict[str, Any]:
    """What a fitted pipeline tells, as JSON values: the learner's own words, `preprocessing` and `calibration`.

    See `report_preprocessing` and `report_calibration`.

    Parameters
    ----------
    pipeline : Pipeline
    names : sequence of str
        Of the features, in order.
    """
    columns = report_preprocessing(pipeline, names) if preprocessing_reports(pipeline.choice) else {}
    calibrations = report_calibration(pipeline)
    parts = {"preprocessing": columns, "calibration": calibrations}
    return {**pipeline.report(), **{name: told for name, told in parts.items() if told}}


def preprocessing_reports(choice: LearnerChoice) -> tuple[Callable[..., Any], ...]:
    """Every function that `report_preprocessing` runs for a choice, for code versions; none if no step has something to say."""
    own = [step.report for step in choice.steps if step.report is not None]
    nested = [each for inner in choice.nested for each in preprocessing_reports(inner)]
    return tuple(dict.fromkeys([report_preprocessing, *own, *nested])) if own or nested else ()


def _built(value: Any, setup: Setup, place: str, *, at: int = 0) -> Any:
    """A parameter with pipelines in the place of nested learners."""
    if isinstance(value, LearnerChoice):
        progress = PartProgress(setup.progress, f"{place}.")
        return build_pipeline(value, replace(setup, seed=(setup.seed + at) % _SEEDS, progress=progress))
    if isinstance(value, tuple) and any(isinstance(each, LearnerChoice) for each in value):
        return [_built(each, setup, f"{place}.{at}", at=at) for at, each in enumerate(value)]
    return value


def _weighted(rows: _AnyRows, which: str) -> _AnyRows:
    is_weighted = rows.weight > 0
    if not is_weighted.any():
        raise ValueError(f"`weight` must be above zero in at least one {which} row, was in none of {len(rows)}.")
    return rows if is_weighted.all() else rows.take(is_weighted)


def _check_classes(rows: TrainingRows | BatchedRows, classes: Sequence[str]) -> None:
    there = set(rows.y.astype(int).tolist()) if classes else set()
    if lacking := [name for code, name in enumerate(classes) if code not in there]:
        raise ValueError(
            f"`target` must give training rows of every class a weight above zero, was without {lacking} in {len(rows)} rows; bring its "
            "thresholds closer to the returns, or train on more weeks."
        )
