"""Importances of folds against models whose features are known, and how even they are."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from hf_pipelines.research.explanations.evenness import evenness, evenness_in_words, weekly
from hf_pipelines.research.explanations.importance import (
    CLUSTER,
    CONTRIBUTION,
    GAIN,
    PERMUTATION,
    Importance,
    TestedFold,
    _Units,
    cluster_features,
    examine_fold,
)
from hf_pipelines.research.explanations.plots import importance_png
from hf_pipelines.research.fold_fits import Fold
from hf_pipelines.research.learners import Setup, TrainingRows, build_pipeline, choose_learner, keyed
from hf_pipelines.research.targets import build_target

FEATURES = ("up", "twin", "down", "noise", "market")
N_SESSIONS, N_SYMBOLS = 120, 8


def matrix_of(seed: int = 0, *, symbols: int = N_SYMBOLS) -> pl.DataFrame:
    """Returns go with `up` and against `down`; `twin` is nearly `up`; all members have the same `market`."""
    random = np.random.default_rng(seed)
    n = N_SESSIONS * symbols
    session = np.repeat(np.arange(N_SESSIONS), symbols)
    X = random.normal(size=(n, 5))
    X[:, 1] = X[:, 0] + 0.05 * X[:, 1]
    X[:, 4] = random.normal(size=N_SESSIONS)[session]
    y = X[:, 0] - 0.5 * X[:, 2] + 2.0 * X[:, 4] + 0.5 * random.normal(size=n)
    begin = datetime(2020, 1, 1, 21, tzinfo=UTC)
    ts = pl.Series([begin + timedelta(days=int(day)) for day in session]).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(
        {
            "symbol": [f"S{at % symbols}" for at in range(n)],
            "session": [date(2020, 1, 1) + timedelta(days=int(day)) for day in session],
            "ts": ts,
            "label_start": ts,
            "label_end": ts + timedelta(hours=1),
            "target": y,
            "y": y,
            "weight": np.ones(n),
            **{name: X[:, at].astype(np.float32) for at, name in enumerate(FEATURES)},
        }
    )


def fold_of(learner: str = "ridge", *, matrix: pl.DataFrame | None = None, **parts: object) -> TestedFold:
    matrix = matrix_of() if matrix is None else matrix
    half = matrix.height // 2
    train, test = np.arange(half), np.arange(half, matrix.height)
    pipeline = build_pipeline(choose_learner(learner, **parts), Setup("regression"))  # type: ignore[arg-type]
    rows = TrainingRows(
        keyed(matrix, "label_start", "label_end"),
        matrix.select(FEATURES).to_numpy().astype(np.float32),
        FEATURES,
        y=matrix["y"].to_numpy(),
        weight=np.ones(matrix.height),
    )
    pipeline.fit(rows.take(train), rows.take(test))
    target = build_target("forward_return", horizon_bars=1)
    return TestedFold(pipeline, matrix, FEATURES, Fold(0, train, test), target, "drop", None)


def examined(fold: TestedFold, **asked: object) -> dict[str, dict[str, dict[str, object]]]:
    given = Importance(**{"score": "mse", "repeats": 4, "rows": 200, **asked})  # type: ignore[arg-type]
    clusters = cluster_features(fold.matrix, FEATURES, correlation=given.correlation)
    found = examine_fold(fold, asked=given, clusters=clusters, seed=0)
    return {
        kind: {row["name"]: row for row in found.filter(kind=kind).to_dicts()}
        for kind in (GAIN, PERMUTATION, CLUSTER, CONTRIBUTION)
    }


def test_importances_of_a_line_are_those_of_its_slopes():
    fold = fold_of()
    found = examined(fold)
    lost = {name: row["value"] for name, row in found[PERMUTATION].items()}
    # A feature of deviation 1 and slope b that is permuted adds 2 b^2 to the squared error.
    line = fold.pipeline.estimator[-1].coef_
    for at, name in enumerate(FEATURES):
        values = fold.matrix[name].to_numpy()[fold.fold.test]
        slope = line[at] / fold.pipeline.estimator[0].scale_[at]
        expected = 2.0 * (slope * values.std()) ** 2
        if name == "down":
            assert lost[name] == pytest.approx(expected, rel=0.25)
        if name == "noise":
            assert abs(lost[name]) < 0.02
    assert lost["market"] > lost["up"] + lost["twin"] > 0
    assert sum(row["value"] for row in found[GAIN].values()) == pytest.approx(1.0)
    ways = {name: row["direction"] for name, row in found[CONTRIBUTION].items()}
    assert ways["down"] == pytest.approx(-1.0) and ways["market"] == pytest.approx(1.0)
    again = examined(fold_of())
    assert again[PERMUTATION] == found[PERMUTATION]


def test_twins_are_worth_little_alone_and_much_together():
    fold = fold_of("random_forest", params={"n_estimators": 30, "max_features": 0.5})
    found = examined(fold)
    (cluster,) = found[CLUSTER].values()
    assert cluster["features"] == "up,twin" and cluster["name"] == "up and 1 like it"
    lost = {name: row["value"] for name, row in found[PERMUTATION].items()}
    assert cluster["value"] > 1.5 * max(lost["up"], lost["twin"]) > 0
    # Shap's trees, of all that the YAML can name.
    assert set(found[CONTRIBUTION]) == set(FEATURES)


def test_a_score_within_sessions_does_not_see_what_all_members_share():
    lost = examined(fold_of(), score="information_coefficient")[PERMUTATION]
    # Of a line, which adds the same to all members.
    assert abs(lost["market"]["value"]) < 1e-9
    assert lost["down"]["value"] > 0.05


def test_values_are_permuted_within_sessions_or_by_whole_ones():
    matrix = matrix_of()
    units = _Units.of(matrix)
    assert [units.varies(matrix[name].to_numpy()) for name in FEATURES] == [True, True, True, True, False]
    random = np.random.default_rng(0)
    within = units.donors(random, is_within=True)
    assert (matrix["ts"][within] == matrix["ts"]).all() and sorted(within.tolist()) == list(range(matrix.height))
    assert (matrix["symbol"][within] != matrix["symbol"]).sum() > matrix.height / 2
    across = units.donors(random, is_within=False)
    assert (matrix["symbol"][across] == matrix["symbol"]).all()
    # All members of a session get the values of the same other one.
    pairs = pl.DataFrame({"own": matrix["ts"], "other": matrix["ts"][across]}).unique()
    assert pairs.height == N_SESSIONS and pairs["other"].n_unique() == N_SESSIONS
    # One member alone, and one that was none in the other session.
    one = matrix_of(symbols=1)
    assert not _Units.of(one).varies(one["up"].to_numpy())
    uneven = matrix.filter(~((pl.col("symbol") == "S3") & (pl.col("ts").rank("dense") % 2 == 0)))
    donors = _Units.of(uneven).donors(random, is_within=False)
    assert pl.DataFrame({"own": uneven["ts"], "other": uneven["ts"][donors]}).unique().height == N_SESSIONS


def test_rows_of_several_horizons_get_the_values_of_one_row():
    matrix = matrix_of().filter(pl.col("symbol") < "S3")
    twice = pl.concat([matrix.with_columns(horizon=pl.lit(each)) for each in (1, 5)]).sort("ts", "symbol", "horizon")
    donors = _Units.of(twice).donors(np.random.default_rng(0), is_within=True)
    given = twice.with_columns(given=twice["up"][donors])
    assert given.group_by("ts", "symbol").agg(pl.col("given").n_unique())["given"].max() == 1


def test_importances_through_components_are_named_by_features():
    found = examined(fold_of(preprocessing=["standard_scaling", {"type": "pca", "params": {"most": 3}}]))
    assert set(found[GAIN]) == set(FEATURES) == set(found[CONTRIBUTION])
    assert sum(row["value"] for row in found[GAIN].values()) == pytest.approx(1.0)


def test_clusters_leave_constants_and_unknown_values_alone():
    frame = matrix_of().with_columns(
        constant=pl.lit(1.0), unknown=pl.lit(float("nan")), opposite=-pl.col("down") + 0.01 * pl.col("noise")
    )
    names = [*FEATURES, "constant", "unknown", "opposite"]
    found = cluster_features(frame, names, correlation=0.7)
    assert ("up", "twin") in found and ("down", "opposite") in found
    assert ("constant",) in found and ("unknown",) in found
    assert cluster_features(frame, ["up"], correlation=0.7) == [("up",)]


def test_evenness_counts_signs_and_ranks():
    rows = pl.DataFrame(
        {
            "fold": [0, 0, 0, 1, 1, 1],
            "name": ["a", "b", "c"] * 2,
            "value": [3.0, 2.0, 1.0, 6.0, 1.0, 2.0],
            "direction": [0.9, 0.5, 0.05, 0.8, -0.5, 0.9],
        }
    )
    found = evenness(rows)
    # Ranks 3 2 1 and 3 1 2.
    assert found.rank_correlation == pytest.approx(0.5) and found.n_changed == 1 and found.n_compared == 2
    assert found.table["name"].to_list() == ["a", "b", "c"]
    assert found.table.filter("changes_sign")["name"].to_list() == ["b"]
    words = evenness_in_words(found)
    assert "rank correlation of two folds 0.50 on average, over 2 folds." in words
    assert "1 of 3 features are up in some and down in others: b." in words
    weeks = evenness(weekly({"2020-01-05": {"a": 0.7, "b": 0.3}, "2020-01-12": {"a": 0.6, "b": 0.4}}), by="week")
    assert weeks.rank_correlation == pytest.approx(1.0)
    assert evenness_in_words(evenness(rows.filter(fold=0))) == "Fewer than two folds to compare."


def test_the_picture_of_importances_is_the_same_for_the_same_values():
    rows = pl.concat(
        [
            pl.DataFrame(
                {
                    "fold": [at] * 30,
                    "name": [f"f{n:02d}" for n in range(30)],
                    "value": [n * (1.0 + at) for n in range(30)],
                    "direction": [float((-1) ** (n * at)) for n in range(30)],
                }
            )
            for at in range(3)
        ]
    )
    drawn = [
        importance_png(rows, evenness(rows), by="fold", title="gain", note="words", ways=("up", "down"))
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1] and drawn[0].startswith(b"\x89PNG")
