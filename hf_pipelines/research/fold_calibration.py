"""Calibration on folds: probabilities of a fold calibrated by what earlier folds predicted, without a row less to learn from.

Lives here: which out-of-fold predictions a calibration is fitted on, and calibrated predictions. Not here: the methods
(`learners.calibration`), a calibration on validation rows (`learners.pipeline`), how well probabilities fit (`reliability`).

What a fold's calibration is fitted on, its model could know too: labels that ended by the end of the last label that the model was
trained on. A fold that was trained on later data has no earlier folds: for it, and for such a matrix, the learner is fitted and tested in
an inner walk-forward over the training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.fold_fits import Fold, fit_rows, predict_fold, training_rows
from hf_pipelines.research.learners import LearnerChoice, Pipeline, Setup, build_pipeline
from hf_pipelines.research.learners.learner import NO_PROGRESS
from hf_pipelines.research.learners.prediction import probability_columns
from hf_pipelines.research.predictions import latest_predictions, share_trained_on_later
from hf_pipelines.research.splitters.past_blocks import Block, SessionTimes, past_folds
from hf_pipelines.research.targets import Target
from hf_pipelines.research.weights import WEIGHED_COLUMNS, Weightings, sample_weights

# Blocks of an inner walk-forward that are tested; one more, the first, is trained on alone.
INNER_FOLDS = 3

# Columns of probabilities before they were calibrated; null where they were left as they are.
UNCALIBRATED = "uncalibrated_"

NO_EARLIER = "no earlier fold predicts rows whose labels ended in time"


@dataclass(frozen=True, eq=False)
class JudgedRows:
    """Rows with out-of-fold probabilities.

    Attributes
    ----------
    row : int array of shape (n_rows,)
        Places in the matrix, ascending.
    probability : array of shape (n_rows, n_classes)
        Before calibration; NaN where there is no prediction.
    """

    row: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True)
class FoldCalibration:
    """Calibrates predictions of one learner and matrix, fold by fold.

    Attributes
    ----------
    learner : LearnerChoice
        With a calibration that is fitted on folds.
    labels : DataFrame
        The matrix without its features.
    target : Target
    weightings : tuple of ChosenWeighting
        Estimated anew from the rows that a calibration is fitted on.
    setup : Setup
    """

    learner: LearnerChoice
    labels: pl.DataFrame
    target: Target
    weightings: Weightings
    setup: Setup

    def apply(
        self, folds: Sequence[Fold], results: Sequence[pl.DataFrame], inner: Sequence[JudgedRows | None]
    ) -> tuple[list[pl.DataFrame], list[dict[str, Any]]]:
        """Calibrate the predictions of each fold.

        Parameters
        ----------
        folds : sequence of Fold
        results : sequence of DataFrame
            Predictions of the test rows of each, in their order.
        inner : sequence of JudgedRows or None
            Of each fold that was trained on later data those of an inner walk-forward.

        Returns
        -------
        frames : list of DataFrame
            The same with the columns `uncalibrated_<class>` at the end.
        reports : list of dict
            What became of each calibration: `type`, `is_calibrated`, `calibration` in words, `rows` that it was fitted on, its numbers.
        """
        frames, reports = [], []
        for at, (result, own) in enumerate(zip(results, inner, strict=True)):
            judged = self._earlier(folds[:at], results[:at], result["trained_until"][0]) if own is None else own
            weight = self.weigh(judged.row)
            pipeline = build_pipeline(self.learner, self.setup)
            pipeline.fit_calibration(judged.probability, self.labels["y"].to_numpy()[judged.row], weight)
            frames.append(calibrate_frame(result, pipeline, classes=self.target.classes))
            reports.append(_report(pipeline))
        return frames, reports

    def _earlier(self, folds: Sequence[Fold], results: Sequence[pl.DataFrame], until: object) -> JudgedRows:
        """What earlier folds predicted, of rows whose labels ended by an instant; of several predictions the latest-trained."""
        names = [f"probability_{each}" for each in self.target.classes]
        if not folds:
            return JudgedRows(np.empty(0, dtype=np.int64), np.empty((0, len(names))))
        keyed = [
            result.select(*KEY_COLUMNS, "fold", "trained_until", *names).with_columns(row=pl.Series(fold.test))
            for fold, result in zip(folds, results, strict=True)
        ]
        ends = self.labels["label_end"]
        known = pl.concat(each.filter(ends[each["row"].to_numpy()] <= until) for each in keyed)
        latest = latest_predictions(known).sort("row")
        return JudgedRows(latest["row"].to_numpy(), latest.select(names).to_numpy())

    def weigh(self, row: np.ndarray) -> np.ndarray:
        """Weights of the rows that a calibration is fitted on."""
        columns = [name for name in WEIGHED_COLUMNS if name in self.labels.columns]
        return sample_weights(self.labels.select(columns)[row], weightings=self.weightings, target=self.target)


def is_trained_on_later(labels: pl.DataFrame, fold: Fold) -> bool:
    """Whether a fold's training rows have a label that ends at or after its first test bar."""
    return bool(labels["label_end"][fold.train].max() >= labels["ts"][fold.test].min())  # type: ignore[operator]


