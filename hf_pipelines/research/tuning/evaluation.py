"""Evaluation: one point as a configuration, cross-validated, traded if asked for, and measured.

Lives here: what a trial computes; it can be sent to another process. Does not live here: which points (`samplers`), how a fold is fitted
(`cross_validation`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import polars as pl

from hf_pipelines.research import metrics
from hf_pipelines.research.account_table import returns_by_fold
from hf_pipelines.research.backtest import BacktestResult
from hf_pipelines.research.cross_validation import CrossValidation, cross_validate, fit_final
from hf_pipelines.research.fold_by_fold import GivenFold, folds_of, join_folds
from hf_pipelines.research.learners.kept_bins import KeptBins
from hf_pipelines.research.learners.prediction import predict_frame
from hf_pipelines.research.matrix import RESERVED_COLUMNS, feature_names
from hf_pipelines.research.overfitting.sharpe import (
    deflated_sharpe_ratio,
    estimate_sharpe,
    probabilistic_sharpe_ratio,
    variance_of_trials,
)
from hf_pipelines.research.splitters.splitter import Splitter
from hf_pipelines.research.targets import Target
from hf_pipelines.research.tuning.objectives import Bound, Source, Wanted
from hf_pipelines.research.tuning.points import Configuration
from hf_pipelines.research.tuning.trials import COMPLETED, PRUNED, Outcome, Task
from hf_pipelines.research.weights import Weightings

# Times that a prediction is timed: the fastest counts.
N_TIMED = 3


class Trade(Protocol):
    """Simulates the account that follows out-of-fold predictions under a rule."""

    def __call__(self, predictions: pl.DataFrame, rule: Mapping[str, Any]) -> Account: ...


@dataclass(frozen=True)
class Account:
    """An account and the predictions that it was decided on; of several paths the middle one."""

    result: BacktestResult
    decided: pl.DataFrame
    periods_per_year: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Evaluates points on one matrix; call it with a task.

    Attributes
    ----------
    matrix : DataFrame
    base : Configuration
        That points change.
    splitter, target, weightings, seed, missing, validation_share
        As in `cross_validate`.
    times : callable, optional
        Sessions of a matrix -> when bars should have ended, for learners of sequences.
    wanted : tuple of Wanted
        Objectives.
    bounds : tuple of Bound
        Constraints, of the account.
    n_trials : int
        Of the study, by which a Sharpe ratio is deflated.
    trade : Trade or None
        Needed for what comes from an account.
    timer : callable or None
        Seconds that only grow; needed for `predict_seconds`.
    """

    matrix: pl.DataFrame
    base: Configuration
    splitter: Splitter
    target: Target
    weightings: Weightings
    seed: int
    missing: str
    validation_share: float
    wanted: tuple[Wanted, ...]
    n_trials: int
    bounds: tuple[Bound, ...] = ()
    times: pl.Series | None = None
    trade: Trade | None = None
    timer: Callable[[], float] | None = None

    def __call__(self, task: Task) -> Outcome:
        """Evaluate a point.

        Raises
        ------
        ValueError
            If the point is no configuration, or cannot be fitted or scored.
        """
        configuration = self.base.at(task.point)
        matrix = with_features(self.matrix, configuration)
        first = self.wanted[0].name
        parts: list[CrossValidation] = []
        scores: list[float] = []
        for folds in [[each] for each in self._folds] if task.limits else [self._folds]:
            found = self._validate(matrix, configuration, folds)
            parts.append(found)
            if first in found.fold_metrics.columns:
                scores += found.fold_metrics[first].cast(pl.Float64).to_list()
            if task.is_hopeless(scores):
                return Outcome(PRUNED, fold_scores=tuple(scores))
        result = join_folds(parts, self._folds, matrix, target=self.target) if len(parts) > 1 else parts[0]
        return self._measure(result, matrix, configuration)

    def __getstate__(self) -> dict[str, Any]:
        """Without what each process makes for itself."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_folds", "_bins")}

    @cached_property
    def _folds(self) -> list[GivenFold]:
        return folds_of(self.splitter, self.matrix)

    @cached_property
    def _bins(self) -> KeptBins:
        """Of every fold, and as often again for trials beside each other."""
        return KeptBins(2 * len(self._folds))

    def _validate(
        self, matrix: pl.DataFrame, configuration: Configuration, folds: Sequence[GivenFold]
    ) -> CrossValidation:
        return cross_validate(
            matrix,
            learner=configuration.learner,
            splitter=folds[0] if len(folds) == 1 else self.splitter,
            target=self.target,
            weightings=self.weightings,
            seed=self.seed,
            missing=self.missing,
            validation_share=self.validation_share,
            times=self.times,
            bins=self._bins,
        )

    def _measure(self, result: CrossValidation, matrix: pl.DataFrame, configuration: Configuration) -> Outcome:
        by_fold = {
            name: [math.nan if each is None else float(each) for each in result.fold_metrics[name]]
            for name in result.fold_metrics.columns
            if result.fold_metrics.schema[name].is_float()
        }
        whole: dict[str, float] = {}
        if self._asks("account"):
            assert self.trade is not None
            account = self.trade(result.predictions, configuration.rule)
            whole |= measure_account(account, n_trials=self.n_trials)
            if any(each.less_deviations and each.objective.source == "account" for each in self.wanted):
                by_fold |= account_by_fold(account)
        if self._asks("fit"):
            whole |= self._measure_fit(matrix, configuration)
        values = []
        for each in self.wanted:
            if each.name not in by_fold and each.name not in whole:
                known = sorted({*by_fold, *whole})
                raise ValueError(
                    f"`objective` must be a score of target {self.target.name!r} ({', '.join(known)}), was {each.name}."
                )
            values.append(each.value(by_fold.get(each.name, ()), whole.get(each.name)))
        first = self.wanted[0]
        shown = {name: float(np.mean(each)) for name, each in by_fold.items()} | whole
        return Outcome(
            COMPLETED,
            values=tuple(values),
            fold_scores=tuple(by_fold.get(first.name, ())) if first.objective.source == "predictions" else (),
            excesses=tuple((each.name, each.excess(whole[each.name])) for each in self.bounds),
            scores=tuple((name, value) for name, value in sorted(shown.items()) if math.isfinite(value)),
        )

    def _asks(self, source: Source) -> bool:
        return any(each.objective.source == source for each in self.wanted) or (
            source == "account" and bool(self.bounds)
        )

    def _measure_fit(self, matrix: pl.DataFrame, configuration: Configuration) -> dict[str, float]:
        pipeline = fit_final(
            matrix,
            learner=configuration.learner,
            target=self.target,
            seed=self.seed,
            validation_share=self.validation_share,
            times=self.times,
        )
        found = {"artifact_bytes": float(len(pipeline.save()))}
        if not any(each.name == "predict_seconds" for each in self.wanted):
            return found
        assert self.timer is not None
        names, took = feature_names(matrix), []
        for _ in range(N_TIMED):
            began = self.timer()
            predict_frame(
                pipeline, matrix, features=names, classes=self.target.classes, missing=self.missing, times=self.times
            )
            took.append(self.timer() - began)
        return {**found, "predict_seconds": min(took)}


def with_features(matrix: pl.DataFrame, configuration: Configuration) -> pl.DataFrame:
    """The matrix with the features of a configuration alone, in its own order."""
    kept = {name for names in configuration.features.values() for name in names}
    return matrix.select(name for name in matrix.columns if name in RESERVED_COLUMNS or name in kept)


def measure_account(account: Account, *, n_trials: int) -> dict[str, float]:
    """Numbers of an account, and its Sharpe ratio after what was tried.

    The deflated ratio is that of the best of `n_trials` configurations whose ratios vary by chance alone: it does not hang on what
    other trials have found, so that every trial can be measured by itself.
    """
    returns = _session_returns(account.result)
    estimate = estimate_sharpe(returns)
    found = dict(account.result.metrics)
    if not math.isfinite(estimate.sharpe):
        return {**found, "probabilistic_sharpe_ratio": math.nan, "deflated_sharpe_ratio": math.nan}
    moments = (estimate.sharpe, estimate.n, estimate.skew, estimate.kurtosis)
    by_chance = variance_of_trials([], n=estimate.n)
    return {
        **found,
        "probabilistic_sharpe_ratio": float(probabilistic_sharpe_ratio(*moments)),
        "deflated_sharpe_ratio": float(deflated_sharpe_ratio(*moments, trials_variance=by_chance, n_trials=n_trials)),
    }


def account_by_fold(account: Account) -> dict[str, list[float]]:
    """What the returns of each fold's decisions say; NaN of too few sessions where it is annualised."""
    earned = returns_by_fold(account.result, account.decided)
    found: dict[str, list[float]] = {}
    for of_fold in earned.drop_nulls("fold").sort("fold", "ts").partition_by("fold", maintain_order=True):
        returns = of_fold["value"].to_numpy()
        equity = np.concatenate([[1.0], np.cumprod(1.0 + returns)])
        is_long = of_fold["session"].n_unique() >= metrics.ANNUAL_SESSIONS
        rate = {"periods_per_year": account.periods_per_year}
        numbers = {
            "total_return": metrics.total_return(equity),
            "annual_return": metrics.annual_return(equity, **rate) if is_long else math.nan,
            "annual_volatility": metrics.annual_volatility(returns, **rate) if is_long else math.nan,
            "sharpe_ratio": metrics.sharpe_ratio(returns, **rate) if is_long else math.nan,
            "max_drawdown": metrics.max_drawdown(equity),
            "hit_rate": metrics.hit_rate(returns),
        }
        for name, value in numbers.items():
            found.setdefault(name, []).append(float(value))
    return found


def _session_returns(result: BacktestResult) -> np.ndarray:
    daily = result.equity.group_by("session", maintain_order=True).agg(pl.col("equity").last())
    return metrics.returns_of(daily["equity"].to_numpy())


def on_rows(evaluation: Evaluation, rows: np.ndarray, splitter: Splitter) -> Evaluation:
    """The same on some rows of the matrix alone: those that an outer fold is trained on.

    Parameters
    ----------
    rows : array of int
        Ascending.
    splitter : Splitter
        Of the inner folds.
    """
    times = evaluation.times
    return replace(evaluation, matrix=evaluation.matrix[rows], splitter=splitter, times=times)
