"""Arrays as bytes: the fitted state of an estimator, some of its attributes, as .npy files in one archive.

Lives here: one format for whatever is described by numbers alone. Not here: estimators that hold others (`skops_bytes`).
"""

from __future__ import annotations

import io

import numpy as np

from hf_pipelines.research.learners.archive import pack, unpack
from hf_pipelines.research.learners.learner import Estimator, ModelFormat

# Little-endian floats and whole numbers: the same bytes on any machine, and nothing that numpy would unpickle.
_KINDS = ("<f4", "<f8", "<i8")


def arrays_format(*names: str) -> ModelFormat:
    """Format of an estimator that these attributes describe: arrays or single numbers, under the same names once loaded.

    Single whole numbers come back as such.
    """

    def save(estimator: Estimator) -> bytes:
        return pack({f"{name}.npy": _npy(getattr(estimator, name)) for name in names})

    def load(data: bytes, unfitted: Estimator) -> Estimator:
        files = unpack(data, [f"{name}.npy" for name in names])
        for name in names:
            found = _array(files[f"{name}.npy"], name)
            setattr(unfitted, name, found.item() if found.ndim == 0 else found)
        return unfitted

    return ModelFormat("zip", save, load)


def _npy(value: object) -> bytes:
    array = np.asarray(value)
    kind = "<i8" if array.dtype.kind in "biu" else "<f4" if array.dtype == np.float32 else "<f8"
    buffer = io.BytesIO()
    # No `ascontiguousarray`: it makes a list of a single number.
    np.lib.format.write_array(buffer, np.array(array, dtype=kind, order="C"), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _array(data: bytes, name: str) -> np.ndarray:
    """The array of a .npy file.

    Raises
    ------
    ValueError
        If the bytes are not such a file of numbers, of exactly the size that it says.
    """
    stream = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("it is of another version")
        shape, is_by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
        if is_by_columns or dtype.str not in _KINDS:
            raise ValueError(f"it holds {dtype}")
        return np.frombuffer(data, dtype=dtype, offset=stream.tell()).reshape(shape).copy()
    except ValueError as e:
        raise ValueError(f"`data` must hold `{name}` as an array of numbers, was {len(data)} other bytes: {e}.") from e
