"""Table of scores: a learner's beside those of the baselines, on the same rows, with what they are worth.

Lives here: scores by fold and pooled, their mean and deviation over folds, their intervals, and whether the best baseline is
beaten. Not here: what a score is (`metrics`), what a baseline predicts (`baselines`), the fits (`cross_validation`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hf_pipelines.research.baselines import Predicted, predict_baselines
from hf_pipelines.research.blas import one_blas_thread
from hf_pipelines.research.cross_validation import CrossValidation
from hf_pipelines.research.metrics import confusion_matrix, information_coefficient
from hf_pipelines.research.metrics.bootstrap import Draws, default_block
from hf_pipelines.research.metrics.direction import QUANTILE_LOSS
from hf_pipelines.research.metrics.session_scores import (
    SessionScores,
    classification_scores,
    rank_scores,
    regression_scores,
)
from hf_pipelines.research.predictions import latest_predictions, split_by_path
from hf_pipelines.research.score_rows import (
    SCHEMA,
    Scored,
    compare_with_best,
    draw_for_labels,
    over_folds,
    score_row,
    score_sets,
)
from hf_pipelines.research.score_words import MODEL, say_notes, say_verdict
from hf_pipelines.research.splitters.splitter import Splitter
from hf_pipelines.research.targets import HORIZON, Target, neutral_value

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

# Score that every predictor has, by which the best baseline is beaten or not.
DECIDING = {"classification": "accuracy", "regression": "rmse"}

# Share of the labels that span no more sessions than this one; a few of halted symbols end much later.
USUAL_LABELS = 0.95


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of a cross-validation and its baselines.

    Attributes
    ----------
    scores : DataFrame
        A row for each `predictor` ("model" and the baselines), `score` and `fold`, null: all folds pooled. `horizon` first where
        there are several. `value`; `low` and `high`, an interval of 95 % by the block bootstrap over whole sessions; of the
        pooled rows `mean` and `deviation` (sample standard deviation) over the folds; of the model's pooled rows
        `best_baseline`, `better_by` (above 0: better than it, whether more or less of the score is better) and `probability`
        that it is. Null where undefined.
    fold_metrics : DataFrame
        That of the cross-validation, with the scores of the baselines as `<baseline>_<score>` and, of classes, the rows of each that
        are predicted as each, as `<class>_as_<class>`.
    verdict : str
        Whether the model beats the best baseline, in one sentence a horizon.
    notes : tuple of str
        What was resampled, and what is undefined.
    """

    scores: pl.DataFrame
    fold_metrics: pl.DataFrame
    verdict: str
    notes: tuple[str, ...]


def tabulate_scores(
    result: CrossValidation, matrix: pl.DataFrame, *, splitter: Splitter, target: Target, seed: int
) -> ScoreTable:
    """Score a cross-validation and the baselines on the rows that it predicted.

    Parameters
    ----------
    result : CrossValidation
        From `cross_validate` of the same matrix, splitter and target.
    matrix : DataFrame
    splitter : Splitter
    target : Target
    seed : int
        Of the sessions drawn, and of the random baseline.
    """
    predictions = result.predictions.drop("y", "target").with_row_index("row")
    model = _model_of(result.predictions, target)
    baselines = predict_baselines(
        matrix, splitter.split(matrix), target=target, seed=seed, quantiles=tuple(model.quantiles)
    )
    judge = _Judge(result.predictions, {MODEL: model, **baselines}, target)
    is_known = pl.Series(np.isfinite(model.value))
    horizons = target.horizons if HORIZON in matrix.columns else (None,)
    tables, verdicts, notes = [], [], []
    for horizon in horizons:
        is_meant = is_known if horizon is None else is_known & (predictions[HORIZON] == horizon)
        labels = matrix if horizon is None else matrix.filter(pl.col(HORIZON) == horizon)
        with one_blas_thread():
            found = judge.table(
                predictions.filter(is_meant),
                label_sessions=label_sessions(labels),
                seed=seed,
                exact=_exact_scores(result) if horizon is None else {},
            )
        name = "" if horizon is None else f"Horizon {horizon}: "
        tables.append(found.scores if horizon is None else _of_horizon(found.scores, horizon))
        verdicts.append(name + found.verdict)
        notes += [name + each for each in found.notes]
    scores = pl.concat(tables)
    return ScoreTable(
        scores,
        _grown(result.fold_metrics, scores, result.predictions, model, target),
        "\n".join(verdicts),
        tuple(notes),
    )


