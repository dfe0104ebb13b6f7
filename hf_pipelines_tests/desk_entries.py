"""Entries of a researcher's own module: at least one of each registry, the learners of the awkward kinds.

Lives here: tables with the names of the registries, as `modules:` takes them. Nothing of the project imports it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.backtest import ENGINES as SHIPPED_ENGINES
from hf_pipelines.research.features import Feature
from hf_pipelines.research.intervals import IntervalMethod
from hf_pipelines.research.learners import Calibration, Learner, ModelFormat, Rows, Setup, Step, TrainingRows
from hf_pipelines.research.params import Listing, Number
from hf_pipelines.research.signals import RULES as SHIPPED_RULES
from hf_pipelines.research.signals import Limit, Sizing
from hf_pipelines.research.splitters import SplitterKind
from hf_pipelines.research.targets import TargetKind, TargetNeeds
from hf_pipelines.research.weights import Weighting
from hf_pipelines_tests.desk_source import DESK


class Values:
    """A fitted thing that is a few numbers by name."""

    def __init__(self, params: Mapping[str, Any], setup: Setup | None = None) -> None:
        self.params = params
        self.setup = setup
        self.found: dict[str, Any] = {}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"params": self.params, "setup": self.setup}


def save_values(estimator: Values) -> bytes:
    return json.dumps(estimator.found, sort_keys=True).encode()


def load_values(data: bytes, unfitted: Values) -> Values:
    unfitted.found = json.loads(data)
    return unfitted


VALUES = ModelFormat("json", save_values, load_values)


class SymbolMean(Values):
    """Predicts the weighted mean label of the row's symbol in training; NaN for a symbol that was not there."""

    def fit(self, rows: TrainingRows, validation: TrainingRows | None) -> None:
        sums = rows.frame.select("symbol").with_columns(w=pl.Series(rows.weight), y=pl.Series(rows.weight * rows.y))
        self.found = dict(sums.group_by("symbol").agg(pl.col("y").sum() / pl.col("w").sum()).sort("symbol").iter_rows())

    def predict(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        return np.array([self.found.get(each, np.nan) for each in rows.take(wanted).keys["symbol"]])


class TrailingMean(Values):
    """A share of the mean of the first feature over the row and the bars before it; NaN across a gap."""

    def fit(self, rows: TrainingRows, validation: TrainingRows | None) -> None:
        x = self._means(rows)
        known = np.isfinite(x)
        self.found = {"slope": float((x[known] * rows.y[known]).sum() / (x[known] ** 2).sum())}

    def predict(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        return self.found["slope"] * self._means(rows)[wanted]

    def _means(self, rows: Rows) -> np.ndarray:
        number = pl.col("bar")
        total: pl.Expr = pl.lit(0.0)
        for back in range(self.params["bars"] + 1):
            is_near = number - number.shift(back).over("symbol") == back
            value = pl.col(rows.names[0]).cast(pl.Float64).shift(back).over("symbol")
            total = total + pl.when(is_near).then(value)
        mean = rows.frame.select(total / (self.params["bars"] + 1)).to_series()
        return mean.fill_null(float("nan")).to_numpy()


class Stopped(Values):
    """Halves its step until the validation rows get no better; tells which rows it had."""

    def fit(self, rows: TrainingRows, validation: TrainingRows | None) -> None:
        assert validation is not None
        level, best = 0.0, np.inf
        for step in range(20):
            level += (rows.y.mean() - level) / 2.0
            loss = float(((validation.y - level) ** 2).mean())
            assert self.setup is not None
            self.setup.progress.log(step, {"loss": loss})
            if loss >= best:
                break
            best, self.found = loss, {"level": level, "step": step}
        self.found |= {
            "rows": len(rows),
            "known_until": str(rows.keys["label_end"].max()),
            "judged_from": str(validation.keys["ts"].min()),
            "judged": len(validation),
        }

    def predict(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        return np.full(int(wanted.sum()), self.found["level"])


class Spread(Values):
    """Quantiles of all labels, and a column for each of two horizons."""

    def fit(self, rows: TrainingRows, validation: TrainingRows | None) -> None:
        self.found = {"levels": np.quantile(rows.y, self.params["quantiles"]).tolist()}

    def predict(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        return np.tile([1.0, 2.0], (int(wanted.sum()), 1))

    def predict_quantiles(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        return np.tile(self.found["levels"], (int(wanted.sum()), 1))


def _report(estimator: Values) -> dict[str, Any]:
    return estimator.found


def _of(
    name: str,
    kind: type[Values],
    params: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = ("point",),
    **options: Any,
) -> Learner:
    return Learner(
        name=name,
        family="desk",
        tasks=frozenset({"regression"}),
        build=kind,
        params=params or {},
        format=VALUES,
        is_keyed=True,
        outputs=lambda params, task: tuple(outputs),
        **options,
    )


def _bars(params: Mapping[str, Any]) -> int:
    return int(params["bars"])


_LEVELS = Number(default=0.5, low=0.0, high=1.0)

LEARNERS = {
    "symbol_mean": _of("symbol_mean", SymbolMean),
    "trailing_mean": _of(
        "trailing_mean",
        TrailingMean,
        {"bars": Number(default=3, low=1, high=100, is_whole=True, meaning="bars before the row")},
        history_bars=_bars,
        takes_weights=False,
    ),
    "stopped": _of("stopped", Stopped, needs_validation=True, takes_weights=False, report=_report),
    "spread": _of(
        "spread",
        Spread,
        {
            "quantiles": Listing(item=_LEVELS, default=(0.1, 0.9)),
            "horizons": Listing(item=Number(default=1, low=1, high=100), default=(1, 5)),
        },
        ("quantiles", "horizons"),
        takes_weights=False,
    ),
}


class SessionRank:
    """Ranks of each feature among the rows of the same time, from -1 to 1."""

    def fit(self, rows: TrainingRows) -> None:
        pass

    def transform(self, rows: Rows) -> np.ndarray:
        place, n = pl.col(rows.names).rank("average").over("ts"), pl.len().over("ts")
        return rows.frame.select((place * 2.0 - n - 1.0) / n).to_numpy()


def _build_rank(params: Mapping[str, Any], setup: Setup) -> SessionRank:
    return SessionRank()


def _save_nothing(step: SessionRank) -> bytes:
    return b"{}"


def _load_nothing(data: bytes, unfitted: SessionRank) -> SessionRank:
    return unfitted


PREPROCESSING = {
    "session_rank": Step(
        name="session_rank",
        build=_build_rank,
        params={},
        format=ModelFormat("json", _save_nothing, _load_nothing),
        is_keyed=True,
    )
}


class Flat:
    """Takes every class for as likely as its share in the validation rows."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def fit(self, probability: np.ndarray, y: np.ndarray, weight: np.ndarray) -> None:
        counts = np.bincount(y.astype(int), minlength=probability.shape[1])
        self.shares = (counts / counts.sum()).tolist()

    def transform(self, probability: np.ndarray) -> np.ndarray:
        return np.tile(self.shares, (len(probability), 1))


def _build_flat(params: Mapping[str, Any], setup: Setup) -> Flat:
    return Flat()


def _save_flat(calibrator: Flat) -> bytes:
    return json.dumps(calibrator.shares).encode()


def _load_flat(data: bytes, unfitted: Flat) -> Flat:
    unfitted.shares = json.loads(data)
    return unfitted


CALIBRATIONS = {
    "flat": Calibration(name="flat", build=_build_flat, params={}, format=ModelFormat("json", _save_flat, _load_flat))
}


def score_as_shipped(predictions: Any, coverage: float, classes: Any) -> np.ndarray:
    """Distance of outcome and prediction."""
    return (predictions["y"] - predictions["prediction"]).abs().to_numpy()


def bound_from_below(predictions: Any, thresholds: np.ndarray, coverage: float, classes: Any) -> dict[str, Any]:
    """Nothing above the prediction is ruled out."""
    lower = (predictions["prediction"] - thresholds).alias("lower")
    return {"lower": lower, "upper": (lower * 0.0 + 1.0).alias("upper")}


INTERVALS = {
    "from_below": IntervalMethod(
        name="from_below",
        task="regression",
        scores=score_as_shipped,
        bounds=bound_from_below,
        params={},
        summary="a bound below alone",
    )
}


def day_share(panel: Any) -> np.ndarray:
    """Where the close lies in the bar's range; NaN without a range."""
    values = np.full(panel.close.shape, np.nan)
    span = panel.high - panel.low
    values[span > 0] = (panel.close - panel.low)[span > 0] / span[span > 0]
    return values


FEATURES = (Feature("day_share", "desk", day_share, 1, ("high", "low", "close"), "(close - low) / (high - low)"),)


def label_next(bars: pl.DataFrame, params: Mapping[str, Any]) -> pl.DataFrame:
    """Whether the next close is the higher one: 1, or -1."""
    close, ts = pl.col("close"), pl.col("ts")
    known = bars.with_columns(
        after=close.shift(-1).over("symbol"),
        label_start=ts.shift(-1).over("symbol"),
        growth=close.shift(-1).over("symbol"),
    ).drop_nulls("label_start")
    move = pl.when(pl.col("after") > close).then(1.0).otherwise(-1.0)
    return known.select(
        "symbol", "session", "ts", "label_start", pl.col("label_start").alias("label_end"), target=move, y=move
    )


TARGETS = {
    "desk_next": TargetKind(
        name="desk_next",
        label=label_next,
        params={},
        needs=lambda params: TargetNeeds(horizon_bars=1),
        formula="y = 1 if the next close is higher, else -1",
    )
}


@dataclass(frozen=True)
class LastSessions:
    """One fold: the last sessions, by all rows whose labels end before them."""

    sessions: int

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        times = X if groups is None else groups
        tested = times["session"] >= times["session"].unique().sort()[-self.sessions]
        begins = times.filter(tested)["ts"].min()
        yield np.flatnonzero((times["label_end"] < begins).to_numpy()), np.flatnonzero(tested.to_numpy())


SPLITTERS = {
    "last_sessions": SplitterKind(
        name="last_sessions",
        build=LastSessions,
        params={
            "sessions": Number(default=12, low=1, high=1000, is_whole=True, meaning="sessions of the one test block")
        },
        trains_on_later=False,
        summary="the last sessions",
    )
}


def weigh_as_shipped(*arguments: Any, **options: Any) -> Any:
    """As the project's own rule of ranks."""
    return SHIPPED_RULES["rank_long_short"].weigh(*arguments, **options)


def run_as_shipped(*arguments: Any, **options: Any) -> Any:
    """As the project's own engine."""
    return SHIPPED_ENGINES["reference"].run(*arguments, **options)


RULES = {"desk_rank": replace(SHIPPED_RULES["rank_long_short"], name="desk_rank", weigh=weigh_as_shipped)}


def size_by_share(weights: pl.Series, predictions: pl.DataFrame, context: Any, params: Mapping[str, Any]) -> pl.Series:
    """The same share of each position."""
    return weights * float(params["share"])


SIZINGS = {
    "desk_share": Sizing(
        name="desk_share",
        size=size_by_share,
        params={"share": Number(default=0.5, low=0.0, high=1.0, meaning="of each position")},
        formula="share * weight",
    )
}


def bounds_of_longs(predictions: pl.DataFrame, context: Any, params: Mapping[str, Any]) -> tuple[pl.Series, pl.Series]:
    """No long position above `most`."""
    none = pl.repeat(None, predictions.height, dtype=pl.Float64, eager=True)
    return none, none.fill_null(float(params["most"]))


LIMITS = {
    "desk_longs": Limit(
        name="desk_longs",
        bounds=bounds_of_longs,
        params={"most": Number(default=0.2, low=0.0, high=1.0, meaning="weight of a long position, at most")},
        formula="weight <= most",
    )
}


def weigh_alike(rows: pl.DataFrame, params: Mapping[str, Any]) -> np.ndarray:
    """Every row counts 1."""
    return np.ones(rows.height)


WEIGHTINGS = {"desk_alike": Weighting(name="desk_alike", weigh=weigh_alike, params={}, formula="1")}

ENGINES = {"desk_account": replace(SHIPPED_ENGINES["reference"], name="desk_account", run=run_as_shipped)}

SOURCES = {"desk": DESK}
