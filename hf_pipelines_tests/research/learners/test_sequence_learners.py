"""Networks of windows: what a window holds, what they find, a loop by hand, and what ends a fit early."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from hf_pipelines.research.cross_validation import cross_validate, fit_final
from hf_pipelines.research.learners import (
    LEARNERS,
    Rows,
    Setup,
    TrainingRows,
    build_pipeline,
    choose_learner,
    keyed,
    predict_frame,
)
from hf_pipelines.research.learners.archive import pack, unpack
from hf_pipelines.research.learners.sequence_estimator import SequenceNetwork
from hf_pipelines.research.learners.sequence_modules import Shape, build_network
from hf_pipelines.research.learners.sequence_training import window_view
from hf_pipelines.research.learners.sequence_windows import Scaling, cut_windows, labels_by_window
from hf_pipelines.research.learners.tensor_bytes import load_tensors, save_tensors
from hf_pipelines.research.matrix import feature_names
from hf_pipelines.research.splitters import PurgedKFold, PurgedWalkForward
from hf_pipelines.research.targets import build_target
from hf_pipelines_tests.sample_matrix import plain_bars, random_matrix

RETURN = build_target("forward_return", horizon_bars=1)
DIRECTION = build_target("direction", horizon_bars=1)
SEQUENCES = ["gru", "lstm", "tcn", "transformer"]
SMALL: dict[str, Any] = {"window": 4, "hidden": 4, "epochs": 2, "batch_size": 64}
NO_SCALE = Scaling(np.zeros(1), np.ones(1))


def panel(symbols: dict[str, list[int]], *, horizons: tuple[int, ...] = ()) -> Rows:
    """Rows of symbols at the numbers of bars given; the one feature says which: 100 times the symbol's place plus the bar."""
    rows = [
        (symbol, bar, 100.0 * at + bar, horizon)
        for at, (symbol, bars) in enumerate(symbols.items())
        for bar in bars
        for horizon in horizons or (0,)
    ]
    frame = pl.DataFrame(rows, schema=["symbol", "bar", "x", "horizon"], orient="row").sort("bar", "symbol", "horizon")
    X = frame["x"].to_numpy()[:, None].astype(np.float32)
    return Rows(frame.drop("x") if horizons else frame.drop("x", "horizon"), X, ("x",))


def test_windows_end_at_their_row_and_reach_over_no_gap_and_no_other_symbol():
    # B is halted in bars 4 and 5, C is listed at bar 3.
    rows = panel({"A": [0, 1, 2, 3, 4, 5], "B": [0, 1, 2, 3, 6, 7, 8], "C": [3, 4, 5, 6]})
    windows = cut_windows(rows, length=3, scaling=NO_SCALE)
    whole = rows.keys.filter(pl.Series(windows.is_whole))
    assert {s: whole.filter(symbol=s)["bar"].to_list() for s in "ABC"} == {
        "A": [2, 3, 4, 5],
        "B": [2, 3, 8],
        "C": [5, 6],
    }
    view = window_view(torch.from_numpy(windows.bars), windows.length)
    for row in np.flatnonzero(windows.is_whole):
        own = float(rows.X[row, 0])
        assert view[windows.end[row] - 2, :, 0].tolist() == [own - 2, own - 1, own]
    # Nothing is copied for the windows.
    assert view.data_ptr() == windows.bars.ctypes.data and windows.bars.size == len(rows)
    assert cut_windows(rows, length=1, scaling=NO_SCALE).is_whole.all()
    assert not cut_windows(rows, length=20, scaling=NO_SCALE).is_whole.any()


def test_rows_of_several_horizons_share_a_window_and_have_a_column_each():
    rows = panel({"A": [0, 1, 2], "B": [0, 1, 2]}, horizons=(1, 5))
    windows = cut_windows(rows, length=2, scaling=NO_SCALE)
    assert windows.bars[:, 0].tolist() == [0, 1, 2, 100, 101, 102]
    y, weight = np.arange(len(rows), dtype=float), np.ones(len(rows))
    # Of A at bar 2 the later label is not trained on.
    weight[-3] = 0.0
    end, labels, weights = labels_by_window(windows, rows, y, weight, horizons=(1, 5))
    assert end.tolist() == [1, 2, 4, 5]
    # In the rows' order: bar 1 of A, bar 1 of B, bar 2 of A, bar 2 of B, twice each.
    assert labels.tolist() == [[4, 5], [8, 0], [6, 7], [10, 11]]
    assert weights.tolist() == [[1, 1], [1, 0], [1, 1], [1, 1]]


