"""Cost of our cross-validation and final fit against the bare calls of each library, on the same rows and with the same result.

CPU seconds of the process, the two ways one after the other in every round, the least of each: a busy machine changes little.
Exits 1 if predictions differ or ours takes more than the ratio of `LIMITS`. Then, for each learner: the size of its file, and
the seconds to load it and predict a session of 500 symbols.

    python benchmarks/bench_learners.py [rounds [rows [trees [learner ...]]]]
    python benchmarks/bench_learners.py 7 250000 100 lightgbm

The largest memory of a process of its own, each way (exits 1 if ours takes more than MEMORY_LIMIT times the other):

    python benchmarks/bench_learners.py memory [learner ...]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.research.cross_validation import cross_validate, fit_final
from hf_pipelines.research.learners import LearnerChoice, Setup, build_pipeline, choose_learner, predict_frame
from hf_pipelines.research.matrix import feature_names
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines.research.validation_rows import VALIDATION_SHARE, cut_validation

FEATURES, SYMBOLS, SEED, FOLDS = 60, 500, 7, 3
TARGET = build_target("forward_return", horizon_bars=5)
LIMITS = {"xgboost": 1.05, "lightgbm": 1.05, "catboost": 1.1, "random_forest": 1.1}
MEMORY_LIMIT = 1.2
# A forest takes ten times as long.
SHARE_OF_ROWS = {"random_forest": 0.2}

Bare = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


def synthetic_matrix(rows: int) -> pl.DataFrame:
    """Noise features, the first of which says a little about the label; labels of five days."""
    rng = np.random.default_rng(SEED)
    sessions = max(rows // SYMBOLS, 40)
    days = [date(2010, 1, 1) + timedelta(days=day) for day in range(sessions)]
    names = [f"S{number:03d}" for number in range(SYMBOLS)]
    keys = pl.DataFrame({"session": days}).join(pl.DataFrame({"symbol": names}), how="cross")
    features = rng.normal(size=(keys.height, FEATURES)).astype(np.float32)
    y = 0.002 * features[:, 0] + rng.normal(0.0, 0.02, keys.height)
    ts = pl.col("session").cast(pl.Datetime("us", "UTC"))
    return keys.select(
        "symbol",
        "session",
        ts=ts,
        label_start=ts + timedelta(days=1),
        label_end=ts + timedelta(days=5),
        target=pl.Series(y),
        y=pl.Series(y),
        weight=pl.lit(1.0),
        **{f"feature_{number:02d}": pl.Series(features[:, number]) for number in range(FEATURES)},
    )


def bare_xgboost(params: dict[str, Any]) -> Bare:
    """The estimator of scikit-learn's kind; validation rows are not read."""
    from xgboost import XGBRegressor

    def fit(X: np.ndarray, y: np.ndarray, X_held: np.ndarray, y_held: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        model = XGBRegressor(**params, random_state=SEED, n_jobs=1).fit(X, y, sample_weight=np.ones(len(y)))
        return lambda asked: np.asarray(model.predict(asked))

    return fit


def bare_lightgbm(params: dict[str, Any]) -> Bare:
    """`lightgbm.train` with early stopping."""
    import lightgbm

    own = {**_own(params), "subsample_freq": 1, "seed": SEED, "num_threads": 1, "deterministic": True}
    own |= {"force_row_wise": True, "verbosity": -1, "objective": "regression", "metric": "l2"}
    rounds = own.pop("n_estimators")

    def fit(X: np.ndarray, y: np.ndarray, X_held: np.ndarray, y_held: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        train = lightgbm.Dataset(X, label=y, weight=np.ones(len(y)), params=own)
        held = lightgbm.Dataset(X_held, label=y_held, weight=np.ones(len(y_held)), reference=train, params=own)
        stop = lightgbm.early_stopping(params["early_stopping_rounds"], verbose=False)
        model = lightgbm.train(own, train, num_boost_round=rounds, valid_sets=[held], callbacks=[stop])
        return lambda asked: np.asarray(model.predict(asked, num_threads=1))

    return fit


def bare_catboost(params: dict[str, Any]) -> Bare:
    """`CatBoost` with early stopping."""
    import catboost

    own = {**_own(params), "random_seed": SEED, "thread_count": 1, "loss_function": "RMSE", "logging_level": "Silent"}
    own |= {"allow_writing_files": False, "bootstrap_type": "Bernoulli", "has_time": True, "allow_const_label": True}
    own |= {"use_best_model": True, "od_type": "Iter", "od_wait": params["early_stopping_rounds"]}

    def fit(X: np.ndarray, y: np.ndarray, X_held: np.ndarray, y_held: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        pools = [catboost.Pool(a, label=b, weight=np.ones(len(b))) for a, b in ((X, y), (X_held, y_held))]
        model = catboost.CatBoost(own).fit(pools[0], eval_set=pools[1])
        return lambda asked: np.asarray(model.predict(catboost.Pool(asked), thread_count=1))

    return fit


def bare_forest(params: dict[str, Any]) -> Bare:
    """scikit-learn's forest; validation rows are not read."""
    from sklearn.ensemble import RandomForestRegressor

    def fit(X: np.ndarray, y: np.ndarray, X_held: np.ndarray, y_held: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        model = RandomForestRegressor(**params, random_state=SEED, n_jobs=1).fit(X, y, sample_weight=np.ones(len(y)))
        return lambda asked: np.asarray(model.predict(asked))

    return fit


BARE = {
    "xgboost": bare_xgboost,
    "lightgbm": bare_lightgbm,
    "catboost": bare_catboost,
    "random_forest": bare_forest,
}


def _own(params: dict[str, Any]) -> dict[str, Any]:
    shared = ("early_stopping_rounds", "device", "categories", "quantiles")
    return {name: value for name, value in params.items() if name not in shared}


class Comparison:
    """A learner both ways on one matrix."""

    def __init__(self, name: str, *, rows: int, trees: int) -> None:
        self.name = name
        self.matrix = synthetic_matrix(int(rows * SHARE_OF_ROWS.get(name, 1.0)))
        self.features = feature_names(self.matrix)
        self.choice: LearnerChoice = choose_learner(name, {"n_estimators": trees})
        self.splitter = PurgedWalkForward(
            n_splits=FOLDS, test_sessions=self.matrix["session"].n_unique() // 8, embargo_sessions=5
        )
        self.y = self.matrix["y"].to_numpy()
        self.cuts = [(self._cut(train), test) for train, test in self.splitter.split(self.matrix)]
        self.final_cut = self._cut(np.arange(len(self.y)))
        self.data = b""

    @cached_property
    def X(self) -> np.ndarray:  # noqa: N802
        """What the bare way starts from."""
        return np.ascontiguousarray(self.matrix.select(self.features).to_numpy())

    def _cut(self, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not self.choice.needs_validation:
            return train, train[:0]
        fit, held = cut_validation(self.matrix[train], share=VALIDATION_SHARE)
        return train[fit], train[held]

    def ours(self) -> np.ndarray:
        """`cross_validate` and `fit_final`; out-of-fold predictions, then those of the last session."""
        result = cross_validate(
            self.matrix, learner=self.choice, splitter=self.splitter, target=TARGET, weightings=(), seed=SEED, n_jobs=1
        )
        pipeline = fit_final(self.matrix, learner=self.choice, target=TARGET, seed=SEED)
        self.data = pipeline.save()
        last = predict_frame(pipeline, self.matrix[-SYMBOLS:], features=self.features, classes=())
        return np.concatenate([result.predictions["prediction"].to_numpy(), last["prediction"].to_numpy()])

    def bare(self) -> np.ndarray:
        """The same by the library's own calls."""
        fit = BARE[self.name](dict(self.choice.params))
        X, y = self.X, self.y
        found = [fit(X[train], y[train], X[held], y[held])(X[test]) for (train, held), test in self.cuts]
        train, held = self.final_cut
        return np.concatenate([*found, fit(X[train], y[train], X[held], y[held])(X[-SYMBOLS:])])

    def run(self, rounds: int) -> bool:
        """Time both; True if they agree and ours is within its limit."""
        least = {"ours": np.inf, "bare": np.inf}
        assert self.X.size
        found: dict[str, np.ndarray] = {}
        for _ in range(rounds):
            for way, work in (("ours", self.ours), ("bare", self.bare)):
                start = time.process_time()
                found[way] = work()
                least[way] = min(least[way], time.process_time() - start)
            print(f"  ours {least['ours']:.2f}, bare {least['bare']:.2f} CPU s so far", flush=True)
        ratio = least["ours"] / least["bare"]
        difference = float(np.abs(found["ours"] - found["bare"]).max())
        start = time.process_time()
        pipeline = build_pipeline(self.choice, Setup("regression")).load(self.data)
        predict_frame(pipeline, self.matrix[-SYMBOLS:], features=self.features, classes=())
        loaded = time.process_time() - start
        print(
            f"{self.name}: {self.matrix.height} x {FEATURES}, {FOLDS} folds and a final fit: ours {least['ours']:.2f} s, bare "
            f"{least['bare']:.2f} s, ratio {ratio:.3f} (limit {LIMITS[self.name]}), largest difference {difference:.1e}; file "
            f"{len(self.data) / 1e6:.2f} MB, loaded and {SYMBOLS} rows predicted in {loaded:.3f} s"
        )
        return difference < 1e-6 and ratio <= LIMITS[self.name]


def memory(names: list[str]) -> int:
    """Compare the largest memory of each learner; 0 if all hold."""
    is_good = True
    for name in names:
        peak = {
            way: int(subprocess.check_output([sys.executable, __file__, "peak", way, name]).split()[-1])
            for way in ("ours", "bare")
        }
        ratio = peak["ours"] / peak["bare"]
        print(
            f"{name}: at most {peak['ours']} MB, bare {peak['bare']} MB, ratio {ratio:.2f} (limit {MEMORY_LIMIT})",
            flush=True,
        )
        is_good &= ratio <= MEMORY_LIMIT
    return 0 if is_good else 1


def peak(way: str, name: str) -> int:
    """Print the largest memory of this process after it did the work one way, in MB."""
    getattr(Comparison(name, rows=250_000, trees=5), way)()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    return 0


def main() -> int:
    """Compare each learner; 0 if all hold."""
    if sys.argv[1:2] == ["memory"]:
        return memory(sys.argv[2:] or list(LIMITS))
    if sys.argv[1:2] == ["peak"]:
        return peak(*sys.argv[2:4])
    rounds, rows, trees = ([int(each) for each in sys.argv[1:4]] + [3, 250_000, 100][len(sys.argv[1:4]) :])[:3]
    names = sys.argv[4:] or list(LIMITS)
    print(f"{datetime.now():%Y-%m-%d %H:%M}  least CPU seconds of {rounds} rounds, {trees} trees at most")
    # The first call of each library pays for its imports: not what is compared.
    for name in names:
        Comparison(name, rows=20_000, trees=2).bare()
        Comparison(name, rows=20_000, trees=2).ours()
    return 0 if all([Comparison(name, rows=rows, trees=trees).run(rounds) for name in names]) else 1


if __name__ == "__main__":
    raise SystemExit(main())
