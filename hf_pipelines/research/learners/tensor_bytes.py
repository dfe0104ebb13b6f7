"""Tensors as bytes: weights of networks in the safetensors format, which holds numbers and no code.

Lives here: writing and strict reading. Not here: which tensors a network has (`sequence_estimator`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def save_tensors(tensors: Mapping[str, Any]) -> bytes:
    """Tensors by their names; the same bytes for the same tensors."""
    from safetensors.torch import save

    return save({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})


def load_tensors(data: bytes) -> dict[str, Any]:
    """The tensors of a file.

    Raises
    ------
    ValueError
        If the bytes are no such file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, KeyError) as e:
        raise ValueError(f"`data` must be tensors in the safetensors format, was {len(data)} other bytes: {e}.") from e


def fill_network(network: Any, tensors: Mapping[str, Any]) -> None:
    """Give a network the weights of a file.

    Raises
    ------
    ValueError
        If they are not exactly its own: the names, the shapes and float32, every one finite.
    """
    import torch

    wanted = network.state_dict()
    if sorted(wanted) != sorted(tensors):
        raise ValueError(
            f"`data` must hold the weights {sorted(wanted)[:5]}, was with {sorted(tensors)[:5]}; it is of another network."
        )
    wrong = [
        f"{name} {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
        for name, value in sorted(tensors.items())
        if value.dtype != torch.float32 or value.shape != wanted[name].shape or not bool(torch.isfinite(value).all())
    ]
    if wrong:
        raise ValueError(f"`data` must hold finite float32 weights of this network's shapes, was with {wrong[:5]}.")
    network.load_state_dict(dict(tensors))