def rows_of(matrix: pl.DataFrame, **changed: Any) -> TrainingRows:
    names = feature_names(matrix)
    X = np.ascontiguousarray(matrix.select(names).to_numpy())
    others = [each for each in ("horizon",) if each in matrix.columns]
    keys = keyed(matrix, "label_start", "label_end")
    assert set(others) <= set(keys.columns)
    return replace(
        TrainingRows(keys, X, tuple(names), y=matrix["y"].to_numpy(), weight=matrix["weight"].to_numpy()), **changed
    )


def cut(rows: TrainingRows, choice: Any, share: float = 0.7) -> tuple[TrainingRows, TrainingRows]:
    bar = rows.keys["bar"].to_numpy()
    first = int(bar.max() * share)
    return rows.take(bar < first - 1), rows.take_with_history(np.flatnonzero(bar >= first), bars=choice.history_bars)


def fitted(name: str, rows: TrainingRows, task: str = "regression", seed: int = 3, **params: Any) -> Any:
    choice = choose_learner(name, {**SMALL, **params})
    return build_pipeline(choice, Setup(task, seed=seed)).fit(*cut(rows, choice))


def planted(*, symbols: int = 6, sessions: int = 160, seed: int = 0) -> pl.DataFrame:
    """A matrix whose label is the sum of a feature one and two bars ago less that of three and four bars ago, and noise."""
    matrix = random_matrix(RETURN, symbols=symbols, sessions=sessions, n_features=2, seed=seed)
    rng = np.random.default_rng(seed)
    x = pl.col("feature_0").cast(pl.Float64)
    ago = [x.shift(n).over("symbol").fill_null(0.0) for n in range(1, 5)]
    matrix = matrix.with_columns(feature_0=pl.Series(rng.normal(size=matrix.height).astype(np.float32)))
    signal = ago[0] + ago[1] - ago[2] - ago[3] + pl.Series(rng.normal(size=matrix.height))
    return matrix.with_columns(y=signal * 0.01).with_columns(target="y")


@pytest.mark.parametrize("name", [*SEQUENCES, "mlp", "ridge"])
def test_a_signal_of_five_bars_is_found_by_what_reads_sequences_and_by_nothing_else(name):
    params = {} if name == "ridge" else {"hidden": 16, "epochs": 15, "batch_size": 64, "learning_rate": 0.01}
    if name in SEQUENCES:
        params |= {"window": 5, "layers": 2 if name in ("tcn", "transformer") else 1}
    result = cross_validate(
        planted(),
        learner=choose_learner(name, params),
        splitter=PurgedWalkForward(n_splits=1, test_sessions=40),
        target=RETURN,
        weightings=(),
        seed=1,
    )
    # 0.8 of the variance is the signal's.
    assert result.metrics["r2"] > 0.4 if name in SEQUENCES else result.metrics["r2"] < 0.05