def label_sessions(matrix: pl.DataFrame) -> int:
    """Sessions that a label spans after its own, of nearly all labels at most; at least 1."""
    closes = matrix.group_by("session").agg(pl.col("ts").max()).sort("session")["ts"].to_physical().to_numpy()
    of_row = np.searchsorted(closes, matrix["ts"].to_physical().to_numpy())
    of_end = np.searchsorted(closes, matrix["label_end"].cast(matrix.schema["ts"]).to_physical().to_numpy())
    return max(int(np.quantile(of_end - of_row, USUAL_LABELS, method="higher")), 1)


@dataclass(frozen=True, eq=False)
class _Found:
    scores: pl.DataFrame
    verdict: str
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Judge:
    """Predictions of every predictor, row by row of the same frame."""

    frame: pl.DataFrame
    predicted: Mapping[str, Predicted]
    target: Target

    def table(
        self,
        predictions: pl.DataFrame,
        *,
        label_sessions: int,
        seed: int,
        exact: Mapping[int | None, Mapping[str, float]],
    ) -> _Found:
        """Scores of some rows by fold and pooled; `exact` ones of the model stand where they are known."""
        pooled = [each["row"].to_numpy() for each in split_by_path(latest_predictions(predictions)).values()]
        by_fold = {
            int(fold): each["row"].to_numpy()
            for (fold,), each in predictions.partition_by("fold", as_dict=True, maintain_order=True).items()
        }
        rows: list[dict[str, object]] = []
        values: dict[tuple[str, str], list[float]] = {}
        for fold, of_fold in by_fold.items():
            draws = self._draws([of_fold], label_sessions, [seed, fold + 1])
            for name, scored in self._scored([of_fold], draws):
                for score, value in {**scored.observed, **(exact.get(fold, {}) if name == MODEL else {})}.items():
                    if score in scored.observed:
                        values.setdefault((name, score), []).append(value)
                        rows.append(score_row(name, score, value, scored, draws) | {"fold": fold})
        draws = self._draws(pooled, label_sessions, [seed, 0])
        whole = dict(self._scored(pooled, draws))
        n_sessions = len(_sessions_of(self.frame, pooled))
        for name, scored in whole.items():
            for score, value in scored.observed.items():
                value = exact.get(None, {}).get(score, value) if name == MODEL else value
                row = score_row(name, score, value, scored, draws) | over_folds(values[name, score])
                rows.append(row | (compare_with_best(score, value, whole, draws) if name == MODEL else {}))
        scores = pl.DataFrame(rows, schema=SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))
        block = default_block(n_sessions, label_sessions=label_sessions)
        deciding = DECIDING["classification" if self.target.is_classification else "regression"]
        verdict = say_verdict(scores.filter(predictor=MODEL, score=deciding).filter(pl.col("fold").is_null()))
        return _Found(
            scores,
            verdict,
            tuple(say_notes(scores.filter(predictor=MODEL), block=block, n_sessions=n_sessions, n_paths=len(pooled))),
        )

    def _draws(self, sets: Sequence[Rows], label_sessions: int, seed: Sequence[int]) -> Draws | None:
        return draw_for_labels(len(_sessions_of(self.frame, sets)), label_sessions=label_sessions, seed=seed)

    def _scored(self, sets: Sequence[Rows], draws: Draws | None) -> Iterator[tuple[str, Scored]]:
        """Scores of each predictor, means over the sets: of several paths the same sessions are drawn."""
        sessions = _sessions_of(self.frame, sets)
        for name, predicted in self.predicted.items():
            given = [self._session_scores(predicted.take(rows), rows, sessions) for rows in sets]
            yield name, score_sets(given, draws)

    def _session_scores(self, predicted: Predicted, rows: Rows, sessions: pl.Series) -> SessionScores:
        frame = self.frame.select("session", "y", "target")[rows]
        y = frame["y"].to_numpy()
        place = np.searchsorted(sessions.to_physical().to_numpy(), frame["session"].to_physical().to_numpy())
        n_sessions = len(sessions)
        if predicted.probability is not None:
            parts = classification_scores(
                place,
                n_sessions=n_sessions,
                y=y,
                probability=predicted.probability,
                gives_probabilities=predicted.gives_probabilities,
            )
        else:
            quantiles = {f"{QUANTILE_LOSS}{level:g}": (level, values) for level, values in predicted.quantiles.items()}
            parts = regression_scores(
                place,
                n_sessions=n_sessions,
                y=y,
                prediction=predicted.value,
                quantiles=quantiles,
                neutral=neutral_value(self.target),
            )
        ranked = frame.select("session", "target", prediction=pl.Series(predicted.value))
        return SessionScores(n_sessions, [*parts, *rank_scores(*session_coefficients(ranked, sessions))])


