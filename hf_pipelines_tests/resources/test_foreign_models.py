"""Models that nobody vouches for: damaged and edited bytes of each format are an error of the bytes, never of who asks."""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hf_pipelines.research.learners import LEARNERS, LearnerChoice, choose_learner, predict_frame
from hf_pipelines.research.learners.archive import pack
from hf_pipelines.resources.foreign_models import ForeignModels
from hf_pipelines_tests.research.learners.test_registry import fitted, rows_for

# One of each format; `ubj` as the plain booster and inside of an archive.
SIZES = {
    "xgboost": {"n_estimators": 5},
    "xgboost_early_stopping": {"n_estimators": 5},
    "lightgbm": {"n_estimators": 5},
    "catboost": {"n_estimators": 5, "depth": 3},
    "hist_gradient_boosting": {"n_estimators": 5},
    "random_forest": {"n_estimators": 3, "min_samples_leaf": 5},
    "ridge": {},
    "quantile": {"quantiles": [0.5]},
    "arima": {"feature": "feature_0", "history_bars": 5, "minimum_bars": 20, "order": [1, 0]},
}
# State in arrays, in an archive each.
STEPS = {"quantile": ["winsorising", "imputation", "quantile_scaling", {"type": "k_best", "params": {"k": 4}}, "pca"]}
ROWS = rows_for("regression", sessions=40)
FRAME = ROWS.frame.select("symbol", "session", "ts", *ROWS.names)


def model_of(name: str) -> tuple[LearnerChoice, bytes]:
    choice = choose_learner(name, SIZES[name], preprocessing=STEPS.get(name, ()))
    return choice, fitted(choice, "regression", ROWS).save()


def edited(data: bytes, rng: np.random.Generator) -> bytes:
    """Other bytes: cut, flipped, inserted, taken out or, of text, with other numbers; inside of archives with sound sums."""
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        name = sorted(files)[rng.integers(len(files))]
        return pack({**files, name: edited(files[name], rng)})
    if data[:1] in (b"{", b"t") and rng.random() < 0.7:
        numbers = [*re.finditer(rb"-?\d+", data)]
        at = numbers[rng.integers(len(numbers))]
        other = [b"-1", b"0", b"7", b"99999999", b"-2147483648", b"1e308", b"nan"][rng.integers(7)]
        return data[: at.start()] + other + data[at.end() :]
    at, n = int(rng.integers(len(data))), int(rng.integers(1, 9))
    noise = rng.integers(0, 256, size=n, dtype=np.uint8).tobytes()
    ways = (data[:at], data[:at] + noise + data[at + n :], data[:at] + noise + data[at:], data[:at] + data[at + n :])
    return ways[rng.integers(len(ways))]


def check(models: ForeignModels, name: str, n: int, *, seed: int) -> dict[str, int]:
    """Ask for predictions of `n` edited files; whatever they are, it is predictions or one error."""
    choice, data = model_of(name)
    rng = np.random.default_rng(seed)
    found = {"predicted": 0, "refused": 0, "ended": 0}
    for _ in range(n):
        try:
            predicted = models.predict(edited(data, rng), choice, FRAME, features=ROWS.names, classes=())
            assert predicted.height == FRAME.height
            found["predicted"] += 1
        except ValueError as e:
            assert str(e).startswith(f"`data` must be a model of {name!r}, was ") and "\n" not in str(e)
            found["ended" if "ended (" in str(e) or "no answer" in str(e) else "refused"] += 1
    return found


@pytest.fixture(scope="module")
def models() -> Iterator[ForeignModels]:
    with ForeignModels() as found:
        yield found


@pytest.mark.parametrize("name", SIZES)
def test_a_sound_model_predicts_there_as_here_and_a_few_edited_ones_are_an_error_or_predictions(models, name):
    choice, data = model_of(name)
    here = predict_frame(fitted(choice, "regression", ROWS), FRAME, features=ROWS.names, classes=())
    assert models.predict(data, choice, FRAME, features=ROWS.names, classes=()).equals(here)
    found = check(models, name, 3, seed=1)
    assert sum(found.values()) == 3


def test_a_tree_that_points_outside_or_in_circles_ends_the_child_alone(models):
    choice, data = model_of("random_forest")
    with pytest.raises(ValueError, match=r"`data` must be a model of 'random_forest', .*ended \(SIG.*do not load"):
        models.predict(with_children(data, 10**12), choice, FRAME, features=ROWS.names, classes=())
    # The next one gets a new child.
    assert models.predict(data, choice, FRAME, features=ROWS.names, classes=()).height == FRAME.height
    with ForeignModels(longest_s=1.0) as hasty:
        with pytest.raises(ValueError, match="'random_forest', .*it gave no answer in 1 s; do not load"):
            hasty.predict(with_children(data, 0), choice, FRAME, features=ROWS.names, classes=())


def with_children(data: bytes, child: int) -> bytes:
    """The same forest, the root of each tree with this child on both sides."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for name, content in files.items():
        if name.endswith(".npy"):
            nodes = np.load(io.BytesIO(content))
            if nodes.dtype.names:
                nodes["left_child"][0] = nodes["right_child"][0] = child
                np.save(file := io.BytesIO(), nodes)
                files[name] = file.getvalue()
    return pack(files)


def test_classes_come_back_with_their_probabilities(models):
    rows = rows_for("classification", sessions=40)
    choice = choose_learner("hist_gradient_boosting", SIZES["hist_gradient_boosting"], calibration="temperature")
    pipeline = fitted(choice, "classification", rows)
    frame = rows.frame.select("symbol", "session", "ts", *rows.names)
    asked = {"features": rows.names, "classes": ("down", "flat", "up")}
    assert models.predict(pipeline.save(), choice, frame, **asked).equals(predict_frame(pipeline, frame, **asked))
    with pytest.raises(ValueError, match="was 4 bytes: ValueError: `data` must be an archive of a model"):
        models.predict(b"none", choice, frame, **asked)


@pytest.mark.long
@pytest.mark.parametrize("name", SIZES)
def test_two_hundred_edited_files_of_each_format_are_an_error_or_predictions(name):
    with ForeignModels(longest_s=30.0) as models:
        found = check(models, name, 200, seed=7)
    print(name, json.dumps(found))
    assert sum(found.values()) == 200 and found["refused"] > 0


def test_every_format_is_among_those_tried():
    tried = {LEARNERS[name].format.extension for name in SIZES}
    assert {each.format.extension for each in LEARNERS.values()} <= tried


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="environments of processes are read below /proc")
def test_the_process_computes_by_the_same_kernels_and_knows_no_key(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a key of nobody")
    choice, data = model_of("ridge")
    with ForeignModels() as found:
        found.predict(data, choice, FRAME, features=ROWS.names, classes=())
        text = Path(f"/proc/{found._reader.process.pid}/environ").read_text()
    environment = dict(each.split("=", 1) for each in text.split("\0") if each)
    assert (environment["OPENBLAS_CORETYPE"], environment["MKL_CBWR"]) == ("Haswell", "COMPATIBLE")
    assert "AWS_SECRET_ACCESS_KEY" not in environment and "a key of nobody" not in text