def test_losses_and_predictions_are_those_of_a_loop_by_hand():
    rows = rows_of(random_matrix(RETURN, n_features=3))
    rng = np.random.default_rng(1)
    rows = replace(rows, weight=rng.uniform(0.5, 2.0, size=len(rows)))
    settings = {"dropout": 0.0, "epochs": 3, "schedule": "constant", "weight_decay": 0.1, "clip_norm": 0.5}
    choice = choose_learner("gru", {**SMALL, **settings})
    train, validation = cut(rows, choice)
    pipeline = build_pipeline(choice, Setup("regression", seed=3)).fit(train, validation)
    X64, w = train.X.astype(np.float64), train.weight
    mean, deviation = np.average(X64, axis=0, weights=w), np.sqrt(np.cov(X64.T, aweights=w, ddof=0).diagonal())
    middle, size = np.average(train.y, weights=w), np.sqrt(np.cov(train.y, aweights=w, ddof=0))

    def by_hand(given: TrainingRows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        frame = given.frame.with_columns(y=given.y, w=given.weight)
        found = []
        for _, of in frame.sort("symbol", "bar").group_by("symbol", maintain_order=True):
            values = (of.select(given.names).to_numpy().astype(np.float64) - mean) / deviation
            for at in range(3, of.height):
                if of["w"][at] > 0:
                    found.append((values[at - 3 : at + 1], (of["y"][at] - middle) / size, of["w"][at]))
        X, y, weights = (torch.tensor(np.array(each), dtype=torch.float32) for each in zip(*found, strict=True))
        return X, y, weights * (len(weights) / weights.sum())

    X, y, weights = by_hand(train)
    judged = by_hand(validation)
    network = build_network(Shape("gru", 3, 1, choice.params), seed=3)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.1)
    order = torch.Generator().manual_seed(3)
    losses: dict[str, list[float]] = {"training_losses": [], "validation_losses": []}
    for _ in range(3):
        total = 0.0
        for batch in torch.randperm(len(X), generator=order).split(64):
            optimizer.zero_grad()
            loss = (weights[batch] * (network(X[batch])[:, 0] - y[batch]) ** 2).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
            optimizer.step()
            total += float(loss.detach()) * len(batch)
        losses["training_losses"].append(total / len(X))
        with torch.no_grad():
            X_later, y_later, w_later = judged
            losses["validation_losses"].append(float((w_later * (network(X_later)[:, 0] - y_later) ** 2).mean()))
    told = pipeline.report()
    for name, values in losses.items():
        np.testing.assert_allclose(told[name], values, atol=1e-6)
    assert told["best_epoch"] == int(np.argmin(losses["validation_losses"])) + 1
    assert told["windows"] == len(X) and told["too_short"] == 3 * 4 and told["threads"] == 1


@pytest.mark.parametrize("name", [*SEQUENCES, "mlp"])
def test_a_row_alone_is_predicted_to_the_bits_of_a_range_and_by_its_window_alone(name):
    matrix = random_matrix(RETURN, symbols=5, sessions=60)
    pipeline = fitted(name, rows_of(matrix), layers=2, window=4)
    ask = {"features": feature_names(matrix), "classes": ()}
    whole = predict_frame(pipeline, matrix, **ask)
    numbers = keyed(matrix)["bar"].to_numpy()
    assert whole["prediction"].is_nan().to_numpy().tolist() == (numbers < 3).tolist()
    for bar in (3, 20, 58):
        shown = matrix.filter(pl.Series((numbers <= bar) & (numbers > bar - 4)))
        alone = predict_frame(pipeline, shown, wanted=(shown["ts"] == shown["ts"].max()).to_numpy(), **ask)
        assert alone["prediction"].to_list() == whole.filter(pl.Series(numbers == bar))["prediction"].to_list()
    # What lies before the window counts nothing, what lies in it does.
    for back, is_same in ((4, True), (3, False)):
        X = matrix.with_columns(
            feature_0=pl.when(pl.Series(numbers == 20 - back)).then(9.0).otherwise(pl.col("feature_0"))
        )
        again = predict_frame(pipeline, X.with_columns(pl.col("feature_0").cast(pl.Float32)), **ask)
        at = pl.Series(numbers == 20)
        assert (again.filter(at)["prediction"].to_list() == whole.filter(at)["prediction"].to_list()) == is_same


def test_a_row_of_weight_0_is_history_and_teaches_nothing():
    matrix = random_matrix(RETURN, symbols=3, sessions=60)
    rows = rows_of(matrix)
    silent = (rows.keys["bar"].to_numpy() == 20) & (rows.keys["symbol"] == "S1").to_numpy()
    quiet = replace(rows, weight=np.where(silent, 0.0, rows.weight))
    wild = replace(quiet, y=np.where(silent, 1e6, rows.y))
    one, other = fitted("gru", quiet), fitted("gru", wild)
    assert one.save() == other.save()
    # Dropped, it is a gap: the three windows over it are gone too.
    holey = rows.take(~silent)
    assert one.report()["windows"] == fitted("gru", rows).report()["windows"] - 1
    assert fitted("gru", holey).report()["windows"] == one.report()["windows"] - 3
    # Scaled by the rows with a weight.
    loud = replace(quiet, X=np.where(silent[:, None], 1e6, rows.X).astype(np.float32))
    assert np.array_equal(fitted("gru", loud).estimator.scaling.mean, one.estimator.scaling.mean)


