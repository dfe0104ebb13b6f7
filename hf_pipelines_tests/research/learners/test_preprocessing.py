"""Steps of preprocessing: numbers that scikit-learn, scipy and pandas confirm, fitted inside the fold, per session alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.stats import rankdata, zscore
from scipy.stats.mstats import winsorize
from sklearn import feature_selection as sk_selection
from sklearn import linear_model as sk_linear
from sklearn import preprocessing as sk
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.utils.estimator_checks import check_estimator

from hf_pipelines.research.cross_validation import cross_validate, feature_importances, fit_final
from hf_pipelines.research.learners import (
    PREPROCESSING,
    Rows,
    Setup,
    Step,
    TrainingRows,
    build_pipeline,
    choose_learner,
    keyed,
    predict_frame,
    preprocessing_reports,
    report_preprocessing,
)
from hf_pipelines.research.learners.archive import pack, unpack
from hf_pipelines.research.learners.preprocessing import apply_step, fit_step
from hf_pipelines.research.learners.selectors import correlations
from hf_pipelines.research.matrix import feature_names
from hf_pipelines.research.params import complete_params
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines_tests.sample_matrix import plain_bars, random_matrix

RETURN = build_target("forward_return", horizon_bars=3)
# Of five features some stay and some go.
PARAMS: dict[str, dict[str, Any]] = {
    "k_best": {"k": 2},
    "mutual_information": {"k": 2},
    "recursive_elimination": {"k": 2},
    "pca": {"most": 3},
}
PER_TIME = {name for name, step in PREPROCESSING.items() if step.is_keyed}

each_step = pytest.mark.parametrize("name", sorted(PREPROCESSING))


def rows_of(n: int = 101, *, symbols: int = 1, seed: int = 0, task: str = "regression") -> TrainingRows:
    """Five features of different scales; the first two tell something, the last is nearly the second."""
    rng = np.random.default_rng(seed)
    bars = plain_bars({f"S{number}": [1.0] * n for number in range(symbols)}).sort("ts", "symbol")
    bars = bars.with_columns(label_start="ts", label_end="ts")
    X = rng.normal(size=(bars.height, 5))
    X[:, 4] = X[:, 1] + 0.1 * X[:, 4]
    y = X[:, 0] + 0.8 * X[:, 1] + rng.normal(size=len(X))
    y = np.digitize(y, [-0.7, 0.7]).astype(float) if task == "classification" else y
    X = (X * [1.0, 10.0, 0.01, 100.0, 1.0] + [0.0, 50.0, 0.0, 3.0, -1.0]).astype(np.float32)
    return TrainingRows(
        keyed(bars, "label_start", "label_end"), X, tuple("abcde"), y=y, weight=rng.uniform(0.5, 2.0, size=len(X))
    )


def with_X(rows: TrainingRows, X: np.ndarray) -> TrainingRows:
    return replace(rows.with_features(X, rows.names), y=rows.y, weight=rows.weight)


def fitted(name: str, rows: TrainingRows, task: str = "regression", **params: Any) -> Any:
    step = PREPROCESSING[name]
    given = complete_params(name, {**PARAMS.get(name, {}), **params}, step.params)
    transformer = step.build(given, Setup(task, seed=4))  # type: ignore[arg-type]
    fit_step(step, transformer, rows)
    return transformer


def applied(name: str, rows: TrainingRows, asked: Rows | None = None, task: str = "regression", **params: Any) -> Rows:
    return apply_step(PREPROCESSING[name], fitted(name, rows, task, **params), rows if asked is None else asked)


@pytest.mark.parametrize(
    ("name", "params", "theirs"),
    [
        ("standard_scaling", {}, sk.StandardScaler()),
        ("min_max_scaling", {"low": -1.0}, sk.MinMaxScaler((-1, 1))),
        ("min_max_scaling", {"clip": True}, sk.MinMaxScaler(clip=True)),
        ("robust_scaling", {}, sk.RobustScaler()),
        ("robust_scaling", {"low": 0.1, "high": 0.9}, sk.RobustScaler(quantile_range=(10, 90))),
        ("quantile_scaling", {"n_quantiles": 20}, sk.QuantileTransformer(n_quantiles=20)),
        (
            "quantile_scaling",
            {"distribution": "normal"},
            sk.QuantileTransformer(n_quantiles=101, output_distribution="normal"),
        ),
        ("imputation", {}, SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)),
        ("imputation", {"strategy": "mean", "indicator": False}, SimpleImputer(keep_empty_features=True)),
    ],
    ids=str,
)
def test_scaling_and_imputation_agree_with_scikit_learn_on_rows_of_before_and_after(name, params, theirs):
    rows, later = rows_of(), rows_of(seed=1)
    for each in (rows, later):
        each.X[::7, 1] = np.nan
    rows.X[::5, 3] = np.nan
    theirs.fit(rows.X.astype(np.float64))
    expected = theirs.transform(later.X.astype(np.float64))
    # A normal value of a share at its end is cut at another place.
    inside = np.abs(expected) < 5.1 if "distribution" in params else np.ones(expected.shape, dtype=bool)
    found = applied(name, rows, later, **params)
    np.testing.assert_allclose(found.X[inside], expected[inside], rtol=2e-5, atol=2e-5)
    if name == "imputation":
        assert found.names == ((*"abcde", "b_is_unknown", "d_is_unknown") if not params else tuple("abcde"))


def test_winsorising_agrees_with_scipy_and_bounds_later_rows_by_the_training_rows():
    rows = rows_of()
    # Of 101 values the shares are exactly at the sixth from each end.
    expected = np.column_stack([winsorize(column, limits=(0.05, 0.05)) for column in rows.X.T])
    np.testing.assert_array_equal(applied("winsorising", rows, low=0.05, high=0.95).X, expected)
    wild = rows.with_features(np.full((101, 5), np.nan), rows.names)
    wild.X[:, 0], wild.X[:, 1] = 1e9, -1e9
    found = applied("winsorising", rows, wild, low=0.05, high=0.95).X
    assert found[0, 0] == expected[:, 0].max() and found[0, 1] == expected[:, 1].min() and np.isnan(found[:, 2:]).all()


@pytest.mark.parametrize("symbols", [1, 2, 7])
def test_ranks_and_scores_over_the_symbols_of_a_time_agree_with_scipy(symbols):
    rows = rows_of(6, symbols=symbols)
    rows.X[:, 2] = np.round(rows.X[:, 2], 2)
    rows.X[::5, 3] = np.nan
    rank, score = applied("cross_sectional_rank", rows).X, applied("cross_sectional_score", rows).X
    bar = rows.keys["bar"].to_numpy()
    for each in range(6):
        of_time = rows.X[bar == each].astype(np.float64)
        n = (~np.isnan(of_time)).sum(axis=0)
        with np.errstate(invalid="ignore"):
            expected = (2 * rankdata(of_time, axis=0, nan_policy="omit") - n - 1) / n
        np.testing.assert_allclose(rank[bar == each], expected, atol=1e-6)
        known = np.where(np.isnan(of_time), np.nan, 0.0)
        with np.errstate(invalid="ignore"):
            expected = np.nan_to_num(zscore(of_time, axis=0, nan_policy="omit")) + known
        np.testing.assert_allclose(score[bar == each], expected, atol=2e-4)
    # A symbol alone is in the middle: nothing is known of the others.
    if symbols == 1:
        assert np.nanmax(np.abs(rank)) == np.nanmax(np.abs(score)) == 0.0


@pytest.mark.parametrize("name", sorted(PER_TIME))
def test_a_time_alone_has_the_same_bits_as_in_a_range_whatever_the_order_of_rows(name):
    rows = rows_of(40, symbols=9)
    rows.X[::11, 2] = np.nan
    whole = applied(name, rows).X
    for bar in (0, 17, 39):
        of_time = rows.keys["bar"].to_numpy() == bar
        np.testing.assert_array_equal(applied(name, rows, rows.take(of_time)).X, whole[of_time])
    order = np.argsort(rows.keys["symbol"].to_numpy(), kind="stable")
    np.testing.assert_array_equal(applied(name, rows, rows.take(order)).X, whole[order])
    # Rows of two horizons are the same symbols twice.
    two = pl.concat([rows.keys.with_columns(horizon=pl.lit(each)) for each in (1, 5)])
    twice = Rows(two, np.concatenate([rows.X, -rows.X]), rows.names)
    np.testing.assert_array_equal(applied(name, rows, twice).X[: len(rows)], whole)


@pytest.mark.parametrize("name", sorted(PREPROCESSING))
def test_a_row_is_transformed_to_the_same_bits_alone_and_among_others(name):
    rows, later = rows_of(), rows_of(seed=1, n=60)
    whole = applied(name, rows, later).X
    for at in (0, 7, 59):
        np.testing.assert_array_equal(applied(name, rows, later.take(np.array([at]))).X[0], whole[at])


def _kept(name: str, rows: TrainingRows, task: str = "regression", **params: Any) -> list[int]:
    return fitted(name, rows, task, **params).kept_.tolist()


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_selectors_keep_what_scikit_learn_keeps(task, k):
    rows = rows_of(task=task, seed=3)
    X, y = rows.X.astype(np.float64), rows.y
    is_class = task == "classification"
    score = sk_selection.f_classif if is_class else sk_selection.f_regression
    best = sk_selection.SelectKBest(score, k=k).fit(X, y)
    assert _kept("k_best", rows, task, k=k) == best.get_support(indices=True).tolist()
    linear = sk_linear.LogisticRegression(max_iter=1_000) if is_class else sk_linear.Ridge()
    scaled = sk.StandardScaler().fit(X, sample_weight=rows.weight).transform(X)
    theirs = sk_selection.RFE(linear, n_features_to_select=k, step=0.1).fit(scaled, y, sample_weight=rows.weight)
    assert _kept("recursive_elimination", rows, task, k=k) == np.flatnonzero(theirs.support_).tolist()


def test_the_lasso_keeps_what_scikit_learns_lasso_with_the_same_penalty_does_not_leave_out():
    rows = rows_of(seed=3)
    even = replace(rows, weight=np.ones(len(rows)))
    X, y = sk.scale(rows.X.astype(np.float64)), sk.scale(rows.y)
    largest = np.abs(X.T @ y).max() / len(y)
    for strength in (0.02, 0.1, 0.3, 0.6, 0.95):
        theirs = sk_selection.SelectFromModel(sk_linear.Lasso(strength * largest), threshold=1e-9).fit(X, y)
        assert _kept("lasso_selection", even, strength=strength) == theirs.get_support(indices=True).tolist()
    # A row of weight 2 is two rows, and with the largest penalty the best feature stays.
    doubled = rows.take(np.repeat(np.arange(len(rows)), 2))
    assert _kept("lasso_selection", replace(doubled, weight=np.ones(len(doubled)))) == _kept("lasso_selection", even)
    assert _kept("lasso_selection", even, strength=1.0) == [0]
    assert {0, 1} & {*_kept("lasso_selection", rows_of(task="classification"), "classification", strength=0.5)}


def test_mutual_information_finds_a_curve_that_a_line_does_not_and_agrees_with_scikit_learn():
    rows = rows_of(400)
    rows.X[:, 3] = np.random.default_rng(6).permutation(np.linspace(-100.0, 100.0, 400))
    curved = replace(rows, y=np.abs(rows.X[:, 3].astype(np.float64)))
    assert _kept("mutual_information", curved, k=1) == [3] and _kept("k_best", curved, k=1) != [3]
    theirs = [sk_selection.mutual_info_regression(curved.X[:, [at]], curved.y, random_state=4)[0] for at in range(5)]
    assert _kept("mutual_information", curved, k=2) == sorted(np.argsort(theirs)[-2:].tolist())
    classes = replace(curved, y=(curved.y > 50.0).astype(float))
    assert _kept("mutual_information", classes, "classification", k=1) == [3]
    # Evenly spaced rows are enough.
    assert _kept("mutual_information", curved, k=1, most_rows=200) == [3]


def test_correlations_agree_with_pandas_and_of_correlated_columns_the_first_stays():
    rows = rows_of()
    rows.X[::4, 1] = np.nan
    rows.X[::9, 4] = np.nan
    X = rows.X.astype(np.float64)
    X[:, 2] = 1e6
    np.testing.assert_allclose(correlations(X), pd.DataFrame(X).corr().to_numpy(), rtol=1e-9, atol=1e-12)
    step = PREPROCESSING["decorrelation"]
    kept = fitted("decorrelation", rows)
    assert kept.kept_.tolist() == [0, 1, 2, 3] and _kept("decorrelation", rows, most=0.999) == [0, 1, 2, 3, 4]
    assert step.report is not None and step.report(kept, rows.names) == {"kept": [*"abcd"], "dropped": ["e"]}
    turned = with_X(rows, rows.X[:, ::-1])
    assert _kept("decorrelation", turned) == [0, 1, 2, 4]


@pytest.mark.parametrize("standardise", [True, False])
def test_components_agree_with_scikit_learn_and_name_their_features(standardise):
    rows, later = rows_of(), rows_of(seed=1)
    scaler = sk.StandardScaler(with_std=standardise).fit(rows.X.astype(np.float64))
    theirs = PCA(0.95, svd_solver="covariance_eigh").fit(scaler.transform(rows.X.astype(np.float64)))
    expected = theirs.transform(scaler.transform(later.X.astype(np.float64)))
    found = applied("pca", rows, later, most=100, standardise=standardise)
    np.testing.assert_allclose(found.X, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    ours = fitted("pca", rows, most=100, standardise=standardise)
    np.testing.assert_allclose(ours.explained_, theirs.explained_variance_ratio_, rtol=1e-5)
    # The second and the last feature are nearly the same one.
    if standardise:
        assert found.names[0].startswith(("component_1(b, e, ", "component_1(e, b, "))
        assert len(found.names) == found.X.shape[1] == 4
    report = PREPROCESSING["pca"].report
    assert report is not None and sum(report(ours, rows.names)["explained"].values()) >= 0.95


def test_components_of_fewer_rows_than_columns_and_of_constants_are_known_numbers():
    rows = rows_of(3)
    assert applied("pca", rows, variance_share=1.0).X.shape == (3, 2)
    constant = with_X(rows, np.full((3, 5), 0.1, dtype=np.float32))
    assert applied("pca", constant).X.tolist() == [[0.0]] * 3


PLAIN = [name for name, step in PREPROCESSING.items() if not step.is_keyed]


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_a_step_that_is_not_keyed_is_a_scikit_learn_transformer(name):
    step = PREPROCESSING[name]
    transformer = step.build(complete_params(name, PARAMS.get(name, {}), step.params), Setup("regression", seed=1))
    # scikit-learn's own are checked by scikit-learn.
    if type(transformer).__module__.startswith("hf_pipelines"):
        failed = check_estimator(transformer, on_fail=None, on_skip=None)
        assert [(each["check_name"], each["exception"]) for each in failed if each["status"] == "failed"] == []


def wild(rows: TrainingRows) -> TrainingRows:
    """The same rows and as many of quite other values: every state would be another one."""
    rng = np.random.default_rng(8)
    n = 3 * len(rows)
    X = np.tile(rows.X, (3, 1)) * 50.0 + 1e3
    X[:, [0, 1, 4]] = 1e3 * rng.normal(size=(n, 3)) ** 3
    y = X[:, 2] * 7.0 + X[:, 3]
    more = rows.take(np.tile(np.arange(len(rows)), 4))
    return replace(with_X(more, np.concatenate([rows.X, X])), y=np.concatenate([rows.y, y]))


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_the_planted_rows_would_change_the_state(name):
    rows = rows_of(seed=3)
    save = PREPROCESSING[name].format.save
    plain, changed = rows, wild(rows)
    if name == "imputation":
        plain.X[3, 2] = changed.X[3, 2] = np.nan
    assert save(fitted(name, plain)) != save(fitted(name, changed))


@each_step
def test_test_rows_change_nothing_of_what_the_fold_was_fitted_on(name):
    matrix = random_matrix(RETURN)
    names = feature_names(matrix)
    choice = choose_learner("ridge", preprocessing=[{"type": name, "params": PARAMS.get(name, {})}])
    splitter = PurgedWalkForward(n_splits=1, test_sessions=12, embargo_sessions=1)
    ((_, test),) = splitter.split(matrix)
    # Every second session of the test block holds wild values, in features and labels; the others are asked for.
    sessions = matrix["session"][test].unique().sort()
    planted = pl.col("session").is_in(sessions[::2].implode())
    replaced = matrix.with_columns(
        pl.when(planted).then(pl.col(each) * 1e4 + 1e5).otherwise(pl.col(each)).cast(pl.Float32).alias(each)
        for each in names
    ).with_columns(y=pl.when(planted).then(9.0).otherwise("y"))
    assert not replaced.equals(matrix)

    def predicted(given: pl.DataFrame) -> pl.DataFrame:
        found = cross_validate(given, learner=choice, splitter=splitter, target=RETURN, weightings=(), seed=1)
        return found.predictions.filter(~planted)

    before = predicted(matrix)
    assert before.height == 24 and predicted(replaced).equals(before)


@each_step
def test_a_stored_state_of_another_shape_or_kind_is_refused(name):
    step = PREPROCESSING[name]
    data = step.format.save(fitted(name, rows_of()))
    unfitted = step.build(complete_params(name, PARAMS.get(name, {}), step.params), Setup("regression"))
    assert step.format.save(step.format.load(data, unfitted)) == data
    with pytest.raises(ValueError, match="`data` must be"):
        step.format.load(b"something else", unfitted)
    if step.format.extension != "zip" or step.is_keyed:
        return
    (first, *others) = sorted(_names(data))
    files = unpack(data, [first, *others])
    objects = np.lib.format.magic(1, 0) + _header("|O", (2,)) + b"\x80\x04N."
    too_large = np.lib.format.magic(1, 0) + _header("<f8", (10**12,)) + b"12345678"
    for planted in (b"", files[first][:-1], files[first] + b"1", b"\x93NUMPY\x09\x00", objects, too_large):
        with pytest.raises(ValueError, match=r"`data` must hold `\w+` as an array of numbers"):
            step.format.load(pack({**files, first: planted}), unfitted)
    with pytest.raises(ValueError, match="`data` must hold the files"):
        step.format.load(pack({each: files[each] for each in others}), unfitted)


def _names(data: bytes) -> list[str]:
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.namelist()


def _header(kind: str, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return len(text).to_bytes(2, "little") + text.encode()


def test_imputation_lets_any_learner_take_unknown_features_and_what_stands_before_it_decides():
    def takes(learner: str, *steps: str) -> bool:
        return choose_learner(learner, preprocessing=[*steps]).handles_missing

    assert not takes("ridge") and takes("ridge", "imputation") and takes("ridge", "cross_sectional_rank", "imputation")
    assert not takes("ridge", "pca", "imputation") and not takes("ridge", "standard_scaling")
    assert (
        takes("xgboost", "winsorising") and not takes("xgboost", "k_best") and takes("xgboost", "imputation", "k_best")
    )
    matrix = random_matrix(RETURN)
    holey = matrix.with_columns(
        feature_0=pl.when(pl.int_range(pl.len()) % 3 == 0).then(float("nan")).otherwise("feature_0").cast(pl.Float32)
    )
    choice = choose_learner("ridge", preprocessing=["imputation", "standard_scaling"])
    pipeline = fit_final(holey, learner=choice, target=RETURN, seed=1)
    ask = {"features": feature_names(holey), "classes": ()}
    assert predict_frame(pipeline, holey, missing="keep", **ask)["prediction"].is_finite().all()
    assert "feature_0_is_unknown" in feature_importances(pipeline, feature_names(holey))


def test_steps_that_change_the_columns_hand_their_names_on_to_importances():
    matrix = random_matrix(RETURN, sessions=250, skill=0.8)
    names = feature_names(matrix)
    steps = ["imputation", {"type": "k_best", "params": {"k": 3}}, "standard_scaling"]
    pipeline = fit_final(matrix, learner=choose_learner("ridge", preprocessing=steps), target=RETURN, seed=1)
    told = feature_importances(pipeline, names)
    assert len(told) == 3 and {*told} <= {*names} and next(iter(told)) == "feature_0"
    dropped = [each for each in names if each not in told]
    assert report_preprocessing(pipeline, names) == {
        "preprocessing.0": {"type": "imputation", "indicated": []},
        "preprocessing.1": {"type": "k_best", "kept": sorted(told), "dropped": dropped},
    }
    again = build_pipeline(pipeline.choice, Setup("regression")).load(pipeline.save())
    assert feature_importances(again, names) == told
    through = fit_final(matrix, learner=choose_learner("ridge", preprocessing=["pca"]), target=RETURN, seed=1)
    assert all(each.startswith("component_") for each in feature_importances(through, names))
    # Of members, with what a step of the whole left of the columns.
    members = ["ridge", {"type": "ridge", "preprocessing": [{"type": "k_best", "params": {"k": 2}}]}]
    outer = [{"type": "k_best", "params": {"k": 3}}]
    vote = choose_learner("voting", {"members": members}, preprocessing=outer)
    pipeline = fit_final(matrix, learner=vote, target=RETURN, seed=1)
    report = report_preprocessing(pipeline, names)
    assert [*report] == ["preprocessing.0", "members.1.preprocessing.0"]
    inner = report["members.1.preprocessing.0"]
    assert sorted(inner["kept"] + inner["dropped"]) == report["preprocessing.0"]["kept"] and len(inner["kept"]) == 2
    assert {*feature_importances(pipeline, names)} == {*report["preprocessing.0"]["kept"]}
    assert preprocessing_reports(vote)[0] is report_preprocessing
    assert preprocessing_reports(choose_learner("ridge", preprocessing=["standard_scaling"])) == ()


def test_every_step_stands_under_its_name_and_says_what_its_parameters_mean():
    for name, step in PREPROCESSING.items():
        assert isinstance(step, Step) and step.name == name and all(each.meaning for each in step.params.values())
        assert step.keeps_columns == (step.report is None)


@each_step
def test_a_step_reads_the_labels_as_it_says(name):
    step, rows = PREPROCESSING[name], rows_of(seed=3)
    # Labels of two other features, that a selector would keep.
    other = replace(rows, y=rows.X[:, 2].astype(np.float64) * 100.0 + rows.X[:, 3] * 0.01)
    saved = {step.format.save(fitted(name, each)) for each in (rows, other)}
    assert (len(saved) == 2) == step.reads_labels
