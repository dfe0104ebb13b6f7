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

from hf_pipelines.research.learners import LEARNERS, Setup, skops_bytes

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


def test_dump_of_trees_does_not_hold_what_stood_in_memory_between_fields_and_where_leaves_have_no_use_for_one():
    fields = np.dtype({"names": ["left_child", "missing_go_to_left"], "formats": ["<i8", "u1"], "itemsize": 16})

    def nodes(memory: int, leaf: int) -> np.ndarray:
        found = np.full(32, memory, dtype=np.uint8).view(fields)
        found["left_child"], found["missing_go_to_left"] = [1, -1], [1, leaf]
        return found

    clean, dirty = nodes(0, 0), nodes(7, 1)
    assert clean.tobytes() != dirty.tobytes()
    saved = skops_bytes.dump_trees({"nodes": dirty})
    assert saved == skops_bytes.dump_trees({"nodes": clean})
    trusted = skops_bytes.CORE_TYPES | {"numpy.dtype"}
    found = skops_bytes.load_trees(saved, trusted_types=trusted, loaders=frozenset())["nodes"]
    assert found.tolist() == [(1, 1), (-1, 0)]


@pytest.mark.parametrize("name", ["random_forest", "extra_trees"])
def test_load_of_trees_takes_trees_alone_and_no_other_entry_takes_them(name):
    entry = LEARNERS[name]
    forest = entry.build({"n_estimators": 2, "max_depth": 2}, Setup("regression")).fit(X, X[:, 0])
    data = entry.format.save(forest)
    np.testing.assert_array_equal(entry.format.load(data, None).predict(X), forest.predict(X))
    with pytest.raises(ValueError, match="was found to hold .*TreeNode"):
        load_ridge(data)
    for foreign in (Ridge().fit(X, X[:, 0]), FunctionTransformer(np.exp)):
        with pytest.raises(ValueError, match=r"was found to hold .*(Ridge|FunctionTransformer)"):
            entry.format.load(skops_bytes.dump(foreign), None)
    for change in ({"__loader__": "RandomGeneratorNode"}, {"__loader__": "LossNode"}, {"__loader__": "ReduceNode"}):
        with pytest.raises(ValueError, match="was found to hold .*Node"):
            entry.format.load(rewritten(data, **change), None)


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