def test_an_unknown_feature_is_a_gap_where_rows_are_dropped_and_a_value_where_it_is_filled():
    matrix = random_matrix(RETURN, symbols=3, sessions=60)
    is_hole = (pl.col("symbol") == "S1") & (pl.col("ts") == matrix["ts"].unique().sort()[50])
    holey = matrix.with_columns(feature_1=pl.when(is_hole).then(float("nan")).otherwise("feature_1").cast(pl.Float32))
    ask = {"features": feature_names(matrix), "classes": ()}
    pipeline = fitted("gru", rows_of(matrix))
    with pytest.raises(ValueError, match=r"`X` must not hold unknown features \(NaN\) for a network"):
        fitted("gru", rows_of(holey))
    dropped = predict_frame(pipeline, holey, missing="drop", **ask)
    bar = keyed(holey)["bar"]
    lost = dropped.filter(pl.col("prediction").is_nan() & (bar >= 3))
    assert lost["symbol"].to_list() == ["S1"] * 4
    assert lost["ts"].to_list() == matrix["ts"].unique().sort()[50:54].to_list()
    choice = choose_learner("gru", SMALL, preprocessing=["imputation"])
    filled = build_pipeline(choice, Setup("regression", seed=3)).fit(*cut(rows_of(holey), choice))
    kept = predict_frame(filled, holey, missing="keep", **ask)
    assert kept.filter(bar >= 3)["prediction"].is_finite().all()


