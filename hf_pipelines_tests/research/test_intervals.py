"""Intervals: agreement with mapie, what was known when, how often they hold, and what they meet."""

import math

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from hf_pipelines.research.cross_validation import cross_validate
from hf_pipelines.research.intervals import (
    INTERVALS,
    ServedIntervals,
    add_intervals,
    choose_intervals,
    serve_intervals,
)
from hf_pipelines.research.intervals.coverage import coverage_in_words, measure_coverage, volatility_regimes
from hf_pipelines.research.intervals.plots import coverage_png
from hf_pipelines.research.intervals.thresholds import conformal_threshold, move_thresholds
from hf_pipelines.research.learners import choose_learner
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines_tests.sample_matrix import random_matrix

DAYS = pl.datetime_range(pl.datetime(2015, 1, 1), pl.datetime(2021, 1, 1), "1d", time_zone="UTC", eager=True)
CLASSES = ("down", "flat", "up")


def drawn(
    *,
    sessions: int = 300,
    symbols: int = 10,
    folds: int = 3,
    label_sessions: int = 1,
    scale: np.ndarray | float = 1.0,
    seed: int = 0,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Out-of-fold predictions of 0 and outcomes of a normal distribution, in walk-forward folds; and their matrix."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(sessions + label_sessions, symbols))
    whole = np.stack([steps[at : at + label_sessions].sum(axis=0) for at in range(sessions)]) / math.sqrt(
        label_sessions
    )
    y = (whole * np.broadcast_to(np.reshape(scale, (-1, 1)), (sessions, 1))).ravel()
    session = np.repeat(np.arange(sessions), symbols)
    fold = session * folds // sessions
    begins = np.array([session[fold == each].min() for each in range(folds)])
    matrix = pl.DataFrame(
        {
            "symbol": np.tile([f"S{each:02d}" for each in range(symbols)], sessions),
            "session": DAYS.gather(session).dt.date(),
            "ts": DAYS.gather(session),
            "label_end": DAYS.gather(session + label_sessions),
            "y": y,
            "target": y,
        }
    )
    predictions = matrix.select("symbol", "session", "ts").with_columns(
        fold=pl.Series(fold, dtype=pl.Int32),
        # The last label that ended before the fold begins.
        trained_until=DAYS.gather(np.maximum(begins[fold] - 1, 0)),
        prediction=pl.lit(0.0),
        y=matrix["y"],
        target=matrix["target"],
    )
    return predictions, matrix


def asked(method: str, coverage: float = 0.9, **params: float):
    return choose_intervals(method, coverage=coverage, params=params)


def inside(found: pl.DataFrame) -> pl.DataFrame:
    held = (pl.col("y") >= pl.col("lower")) & (pl.col("y") <= pl.col("upper"))
    return found.group_by("session").agg(held.mean().alias("share")).sort("session")


class Known(BaseEstimator):
    """Predicts what it is given: a column of the features, or all of them as probabilities."""

    def __init__(self, column: int = 0) -> None:
        self.column = column

    def fit(self, X, y):
        self.is_fitted_ = True
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return X[:, self.column]


class Regressor(RegressorMixin, Known):
    pass


class Classifier(ClassifierMixin, Known):
    def predict(self, X):
        return X.argmax(axis=1)

    def predict_proba(self, X):
        return X


def test_threshold_by_hand():
    scores = np.array([5.0, 1.0, 4.0, 2.0, 3.0, 6.0, 9.0, 8.0, 7.0])
    # Of 9 scores the (9 + 1) * 0.8 = 8th; for 0.95 there would have to be 19.
    assert conformal_threshold(scores, 0.8) == 8.0 and conformal_threshold(scores, 0.9) == 9.0
    assert math.isnan(conformal_threshold(scores, 0.95)) and math.isnan(conformal_threshold(scores[:0], 0.5))


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_split_agrees_with_mapie(coverage):
    from mapie.regression import SplitConformalRegressor

    predictions, matrix = drawn(sessions=60)
    predictions = predictions.with_columns(prediction=pl.Series(np.random.default_rng(1).normal(size=600)))
    served = serve_intervals(predictions, matrix, asked("split", coverage), classes=(), label_sessions=1)
    ours = served.add(predictions, classes=()).select("lower", "upper").to_numpy()
    X, y = predictions.select("prediction").to_numpy(), predictions["y"].to_numpy()
    theirs = SplitConformalRegressor(Regressor().fit(X, y), confidence_level=coverage, prefit=True).conformalize(X, y)
    np.testing.assert_allclose(ours, theirs.predict_interval(X)[1][:, :, 0], atol=1e-12)


def test_quantile_agrees_with_mapie():
    from mapie.regression import ConformalizedQuantileRegressor

    predictions, matrix = drawn(sessions=60)
    rng = np.random.default_rng(1)
    low, high = -rng.uniform(0.3, 1.0, 600), rng.uniform(0.3, 1.0, 600)
    predictions = predictions.with_columns(**{"quantile_0.05": pl.Series(low), "quantile_0.95": pl.Series(high)})
    served = serve_intervals(predictions, matrix, asked("quantile"), classes=(), label_sessions=1)
    ours = served.add(predictions, classes=()).select("lower", "upper").to_numpy()
    X, y = np.column_stack([low, high, np.zeros(600)]), predictions["y"].to_numpy()
    models = [Regressor(column).fit(X, y) for column in (0, 1, 2)]
    theirs = ConformalizedQuantileRegressor(models, confidence_level=0.9, prefit=True).conformalize(X, y)
    expected = theirs.predict_interval(X, symmetric_correction=True)[1][:, :, 0]
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def of_classes(seed: int = 2) -> tuple[pl.DataFrame, pl.DataFrame, np.ndarray, np.ndarray]:
    """Predictions of three classes whose outcomes are drawn by their probabilities."""
    rng = np.random.default_rng(seed)
    predictions, matrix = drawn(sessions=60)
    X = rng.dirichlet([1.0, 1.0, 1.0], size=600)
    y = (rng.random((600, 1)) > X.cumsum(axis=1)).sum(axis=1)
    columns = {f"probability_{name}": X[:, at] for at, name in enumerate(CLASSES)}
    return predictions.with_columns(y=pl.Series(y, dtype=pl.Float64), **columns), matrix, X, y


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_class_sets_agree_with_mapie(coverage):
    from mapie.classification import SplitConformalClassifier

    predictions, matrix, X, y = of_classes()
    served = serve_intervals(predictions, matrix, asked("lac", coverage), classes=CLASSES, label_sessions=1)
    ours = served.add(predictions, classes=CLASSES)["class_set"].to_list()
    theirs = SplitConformalClassifier(Classifier().fit(X, y), confidence_level=coverage, prefit=True)
    sets = theirs.conformalize(X, y).predict_set(X)[1][:, :, 0]
    assert ours == ["|".join(name for name, is_in in zip(CLASSES, row, strict=True) if is_in) for row in sets]
    assert ("" in ours) == (coverage == 0.5)


def test_sets_of_likelier_classes_by_hand_hold_as_promised_and_are_as_large_as_mapies():
    from mapie.classification import SplitConformalClassifier

    predictions, matrix, X, y = of_classes()
    served = serve_intervals(predictions, matrix, asked("aps"), classes=CLASSES, label_sessions=1)
    threshold = served.thresholds[None]

    def score(row: np.ndarray, code: int) -> float:
        return row[row > row[code]].sum() + row[code] / 2.0

    assert np.sort([score(row, code) for row, code in zip(X, y, strict=True)])[540] == pytest.approx(threshold)
    ours = served.add(predictions, classes=CLASSES)["class_set"].to_list()
    assert ours == [
        "|".join(
            name for code, name in enumerate(CLASSES) if score(row, code) <= threshold + 1e-9 or code == row.argmax()
        )
        for row in X
    ]
    other, _, of_other, _ = of_classes(seed=9)
    sets = served.add(other, classes=CLASSES)["class_set"].str.split("|").to_list()
    held = [CLASSES[int(code)] in each for code, each in zip(other["y"], sets, strict=True)]
    assert np.mean(held) == pytest.approx(0.9, abs=0.04)
    theirs = SplitConformalClassifier(
        Classifier().fit(X, y), confidence_level=0.9, prefit=True, conformity_score="aps", random_state=0
    )
    size = theirs.conformalize(X, y).predict_set(of_other)[1][:, :, 0].sum(axis=1).mean()
    assert np.mean([len(each) for each in sets]) <= size + 0.05


def test_the_adaptive_one_of_one_symbol_is_that_of_the_paper():
    rng, n, step = np.random.default_rng(3), 500, 0.05
    scores = np.abs(rng.normal(size=n)) * np.where(np.arange(n) < 250, 1.0, 2.0)
    found = move_thresholds(
        np.arange(n), scores, np.arange(n) * 10 + 5, np.arange(n) * 10, coverage=0.9, step=step, window_sessions=10_000
    )
    aimed, errors = 0.1, []
    for at in range(n):
        # By hand: what is known before a session are all earlier ones.
        if at < 9:
            assert math.isnan(found.thresholds[at])
            continue
        rank = min(max(math.ceil((at + 1) * (1.0 - aimed) - 1e-9), 1), at)
        expected = np.sort(scores[:at])[rank - 1]
        assert found.thresholds[at] == expected
        errors.append(float(scores[at] > expected))
        aimed += step * (0.1 - errors[-1])
    assert found.aimed == pytest.approx(aimed, abs=1e-12)
    # Theirs, proposition 4.1: the share outside is as near to the nominal as (0.9 + step) / (step * n).
    assert abs(np.mean(errors) - 0.1) <= (0.9 + step) / (step * len(errors))


@pytest.mark.parametrize(("label_sessions", "within"), [(1, 10), (10, 40)], ids=["one_session", "overlapping_labels"])
def test_after_a_break_the_adaptive_one_returns_within_the_stated_sessions_and_split_does_not(label_sessions, within):
    scale = np.where(np.arange(600) < 400, 1.0, 3.0)
    predictions, matrix = drawn(sessions=600, symbols=20, scale=scale, label_sessions=label_sessions)
    shared = {"classes": (), "label_sessions": label_sessions}
    shares = {
        name: inside(add_intervals(predictions, matrix, asked(name), **shared))["share"].to_numpy()
        for name in ("adaptive", "split")
    }
    before, after = slice(100, 400), slice(400 + within, 600)
    assert np.nanmean(shares["adaptive"][before]) == pytest.approx(0.9, abs=0.02)
    assert np.nanmean(shares["adaptive"][after]) == pytest.approx(0.9, abs=0.03)
    assert np.nanmean(shares["adaptive"][400 + within : 420 + within]) > 0.86
    # The third fold begins where the break is: all that split knows is from before.
    assert np.nanmean(shares["split"][400:600]) < 0.55 < np.nanmean(shares["split"][200:400])


@pytest.mark.parametrize("method", ["split", "adaptive"])
def test_nothing_of_what_comes_later_moves_an_interval(method):
    predictions, matrix = drawn(label_sessions=10)
    shared = {"classes": (), "label_sessions": 10}
    whole = add_intervals(predictions, matrix, asked(method), **shared)
    cut = DAYS[229].date()
    begun = pl.col("session") <= cut
    # Rows that came later do not exist, and labels that had not ended by then were others.
    open_label = matrix["label_end"].dt.date() >= cut
    turned = predictions.with_columns(y=pl.when(open_label).then(pl.col("y") * 100.0).otherwise(pl.col("y")))
    for other in (predictions.filter(begun), turned):
        again = add_intervals(other, matrix, asked(method), **shared).filter(begun)
        assert again.select("lower", "upper").equals(whole.filter(begun).select("lower", "upper"))
    late = add_intervals(turned, matrix, asked(method), **shared)
    assert method == "split" or not late.select("lower").equals(whole.select("lower"))
    # The first fold has no earlier one.
    first = whole.filter(fold=0)["lower"]
    assert first.null_count() == len(first) if method == "split" else first[-1] is not None


def test_too_few_outcomes_unpredicted_rows_and_one_symbol():
    predictions, matrix = drawn(sessions=40, symbols=1, folds=4)
    halted = pl.int_range(pl.len()) % 7 == 3
    predictions = predictions.with_columns(prediction=pl.when(halted).then(float("nan")).otherwise(0.0))
    matrix_of_known, shared = matrix, {"classes": (), "label_sessions": 1}
    found = add_intervals(predictions, matrix_of_known, asked("split"), **shared)
    # 10 sessions a fold: one unknown and one whose label ends too late leave fewer than the 9 that 0.9 asks for.
    assert found.filter(fold=1)["lower"].null_count() == 10 and found.filter(fold=3)["lower"].null_count() == 2
    served = serve_intervals(predictions, matrix, asked("split", 0.99), **shared)
    assert served.report() == [{"threshold": None, "rows": 34, "aims_outside": pytest.approx(0.01)}]
    assert served.add(predictions, classes=())["lower"].null_count() == 40
    none = measure_coverage(found.with_columns(lower=pl.lit(None, dtype=pl.Float64)), matrix, nominal=0.9, **shared)
    assert coverage_in_words(none) == "No row has an interval: too few outcomes were known before the 34 predictions."
    some = measure_coverage(found, matrix, nominal=0.9, **shared)
    assert "34 predictions" not in coverage_in_words(some) and some.n_without == 34 - some.groups["n_rows"][0]


def test_rows_that_were_quarantined_take_no_part_and_move_no_other_session():
    """A week of two symbols without outcomes: the threshold after it, by hand, is of the others alone."""
    predictions, matrix = drawn(sessions=60, symbols=4, folds=3)
    last_fold = predictions.filter(fold=2)
    began = last_fold["session"].min()
    gone = matrix["symbol"].is_in(["S01", "S02"]) & matrix["session"].is_between(DAYS[22].date(), DAYS[26].date())
    # Wrong prices give outcomes that are far off.
    wrong = pl.when(gone).then(9.0).otherwise(pl.col("y"))
    predictions, matrix = predictions.with_columns(y=wrong), matrix.with_columns(y=wrong)
    kept, shared = matrix.filter(~gone), {"classes": (), "label_sessions": 1}
    found = add_intervals(predictions.filter(~gone), kept, asked("split"), **shared).filter(fold=2)
    until = last_fold["trained_until"][0]
    known = kept.join(predictions.filter(pl.col("fold") < 2), on=["symbol", "session"], how="semi")
    known = known.filter(pl.col("label_end") <= until)
    assert known.height == 4 * 39 - 5 * 2 and (known["session"] < began).all()
    threshold = conformal_threshold(known["y"].abs().to_numpy(), 0.9)
    assert found["upper"].to_list() == [threshold] * found.height
    whole = add_intervals(predictions, matrix, asked("split"), **shared)
    assert whole.filter(fold=2)["upper"][0] != threshold
    # What came before the week is as it was.
    before = pl.col("fold") < 2
    less = add_intervals(predictions.filter(~gone), kept, asked("split"), **shared).filter(before)
    assert less.equals(whole.filter(~gone).filter(before))


def test_each_horizon_has_its_own_and_several_models_of_a_row_the_latest():
    short, matrix = drawn()
    long, _ = drawn(scale=3.0, seed=1)
    both = pl.concat([each.with_columns(horizon=pl.lit(h, dtype=pl.Int32)) for h, each in ((1, short), (5, long))])
    keyed = pl.concat([matrix.with_columns(horizon=pl.lit(h, dtype=pl.Int32)) for h in (1, 5)])
    both, shared = both.sort("fold", "ts", "symbol", "horizon"), {"classes": (), "label_sessions": 1}
    for method in ("split", "adaptive"):
        found = add_intervals(both, keyed, asked(method), **shared)
        alone = add_intervals(short, matrix, asked(method), **shared)
        assert found.filter(horizon=1)["upper"].to_list() == alone["upper"].to_list()
        served = serve_intervals(both, keyed, asked(method), **shared)
        assert 2.5 < served.thresholds[5] / served.thresholds[1] < 3.5
        assert ServedIntervals.load(served.save()) == served
    found = measure_coverage(add_intervals(both, keyed, asked("split"), **shared), keyed, nominal=0.9, **shared)
    assert coverage_in_words(found).startswith("Horizon 1: of intervals that promise 90.0% hold ")
    # Test blocks that overlap: the threshold of a fold is of earlier folds, the latest-trained prediction of each row.
    again = short.filter(fold=1).with_columns(fold=pl.lit(2, dtype=pl.Int32), prediction=pl.lit(9.0))
    twice = pl.concat([short.filter(pl.col("fold") < 2), again])
    found = add_intervals(twice.sort("fold", "ts", "symbol"), matrix, asked("split"), **shared)
    assert found.filter(fold=1)["upper"].equals(
        add_intervals(short, matrix, asked("split"), **shared).filter(fold=1)["upper"]
    )


def test_class_sets_of_calibrated_folds_are_not_made_from_uncalibrated_ones():
    predictions, matrix = drawn()
    rng = np.random.default_rng(5)
    X = rng.dirichlet([1.0, 1.0, 1.0], size=3_000)
    y = (rng.random((3_000, 1)) > X.cumsum(axis=1)).sum(axis=1).astype(float)
    given = predictions.with_columns(
        y=pl.Series(y),
        **{f"probability_{name}": X[:, at] for at, name in enumerate(CLASSES)},
        uncalibrated_down=pl.when(pl.col("fold") > 0).then(0.5),
    )
    shared = {"classes": CLASSES, "label_sessions": 1}
    found = add_intervals(given, matrix, asked("lac"), **shared)
    assert found.filter(pl.col("fold") < 2)["class_set"].null_count() == 2_000
    assert found.filter(fold=2)["class_set"].null_count() == 0
    coverage = measure_coverage(found, matrix, nominal=0.9, **shared)
    row = coverage.groups.row(0, named=True)
    assert row["low"] < 0.9 < row["high"] and 1.0 < row["size"] < 3.0 and row["n_rows"] == 1_000
    assert "no fault is seen. 2,000 predictions have none" in coverage_in_words(coverage)


def test_coverage_by_hand_and_its_sampling_error():
    predictions, matrix = drawn(sessions=100, symbols=4, folds=2)
    found = predictions.with_columns(lower=pl.lit(-1.0), upper=pl.lit(1.0))
    table = measure_coverage(found, matrix, nominal=0.9, classes=(), label_sessions=1).groups
    held = predictions["y"].is_between(-1.0, 1.0)
    assert table["by"].to_list() == ["all", "fold", "fold", "year", "volatility", "volatility", "volatility", "volatility", *["symbol"] * 4]  # fmt: skip
    assert table["coverage"][0] == pytest.approx(held.mean()) and table["size"].to_list() == [2.0] * table.height
    by_symbol = predictions.with_columns(held=held).group_by("symbol").agg(pl.col("held").mean()).sort("symbol")
    assert table.filter(by="symbol")["coverage"].to_list() == pytest.approx(by_symbol["held"].to_list())
    assert table.filter(by="volatility")["n_rows"].sum() == 400
    # Rows of a session that are inside together count as one: the error is that of 100 draws, not of 400.
    luck = np.repeat(np.random.default_rng(0).random(100) < 0.9, 4)
    together = found.with_columns(y=pl.Series(np.where(luck, 0.0, 2.0)))
    row = measure_coverage(together, matrix, nominal=0.9, classes=(), label_sessions=1).groups.row(0, named=True)
    assert row["deviation"] == pytest.approx(math.sqrt(0.9 * 0.1 / 100), rel=0.35)
    narrow = found.with_columns(lower=pl.lit(-0.1), upper=pl.lit(0.1))
    assert coverage_in_words(measure_coverage(narrow, matrix, nominal=0.9, classes=(), label_sessions=1)).endswith(
        ": they are too narrow."
    )


def test_how_volatile_a_session_is_was_known_before_it():
    scale = np.where(np.arange(300) % 100 < 50, 1.0, 3.0)
    _, matrix = drawn(scale=scale, label_sessions=5)
    whole = volatility_regimes(matrix)
    assert whole["volatility"].null_count() >= 60 and {*whole["volatility"].drop_nulls()} == {
        "calm",
        "usual",
        "volatile",
    }
    # Twenty sessions and a label into the restless part it is called so.
    assert whole["volatility"][185] == "volatile" and whole["volatility"][240] == "calm"
    cut = matrix["session"].unique().sort()[199]
    ended = pl.col("label_end").dt.date() < cut
    other = matrix.with_columns(target=pl.when(ended).then(pl.col("target")).otherwise(99.0))
    begun = pl.col("session") <= cut
    assert volatility_regimes(other).filter(begun).equals(whole.filter(begun))


def test_bytes_give_the_same_back_and_others_are_refused():
    predictions, matrix = drawn(sessions=60)
    served = serve_intervals(predictions, matrix, asked("adaptive", 0.8), classes=(), label_sessions=1)
    assert ServedIntervals.load(served.save()) == served
    hostile = (b"[]", b"\xff", b"{}", served.save().replace(b'"adaptive"', b'"split"'), served.save().replace(b"0.8", b"7"),
               b'{"method": "split", "coverage": 0.9, "params": {}, "thresholds": [{"threshold": 1e999, "rows": 1, "aims_outside": 0.1}]}')  # fmt: skip
    for data in hostile:
        with pytest.raises(ValueError, match="`data` must be intervals in JSON"):
            ServedIntervals.load(data)


@pytest.mark.parametrize(
    ("method", "learner", "params"),
    [
        ("split", "ridge", None),
        ("adaptive", "voting", {"members": ["ridge", "mean"]}),
        ("quantile", "quantile", {"quantiles": [0.1, 0.9]}),
        ("split", "arima", None),
        ("adaptive", "garch", None),
    ],
    ids=["linear", "ensemble", "quantiles", "statistical", "volatility"],
)
def test_learners_of_all_kinds_get_intervals_that_hold(method, learner, params):
    """On a matrix that lacks rows, as quarantined bars leave it: single ones, and a month of one symbol."""
    target = build_target("realised_volatility" if learner == "garch" else "forward_return", horizon_bars=3)
    matrix = random_matrix(target, sessions=125, n_features=2)
    halted = (pl.col("symbol") == "S1") & pl.col("session").is_between(pl.date(2024, 2, 20), pl.date(2024, 3, 12))
    matrix = matrix.filter(~halted & (pl.int_range(pl.len()) % 53 != 17))
    if learner in ("arima", "garch"):
        params = {"horizon_bars": 3, "feature": "return_1", "minimum_bars": 30}
        # Noise as large as the returns are.
        matrix = matrix.with_columns(return_1=pl.col("feature_1") * 0.002).drop("feature_1")
    found = cross_validate(
        matrix,
        learner=choose_learner(learner, params),
        splitter=PurgedWalkForward(n_splits=3, test_sessions=20),
        target=target,
        weightings=(),
        seed=1,
    )
    shared = {"classes": (), "label_sessions": 3}
    chosen = asked(method, 0.8)
    with_intervals = add_intervals(found.predictions, matrix, chosen, **shared)
    assert with_intervals.columns[-2:] == ["lower", "upper"]
    known = with_intervals.filter(pl.col("lower").is_not_null())
    assert known.height >= 150 and (known["lower"] <= known["upper"]).all()
    measured = measure_coverage(with_intervals, matrix, nominal=0.8, **shared)
    assert measured.groups["coverage"][0] == pytest.approx(0.8, abs=0.2)
    assert coverage_png(measured.groups, measured.sessions, note="x").startswith(b"\x89PNG")


@pytest.mark.parametrize("method", sorted(INTERVALS))
def test_every_method_says_what_it_takes(method):
    assert INTERVALS[method].summary and asked(method).coverage == 0.9
    for wrong in ({"coverage": 0.2}, {"coverage": float("nan")}, {"params": {"stride": 1}}):
        with pytest.raises(ValueError, match="`"):
            choose_intervals(method, **wrong)
