"""Saved linear models: the same bytes for the same model, and nothing foreign comes back out of them."""

import functools
import io
import json
import operator
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from hf_pipelines.research.learners import LEARNERS, skops_bytes

X = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)


def load_ridge(data: bytes):
    return LEARNERS["ridge"].format.load(data, None)


def ridge_bytes() -> bytes:
    return skops_bytes.dump(Pipeline([("scale", StandardScaler()), ("ridge", Ridge())]).fit(X, X[:, 0]))


def rewritten(data: bytes, *, compression: int = zipfile.ZIP_STORED, **schema_changes: object) -> bytes:
    """Copy the archive with top-level entries of its schema replaced."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w", compression) as copy:
        for name in source.namelist():
            content = source.read(name)
            if name == "schema.json":
                content = json.dumps({**json.loads(content), **schema_changes}).encode()
            copy.writestr(name, content)
    return buffer.getvalue()


def test_dump_equal_fits_give_equal_bytes():
    assert ridge_bytes() == ridge_bytes()


def test_dump_plain_skops_would_differ():
    import skops.io

    model = Ridge().fit(X, X[:, 0])
    assert skops.io.dumps(model) != skops.io.dumps(Ridge().fit(X, X[:, 0]))
    assert skops_bytes.dump(model) == skops_bytes.dump(Ridge().fit(X, X[:, 0]))


def test_dump_is_read_by_skops_itself():
    import skops.io

    data = ridge_bytes()
    theirs = skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
    np.testing.assert_array_equal(theirs.predict(X), load_ridge(data).predict(X))


def test_load_in_a_process_of_its_own_predicts_alike_without_importing_torch_and_leaves_scikit_learn_as_it_was(
    tmp_path,
):
    (tmp_path / "ridge.skops").write_bytes(ridge_bytes())
    code = (
        "import sys, sklearn.utils; from pathlib import Path; from hf_pipelines.research.learners import LEARNERS\n"
        "before = sklearn.utils.all_estimators\n"
        "ridge = LEARNERS['ridge'].format.load(Path(sys.argv[1]).read_bytes(), None)\n"
        "print('torch' in sys.modules, sklearn.utils.all_estimators is before, ridge.predict([[1, 2, 3]])[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "ridge.skops"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True", str(load_ridge(ridge_bytes()).predict([[1, 2, 3]])[0])]


@pytest.mark.parametrize(
    ("estimator", "offender"),
    [
        pytest.param(LinearRegression().fit(X, X[:, 0]), "LinearRegression", id="type that skops trusts"),
        pytest.param(FunctionTransformer(np.exp), "FunctionTransformer", id="function by name"),
        pytest.param(Ridge(alpha=operator.attrgetter("a")), "OperatorFuncNode", id="operator"),
        pytest.param(Ridge(alpha=functools.partial(print)), "PartialNode", id="partial"),
        pytest.param(Ridge(alpha=StandardScaler().fit), "MethodNode", id="bound method"),
    ],
)
def test_load_foreign_part_is_refused_by_name(estimator, offender):
    with pytest.raises(ValueError, match=rf"must hold trusted types only.*{offender}.*do not load"):
        load_ridge(skops_bytes.dump(estimator))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"__module__": "subprocess", "__class__": "Popen"}, id="type"),
        pytest.param({"__loader__": "FunctionNode"}, id="loader"),
        pytest.param({"__loader__": "ReduceNode"}, id="reduce"),
    ],
)
def test_load_tampered_schema_is_refused(change):
    offender = change.get("__class__", change.get("__loader__"))
    with pytest.raises(ValueError, match=rf"was found to hold .*{offender}"):
        load_ridge(rewritten(ridge_bytes(), **change))


def test_load_compressed_archive_is_refused():
    with pytest.raises(ValueError, match="was compressed"):
        load_ridge(rewritten(ridge_bytes(), compression=zipfile.ZIP_DEFLATED))


def test_load_untouched_archive_rewritten_is_accepted():
    load_ridge(rewritten(ridge_bytes()))


@pytest.mark.parametrize(
    "make", [bytes, b"not a zip".__bytes__, lambda: ridge_bytes()[:-40]], ids=["empty", "text", "truncated"]
)
def test_load_something_else_is_refused(make):
    with pytest.raises(ValueError, match="must be a skops archive"):
        load_ridge(make())