def test_windows_of_training_rows_reach_over_no_purged_block_and_those_of_validation_rows_have_their_history():
    matrix = random_matrix(RETURN, symbols=3, sessions=61)
    result = cross_validate(
        matrix,
        learner=choose_learner("gru", {**SMALL, "window": 5}),
        splitter=PurgedKFold(n_splits=3),
        target=RETURN,
        weightings=(),
        seed=1,
    )
    # 60 labelled sessions in blocks of 20, one purged on each side of a test block; the last 8 of 38 or 39 validate. The first
    # four bars of each part have no window: in the middle fold there are two parts.
    rows = [result.fold_metrics["n_train"][fold] // 3 for fold in range(3)]
    told = [result.reports[f"fold {fold}"] for fold in range(3)]
    later = [round(0.2 * n) for n in rows]
    # One more is purged before the validation rows.
    windows = [3 * (n - held - 1 - 4 * parts) for n, held, parts in zip(rows, later, (1, 2, 1), strict=True)]
    assert [each["windows"] for each in told] == windows
    assert [each["validation_windows"] for each in told] == [3 * held for held in later]
    assert result.fold_metrics["n_unpredicted"].to_list() == [3 * 4, 0, 0]


def test_a_halt_and_a_listing_in_the_middle_are_unknown_until_there_is_history_again():
    matrix = random_matrix(RETURN, symbols=4, sessions=90)
    times = matrix["ts"].unique().sort()
    halted = (pl.col("symbol") == "S1") & pl.col("ts").is_between(times[70], times[72])
    unlisted = (pl.col("symbol") == "S2") & (pl.col("ts") < times[65])
    matrix = matrix.filter(~(halted | unlisted))
    result = cross_validate(
        matrix,
        learner=choose_learner("gru", SMALL),
        splitter=PurgedWalkForward(n_splits=1, test_sessions=30),
        target=RETURN,
        weightings=(),
        seed=1,
    )
    lost = result.predictions.filter(pl.col("prediction").is_nan()).select("symbol", "ts").sort("symbol", "ts").rows()
    assert lost == [("S1", times[n]) for n in (73, 74, 75)] + [("S2", times[n]) for n in (65, 66, 67)]
    assert result.fold_metrics["n_unpredicted"].to_list() == [6]


def test_a_learner_that_pads_with_the_next_row_is_refused(monkeypatch):
    class Padding(SequenceNetwork):
        def _windows(self, rows):
            windows = super()._windows(rows)
            # The window of a row ends one bar later, where there is one.
            return replace(windows, end=np.minimum(windows.end + 1, len(windows.bars) - 1))

    monkeypatch.setitem(
        LEARNERS, "gru", replace(LEARNERS["gru"], build=lambda params, setup: Padding("gru", params, setup))
    )
    for choice in (
        choose_learner("gru", SMALL),
        choose_learner("voting", {"members": ["ridge", {"type": "gru", "params": SMALL}]}),
    ):
        with pytest.raises(
            ValueError,
            match=r"`learner` must predict a row without reading later ones, was '(gru|voting)': its prediction of S",
        ):
            cross_validate(
                random_matrix(RETURN),
                learner=choice,
                splitter=PurgedWalkForward(n_splits=1, test_sessions=12),
                target=RETURN,
                weightings=(),
                seed=1,
            )


def test_several_horizons_have_an_output_each_and_no_quantiles():
    matrix = random_matrix(RETURN, symbols=3, sessions=80)
    # The longer horizon is predicted by another feature, ten times as large.
    parts = [
        matrix.with_columns(horizon=pl.lit(at, dtype=pl.Int32), y=pl.col(name) * 10.0**-n * size)
        for at, name, n, size in ((1, "feature_0", 0, 0.01), (5, "feature_1", 1, 0.1))
    ]
    both = pl.concat(parts).with_columns(target="y").sort("ts", "symbol", "horizon")
    choice = choose_learner("mlp", {"horizons": [1, 5], "epochs": 40, "learning_rate": 0.02, "batch_size": 32})
    pipeline = build_pipeline(choice, Setup("regression", seed=1)).fit(*cut(rows_of(both), choice))
    shown = predict_frame(pipeline, matrix, features=feature_names(matrix), classes=())
    for at, part in zip((1, 5), parts, strict=True):
        assert np.corrcoef(shown[f"prediction_{at}"], part["y"])[0, 1] > 0.9
        assert shown[f"prediction_{at}"].std() == pytest.approx(part["y"].std(), rel=0.3)
    assert pipeline.report()["windows"] == pipeline.report()["windows"] // 3 * 3
    of_own = predict_frame(pipeline, both, features=feature_names(matrix), classes=())
    assert of_own["prediction"].to_list()[:2] == [shown["prediction_1"][0], shown["prediction_5"][0]]
    for horizons, given, told in (
        ([1, 9], both, r"`horizons` must be those of the training rows, \[1, 5\], was \[1, 9\]"),
        ([1], matrix, "`horizons` must be left out for a target with one label a row"),
    ):
        with pytest.raises(ValueError, match=told):
            fitted("mlp", rows_of(given), window=1, horizons=horizons)
    with pytest.raises(ValueError, match="`quantiles` must be left out beside `horizons`"):
        choose_learner("gru", {"horizons": [1, 5], "quantiles": [0.5]})
    with pytest.raises(ValueError, match="`hidden` must be a multiple of `heads`, was 6 with 4 heads"):
        choose_learner("transformer", {"hidden": 6})


def test_quantiles_stand_beside_the_mean_and_cover_their_shares():
    rng = np.random.default_rng(0)
    matrix = random_matrix(RETURN, symbols=6, sessions=200, n_features=1)
    noise = rng.normal(size=matrix.height) * 0.01
    matrix = matrix.with_columns(y=pl.col("feature_0").cast(pl.Float64) * 0.01 + noise)
    pipeline = fitted("mlp", rows_of(matrix), window=1, epochs=30, learning_rate=0.01, quantiles=[0.1, 0.9])
    shown = predict_frame(pipeline, matrix, features=["feature_0"], classes=())
    below = [(matrix["y"] < shown[f"quantile_{level}"]).mean() for level in (0.1, 0.9)]
    np.testing.assert_allclose(below, [0.1, 0.9], atol=0.05)
    assert np.corrcoef(shown["prediction"], matrix["feature_0"])[0, 1] > 0.9


def test_an_ensemble_of_a_sequence_member_predicts_what_all_its_members_can():
    matrix = random_matrix(RETURN, symbols=3, sessions=90)
    rows = rows_of(matrix)
    # A row of weight 0 in each of its sessions: history of the network, nothing to the others.
    bar = rows.keys["bar"].to_numpy()
    matrix = matrix.with_columns(weight=pl.Series(np.where(np.isin(bar, [40, 41]), 0.0, 1.0)))
    ask = {"features": feature_names(matrix), "classes": ()}
    for name in ("voting", "stacking", "dynamic_weighting"):
        params: dict[str, Any] = {"members": ["ridge", {"type": "gru", "params": SMALL}]}
        params |= {"final": "ridge"} if name == "stacking" else {}
        params |= {"n_splits": 2} if name != "voting" else {}
        choice = choose_learner(name, params)
        pipeline = fit_final(matrix, learner=choice, target=RETURN, seed=1)
        shown = predict_frame(pipeline, matrix, **ask)
        assert shown["prediction"].is_nan().to_numpy().tolist() == (bar < 3).tolist()
        again = build_pipeline(choice, Setup("regression")).load(pipeline.save())
        assert predict_frame(again, matrix, **ask).equals(shown)
    with pytest.raises(ValueError, match="`final` must read the row's own answers alone, was gru, which reads 19 bars"):
        choose_learner("stacking", {"members": ["ridge", "lasso"], "final": "gru"})


def test_probabilities_are_calibrated_on_the_validation_rows_that_are_predicted():
    choice = choose_learner("gru", SMALL, calibration="temperature")
    matrix = random_matrix(DIRECTION, symbols=3, sessions=90)
    pipeline = fit_final(matrix, learner=choice, target=DIRECTION, seed=1)
    assert np.isfinite(pipeline.calibrator.temperature)
    shown = predict_frame(pipeline, matrix, features=feature_names(matrix), classes=DIRECTION.classes)
    assert shown["prediction"].is_nan().sum() == 3 * 3


def test_folds_side_by_side_draw_their_dropout_as_alone():
    def run(n_jobs: int) -> pl.DataFrame:
        return cross_validate(
            random_matrix(RETURN),
            learner=choose_learner("transformer", {**SMALL, "dropout": 0.3, "epochs": 4}),
            splitter=PurgedWalkForward(n_splits=3, test_sessions=12),
            target=RETURN,
            weightings=(),
            seed=1,
            n_jobs=n_jobs,
        ).predictions

    before = torch.get_rng_state()
    assert run(1).equals(run(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_training_ends_early_and_the_best_epoch_is_kept():
    # Nothing can be learned: what is found in the training rows is wrong in the others.
    rng = np.random.default_rng(0)
    matrix = random_matrix(RETURN, symbols=2, sessions=60)
    rows = rows_of(matrix, y=rng.normal(size=matrix.height))
    pipeline = fitted("mlp", rows, window=1, hidden=64, epochs=200, learning_rate=0.02, early_stopping_epochs=3)
    told = pipeline.report()
    losses = told["validation_losses"]
    assert len(losses) == told["best_epoch"] + 3 < 200 and min(losses) == told["validation_loss"]
    # The weights are those of that epoch.
    stopped = fitted("mlp", rows, window=1, hidden=64, epochs=200, learning_rate=0.02, early_stopping_epochs=4)
    assert stopped.report()["best_epoch"] >= told["best_epoch"]
    if stopped.report()["best_epoch"] == told["best_epoch"]:
        assert np.array_equal(pipeline.predict(rows).point, stopped.predict(rows).point)
    far = rows.y.copy()
    far[-1] = 1e30
    with pytest.raises(ValueError, match="`learning_rate` must be small enough for finite losses, was not in epoch 1"):
        fitted("gru", replace(rows, y=far))


def test_too_short_rows_are_refused_naming_the_window():
    matrix = random_matrix(RETURN, sessions=40)
    with pytest.raises(ValueError, match="`window` must be short enough for the training rows, was 100 bars"):
        fitted("gru", rows_of(matrix), window=100)


@pytest.mark.parametrize("name", ["gru", "mlp"])
def test_a_damaged_file_is_an_error_and_never_another_model(name):
    rows = rows_of(random_matrix(RETURN, symbols=2, sessions=40, n_features=3))
    pipeline = fitted(name, rows, window=2)
    data = pipeline.save()
    expected = pipeline.predict(rows).point
    rng = np.random.default_rng(0)
    files = unpack(data, ["network.safetensors", "network.json"])

    def load(payload: bytes) -> Any:
        return build_pipeline(pipeline.choice, Setup("regression")).load(payload)

    refused = 0
    for _ in range(150):
        which = list(files)[int(rng.integers(2))]
        damaged = bytearray(files[which])
        match int(rng.integers(4)):
            case 0:
                damaged[int(rng.integers(len(damaged)))] ^= 1 << int(rng.integers(8))
            case 1:
                del damaged[int(rng.integers(len(damaged))) :]
            case 2:
                damaged += bytes(rng.integers(0, 256, size=8).astype(np.uint8))
            case 3:
                damaged[:8] = int(rng.integers(2**62)).to_bytes(8, "little")
        try:
            found = load(pack({**files, which: bytes(damaged)}))
        except ValueError as e:
            refused += 1
            assert len(str(e).splitlines()) == 1
        else:
            # Some other number in its place: finite, which the sha256 of the file tells.
            assert found.predict(rows).point.shape == expected.shape
    assert refused > 80
    for tensors, told in (
        ({"name": torch.zeros(2)}, "must hold a weight for each of 3 features"),
        ({"name": torch.zeros(500)}, "must hold the weights"),
        ({**_weights(files), "head.bias": torch.zeros(7)}, "must hold finite float32 weights of this network's shapes"),
        ({**_weights(files), "head.bias": torch.full((1,), float("nan"))}, "finite float32"),
        ({**_weights(files), "head.bias": torch.zeros(1, dtype=torch.float64)}, "finite float32 .*float64"),
    ):
        with pytest.raises(ValueError, match=told):
            load(pack({**files, "network.safetensors": save_tensors(tensors)}))
    for text, told in (
        (b"[1]", "in JSON"),
        (b'{"mean": [1e400]}', "in JSON"),
        (files["network.json"].replace(b'"n_classes": 0', b'"n_classes": 3'), "is of another learner"),
        (files["network.json"].replace(b'"deviation": [', b'"deviation": [0.0, '), "above 0"),
        (b"[" * 100_000, "in JSON"),
    ):
        with pytest.raises(ValueError, match=told):
            load(pack({**files, "network.json": text}))


def _weights(files: dict[str, bytes]) -> dict[str, torch.Tensor]:
    return load_tensors(files["network.safetensors"])


def test_the_file_of_a_default_network_is_small():
    bars = plain_bars({f"S{n}": [1.0] * 40 for n in range(2)}).sort("ts", "symbol")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(bars.height, 60)).astype(np.float32)
    labelled = bars.with_columns(label_start="ts", label_end="ts")
    rows = TrainingRows(
        keyed(labelled, "label_start", "label_end"),
        X,
        tuple(f"f{n}" for n in range(60)),
        y=rng.normal(size=len(X)),
        weight=np.ones(len(X)),
    )
    for name in (*SEQUENCES, "mlp"):
        choice = choose_learner(name, {"epochs": 1})
        assert len(build_pipeline(choice, Setup("regression")).fit(*cut(rows, choice)).save()) < 200_000


def test_a_session_in_which_no_symbol_has_a_row_is_a_gap_where_the_calendar_is_known():
    matrix = random_matrix(RETURN, symbols=1, sessions=90)
    every = matrix["ts"]
    # The only symbol is halted for a session of the test block and for one of the training rows.
    holey = matrix.filter(~pl.col("ts").is_in([every[30], every[80]]))

    def run(times: pl.Series | None):
        return cross_validate(
            holey,
            learner=choose_learner("gru", SMALL),
            splitter=PurgedWalkForward(n_splits=1, test_sessions=20),
            target=RETURN,
            weightings=(),
            seed=1,
            times=times,
        )

    known, blind = run(every), run(None)
    assert known.predictions.filter(pl.col("prediction").is_nan())["ts"].to_list() == [every[n] for n in (81, 82, 83)]
    assert blind.predictions["prediction"].is_finite().all()
    assert known.reports["fold 0"]["windows"] == blind.reports["fold 0"]["windows"] - 3
    assert keyed(holey, times=every)["bar"].to_list() == [n for n in range(holey.height + 2) if n not in (30, 80)]
    pipeline = fit_final(holey, learner=choose_learner("gru", SMALL), target=RETURN, seed=1, times=every)
    asked = predict_frame(pipeline, holey, features=feature_names(holey), classes=(), times=every)
    assert asked["prediction"].is_nan().sum() == 3 * 3
