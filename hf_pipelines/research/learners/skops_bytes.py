"""skops bytes of an estimator: equal estimators give equal bytes, and only named types come back.

Three things skops itself does not do. It names parts by memory address and stamps the time, so equal models
differ as files: here they are renumbered. It trusts a long list of scikit-learn, scipy and numpy types by
default: here the caller lists every type by name, and the file is refused before skops reads it. And to make that
list it imports all of scikit-learn, torch with it, which takes three seconds of every process: here it makes none.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from itertools import count
from threading import Lock
from types import ModuleType
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from hf_pipelines.research.learners.learner import Estimator, ModelFormat

# Node kinds that hold data or set attributes; the others call functions or methods named in the file.
DATA_LOADERS = frozenset({"ObjectNode", "DictNode", "ListNode", "TupleNode", "JsonNode", "NdArrayNode", "TypeNode"})


# What any of our models is made of besides its own types.
CORE_TYPES = frozenset(
    {
        "numpy.ndarray",
        "numpy.float32",
        "numpy.float64",
        "numpy.int64",
        "builtins.dict",
        "builtins.list",
        "builtins.tuple",
        "builtins.str",
    }
)

_importing = Lock()


def skops_format(*types: str) -> ModelFormat:
    """Format of an estimator made of these types, by their full names, and of `CORE_TYPES`: nothing else is loaded."""
    trusted = CORE_TYPES | frozenset(types)

    def load_trusted(data: bytes, unfitted: Estimator) -> Estimator:
        return load(data, trusted_types=trusted)

    return ModelFormat("skops", dump, load_trusted)


def tree_format(*types: str, loaders: tuple[str, ...]) -> ModelFormat:
    """Format of an estimator of trees: as `skops_format`, and with parts that skops makes by calling their class.

    Parameters
    ----------
    types : str
        Full names. No type is trusted beyond these and `CORE_TYPES`.
    loaders : tuple of str
        Kinds of nodes that are taken beside `DATA_LOADERS`: "TreeNode" calls scikit-learn's `Tree`, "LossNode" one of its
        losses.
    """
    trusted, also = CORE_TYPES | frozenset(types), frozenset(loaders)

    def load_trusted_trees(data: bytes, unfitted: Estimator) -> Estimator:
        return load_trees(data, trusted_types=trusted, loaders=also)

    return ModelFormat("skops", dump_trees, load_trusted_trees)


def dump(estimator: Estimator) -> bytes:
    """Save an estimator; equal estimators give equal bytes."""
    buffer = io.BytesIO()
    with ZipFile(io.BytesIO(_skops_io().dumps(estimator))) as source, ZipFile(buffer, "w", ZIP_STORED) as copy:
        schema = json.loads(source.read("schema.json"))
        for number, node in zip(count(), _nodes(schema)):
            node["__id__"] = number
            if "file" in node:
                content = source.read(node["file"])
                node["file"] = f"{number}.npy"
                copy.writestr(_undated(node["file"]), content)
        copy.writestr(_undated("schema.json"), json.dumps(schema))
    return buffer.getvalue()


def dump_trees(estimator: Estimator) -> bytes:
    """Save an estimator that holds trees of scikit-learn; equal estimators give equal bytes.

    Between the fields of a tree's nodes, and in a field that leaves do not use, stands what was in memory before.
    """
    import numpy as np

    buffer = io.BytesIO()
    with ZipFile(io.BytesIO(dump(estimator))) as source, ZipFile(buffer, "w", ZIP_STORED) as copy:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith(".npy"):
                given = np.load(io.BytesIO(content), allow_pickle=False)
                if given.dtype.names:
                    cleaned = np.zeros(given.shape, dtype=given.dtype)
                    for field in given.dtype.names:
                        cleaned[field] = given[field]
                    if {"left_child", "missing_go_to_left"} <= {*given.dtype.names}:
                        cleaned["missing_go_to_left"][given["left_child"] < 0] = 0
                    np.save(file := io.BytesIO(), cleaned, allow_pickle=False)
                    content = file.getvalue()
            copy.writestr(_undated(name), content)
    return buffer.getvalue()


def load(data: bytes, *, trusted_types: frozenset[str]) -> Estimator:
    """Load an estimator made of nothing but `trusted_types`.

    Parameters
    ----------
    data : bytes
        From `dump`.
    trusted_types : frozenset of str
        Full names, as "sklearn.pipeline.Pipeline". No type is trusted beyond these.

    Raises
    ------
    ValueError
        If the bytes are not a skops archive, are compressed, or hold another type or a node that calls code.
    """
    offenders = sorted(set(_foreign_parts(_read_schema(data), trusted_types)))
    if offenders:
        raise ValueError(f"`data` must hold trusted types only, was found to hold {offenders[:5]}; do not load it.")
    return _skops_io().loads(data, trusted=sorted(trusted_types))


def load_trees(data: bytes, *, trusted_types: frozenset[str], loaders: frozenset[str]) -> Estimator:
    """Load an estimator that also holds nodes of the kinds `loaders`; see `load`.

    Numbers in a tree are not checked: one that points outside of it ends the process at a prediction.
    """
    offenders = sorted(set(_foreign_parts(_read_schema(data), trusted_types)) - loaders)
    if offenders:
        raise ValueError(f"`data` must hold trusted types only, was found to hold {offenders[:5]}; do not load it.")
    return _skops_io().loads(data, trusted=sorted(trusted_types))


def _skops_io() -> ModuleType:
    """skops.io, without the list of estimators that it would trust by default if it has not been imported yet."""
    with _importing:
        if "skops.io" not in sys.modules:
            import sklearn.utils

            all_estimators = sklearn.utils.all_estimators
            sklearn.utils.all_estimators = lambda: []
            try:
                return import_module("skops.io")
            finally:
                sklearn.utils.all_estimators = all_estimators
        return sys.modules["skops.io"]


def _read_schema(data: bytes) -> Any:
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            # We write without compression: a compressed member is not ours and may unpack to any size.
            if any(member.compress_type != ZIP_STORED for member in archive.infolist()):
                raise ValueError("`data` must be an uncompressed skops archive, was compressed; do not load it.")
            return json.loads(archive.read("schema.json"))
    except (BadZipFile, KeyError, json.JSONDecodeError) as e:
        raise ValueError(f"`data` must be a skops archive, was {len(data)} bytes of something else.") from e


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict) and "__loader__" in tree:
        yield tree
    if isinstance(tree, (dict, list)):
        for child in tree.values() if isinstance(tree, dict) else tree:
            yield from _nodes(child)


def _foreign_parts(schema: Any, trusted_types: frozenset[str]) -> Iterator[str]:
    for node in _nodes(schema):
        if node["__loader__"] not in DATA_LOADERS:
            yield str(node["__loader__"])
        type_name = f"{node.get('__module__')}.{node.get('__class__')}"
        if type_name not in trusted_types:
            yield type_name


def _undated(name: str) -> ZipInfo:
    # ZipInfo's default date is 1980-01-01: the time of saving must not reach the hash.
    return ZipInfo(name)