def inner_walk_forward(
    matrix: pl.DataFrame,
    train: np.ndarray,
    *,
    learner: LearnerChoice,
    setup: Setup,
    target: Target,
    weight: np.ndarray,
    validation_share: float,
    times: pl.Series | None,
) -> JudgedRows:
    """Fit and test a learner forward in time over training rows, by session, labels purged.

    Parameters
    ----------
    matrix : DataFrame
    train : ndarray of int64
        Places of the training rows, ascending.
    weight : ndarray
        Their sample weights.
    learner, setup, target, validation_share, times
        As in `cross_validate`.

    Returns
    -------
    JudgedRows
        Places in `matrix`; none of sessions with too few before them to train on.
    """
    matrix = matrix[train]
    times_of_rows = SessionTimes.of(matrix)
    rows = replace(training_rows(matrix, times), weight=weight)
    setup = replace(setup, progress=NO_PROGRESS, bins=None)
    places: list[np.ndarray] = [np.empty(0, dtype=np.int64)]
    found: list[np.ndarray] = [np.empty((0, len(target.classes)))]
    blocks = _inner_blocks(times_of_rows)
    for number, (fit, test) in enumerate(past_folds(times_of_rows, blocks, embargo_sessions=0, min_train_sessions=0)):
        if len(np.unique(rows.y[fit][weight[fit] > 0])) < len(target.classes):
            continue
        fold = Fold(number, fit, test)
        pipeline = fit_rows(
            learner, rows.take(fit), setup, place=fold.place, target=target, validation_share=validation_share
        )
        # Rows of a matrix were selected already.
        predicted = predict_fold(pipeline, matrix, fold=fold, target=target, missing="keep", times=times)
        places.append(train[test])
        found.append(predicted.select(f"probability_{each}" for each in target.classes).to_numpy())
    return JudgedRows(np.concatenate(places), np.concatenate(found))


def out_of_fold_rows(predictions: pl.DataFrame, matrix: pl.DataFrame, *, classes: Sequence[str]) -> JudgedRows:
    """Rows of a matrix that cross-validation predicted, with the probabilities before they were calibrated.

    Parameters
    ----------
    predictions : DataFrame
        As `CrossValidation.predictions`, by folds that were not trained on later data.
    matrix : DataFrame
    classes : sequence of str
    """
    names = [f"probability_{each}" for each in classes]
    raw = latest_predictions(predictions).select(*KEY_COLUMNS, *(pl.coalesce(UNCALIBRATED + each, name).alias(name) for each, name in zip(classes, names, strict=True)))  # fmt: skip
    found = matrix.select(KEY_COLUMNS).with_row_index("row").join(raw, on=KEY_COLUMNS, how="inner").sort("row")
    return JudgedRows(found["row"].cast(pl.Int64).to_numpy(), found.select(names).to_numpy())


def calibrate_final(pipeline: Pipeline, matrix: pl.DataFrame, out_of_fold: pl.DataFrame | None, **options: Any) -> None:
    """Fit the calibration of a pipeline that was fitted on a whole matrix.

    Parameters
    ----------
    pipeline : Pipeline
    matrix : DataFrame
    out_of_fold : DataFrame
        As `CrossValidation.predictions` of the matrix. Where its folds were trained on later data, an inner walk-forward over the
        matrix stands for them.
    **options
        As `inner_walk_forward`, without `weight`: that of the matrix.

    Raises
    ------
    ValueError
        If there are no out-of-fold predictions.
    """
    if out_of_fold is None:
        raise ValueError(
            "`out_of_fold` must be given for a calibration that is fitted on folds, was None; give the predictions of "
            "`cross_validate` on the matrix, or fit it on validation rows."
        )
    weight = matrix["weight"].to_numpy()
    if share_trained_on_later(out_of_fold) > 0.0:
        judged = inner_walk_forward(matrix, np.arange(matrix.height), weight=weight, **options)
    else:
        judged = out_of_fold_rows(out_of_fold, matrix, classes=options["target"].classes)
    pipeline.fit_calibration(judged.probability, matrix["y"].to_numpy()[judged.row], weight[judged.row])


def calibrate_frame(predicted: pl.DataFrame, pipeline: Pipeline, *, classes: Sequence[str]) -> pl.DataFrame:
    """Predictions with the probabilities of a pipeline's calibration, and what follows from them.

    Returns
    -------
    DataFrame
        With `uncalibrated_<class>` at the end: probabilities as they were, null where they were left as they are.
    """
    names = [f"probability_{each}" for each in classes]
    raw = predicted.select(names).to_numpy()
    is_changed = np.isfinite(raw).all(axis=1) & pipeline.is_calibrated
    columns = {name: predicted[name].to_numpy().copy() for name in ("prediction", "confidence", *names)}
    if is_changed.any():
        assert pipeline.calibrator is not None
        calibrated = probability_columns(pipeline.calibrator.transform(raw[is_changed]), classes)
        for name, values in calibrated.items():
            columns[name][is_changed] = values
    known = pl.Series(is_changed)
    return predicted.with_columns(**{name: pl.Series(values) for name, values in columns.items()}).with_columns(
        pl.when(known).then(pl.Series(raw[:, code])).otherwise(None).alias(UNCALIBRATED + each)
        for code, each in enumerate(classes)
    )


def _inner_blocks(times: SessionTimes) -> list[Block]:
    """Test blocks of as many sessions each; none where the sessions are too few to be divided."""
    n_sessions = len(times.sessions)
    length = n_sessions // (INNER_FOLDS + 1)
    first = n_sessions - INNER_FOLDS * length
    return [Block(first + at * length, first + (at + 1) * length) for at in range(INNER_FOLDS)] if length else []


def _report(pipeline: Pipeline) -> dict[str, Any]:
    entry, calibrator = pipeline.choice.calibrator, pipeline.calibrator
    assert entry is not None
    told = dict(entry.report(calibrator)) if entry.report is not None else {}
    if not pipeline.is_calibrated and not told.get("rows"):
        told["calibration"] = f"left as it is: {NO_EARLIER}"
    return {"type": entry.name, "is_calibrated": pipeline.is_calibrated, "rows": 0, **told}