def session_coefficients(ranked: pl.DataFrame, sessions: pl.Series) -> list[Floats]:
    """Information coefficient of each session, of ranks and of values; NaN where undefined."""
    whole = pl.DataFrame({"session": sessions})
    found = [information_coefficient(ranked, is_ranked=is_ranked) for is_ranked in (True, False)]
    return [
        whole.join(each, on="session", how="left", maintain_order="left")["information_coefficient"]
        .cast(pl.Float64)
        .fill_null(math.nan)
        .to_numpy()
        for each in found
    ]


def _sessions_of(frame: pl.DataFrame, sets: Sequence[Rows]) -> pl.Series:
    return pl.concat([frame["session"].gather(rows).unique() for rows in sets]).unique().sort()


def _model_of(predictions: pl.DataFrame, target: Target) -> Predicted:
    prefix = "quantile_"
    quantiles = {
        float(name.removeprefix(prefix)): predictions[name].to_numpy()
        for name in predictions.columns
        if name.startswith(prefix)
    }
    probability = (
        predictions.select(f"probability_{name}" for name in target.classes).to_numpy()
        if target.is_classification
        else None
    )
    return Predicted(predictions["prediction"].to_numpy(), probability, quantiles)


def _exact_scores(result: CrossValidation) -> dict[int | None, dict[str, float]]:
    """What the cross-validation told already: the same numbers to the last bit."""
    found: dict[int | None, dict[str, float]] = {int(row["fold"]): row for row in result.fold_metrics.to_dicts()}
    return found | {None: result.metrics}


def _of_horizon(scores: pl.DataFrame, horizon: int) -> pl.DataFrame:
    return scores.select(pl.lit(horizon, dtype=pl.Int32).alias(HORIZON), pl.all())


def _grown(
    fold_metrics: pl.DataFrame, scores: pl.DataFrame, predictions: pl.DataFrame, model: Predicted, target: Target
) -> pl.DataFrame:
    """The metrics of the folds with the scores of the baselines, and of classes what was predicted as what."""
    if HORIZON in scores.columns:
        return fold_metrics
    of_folds = scores.filter(pl.col("fold").is_not_null() & (pl.col("predictor") != MODEL)).with_columns(
        column=pl.col("predictor") + "_" + pl.col("score")
    )
    grown = fold_metrics.join(
        of_folds.pivot("column", index="fold", values="value", maintain_order=True), on="fold", how="left"
    )
    if model.probability is None:
        return grown
    names = [f"{occurred}_as_{predicted}" for occurred in target.classes for predicted in target.classes]
    counts = []
    known = np.isfinite(model.value)
    fold, y = predictions["fold"].to_numpy(), predictions["y"].to_numpy()
    for number in grown["fold"]:
        rows = known & (fold == number)
        counts.append(confusion_matrix(y[rows], model.probability[rows]).ravel())
    return grown.with_columns(
        pl.Series(name, [int(each[at]) for each in counts], dtype=pl.Int64) for at, name in enumerate(names)
    )
