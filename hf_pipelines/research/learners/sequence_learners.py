"""Sequence learners: LSTM, GRU, Transformer, temporal convolutions and a plain network, of windows of bars.

Lives here: the entries and their parameters. Not here: the estimator that all of them share (`sequence_estimator`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from hf_pipelines.research.learners.learner import Learner, ModelFormat, Output, Task
from hf_pipelines.research.learners.sequence_estimator import SequenceNetwork, load_sequence, save_sequence
from hf_pipelines.research.learners.sequence_modules import Kind
from hf_pipelines.research.params import Choice, Listing, Number, Param


def _report(estimator: SequenceNetwork) -> dict[str, Any]:
    return estimator.report()


def _history_bars(params: Mapping[str, Any]) -> int:
    """Bars before the row's own."""
    return int(params["window"]) - 1


def _outputs(params: Mapping[str, Any], task: Task) -> tuple[Output, ...]:
    if task == "classification":
        return ("classes",)
    if params["horizons"]:
        return ("horizons",)
    return ("point", "quantiles") if params["quantiles"] else ("point",)


def _check(params: Mapping[str, Any]) -> None:
    for name in ("quantiles", "horizons"):
        values = params[name]
        if list(values) != sorted(set(values)):
            raise ValueError(f"`{name}` must be ascending and without repetition, was {list(values)[:5]}.")
    if params["quantiles"] and params["horizons"]:
        raise ValueError(
            f"`quantiles` must be left out beside `horizons`, was {list(params['quantiles'])[:5]}; take a learner for each horizon."
        )
    if params["hidden"] % params.get("heads", 1):
        raise ValueError(
            f"`hidden` must be a multiple of `heads`, was {params['hidden']} with {params['heads']} heads; change one of them."
        )


def _window(default: int) -> Number:
    return Number(
        default=default,
        low=1,
        high=500,
        search=(5, 60) if default > 1 else (1, 60),
        is_whole=True,
        meaning="bars that are read, the row's own among them; without as many before it a row is not predicted",
    )


def _layers(default: int, meaning: str) -> Number:
    return Number(default=default, low=1, high=3, search=(1, 3), is_whole=True, meaning=meaning)


_POOLING: dict[str, Param] = {
    "pooling": Choice(
        default="last",
        names=("last", "attention"),
        is_searched=True,
        meaning="what is read of the window: the state of its last bar, or a mean of all by weights that are learned",
    )
}

_SHARED: dict[str, Param] = {
    "hidden": Number(
        default=32, low=1, high=512, search=(8, 128), is_log=True, is_whole=True, meaning="units of a layer"
    ),
    "dropout": Number(
        default=0.1, low=0.0, high=0.9, search=(0.0, 0.5), meaning="share of the units that each step leaves out"
    ),
    "epochs": Number(default=50, low=1, high=10_000, is_whole=True, meaning="passes over the training rows at most"),
    "early_stopping_epochs": Number(
        default=8,
        low=1,
        high=10_000,
        is_whole=True,
        meaning="epochs without a smaller loss on the validation rows after which training stops; the best epoch is kept",
    ),
    "batch_size": Number(default=256, low=1, high=65_536, is_whole=True, meaning="rows of a step"),
    "learning_rate": Number(
        default=1e-3, low=1e-7, high=1.0, search=(1e-4, 1e-2), is_log=True, meaning="size of a step (AdamW) at first"
    ),
    "schedule": Choice(
        default="cosine",
        names=("constant", "cosine", "linear"),
        meaning="how the size of a step falls, over `epochs`, to a hundredth",
    ),
    "clip_norm": Number(
        default=1.0,
        low=1e-6,
        high=1e6,
        is_log=True,
        meaning="length that a gradient is shortened to where it is longer",
    ),
    "weight_decay": Number(
        default=1e-2, low=0.0, high=10.0, meaning="how fast weights shrink, as a share of the size of a step"
    ),
    "device": Choice(
        default="cpu",
        names=("auto", "cpu", "cuda"),
        meaning="where it is trained; with auto or cuda the bits depend on the machine, predictions need no device",
    ),
    "quantiles": Listing(
        item=Number(default=0.5, low=0.001, high=0.999),
        most=20,
        meaning="quantiles that are predicted beside the mean, ascending; regression alone",
    ),
    "horizons": Listing(
        item=Number(default=1, low=1, high=10_000, is_whole=True),
        most=20,
        meaning="horizons of a target with several, ascending: each gets an output of the same network",
    ),
}


def _entry(kind: Kind, params: Mapping[str, Param]) -> Learner:
    return Learner(
        name=kind,
        family="torch",
        tasks=frozenset({"classification", "regression"}),
        build=partial(SequenceNetwork, kind),
        # What an entry gives stands instead of what all share.
        params={**params, **_SHARED, **params},
        format=ModelFormat("zip", save_sequence, load_sequence),
        check=_check,
        outputs=_outputs,
        is_keyed=True,
        history_bars=_history_bars,
        needs_validation=True,
        keeps_progress=True,
        report=_report,
    )


_STACKED = "recurrent layers, one on the other"

LSTM = _entry("lstm", {"window": _window(20), "layers": _layers(1, _STACKED), **_POOLING})
GRU = _entry("gru", {"window": _window(20), "layers": _layers(1, _STACKED), **_POOLING})
TRANSFORMER = _entry(
    "transformer",
    {
        "window": _window(20),
        "layers": _layers(1, "blocks of attention"),
        # Heads share the units: any power of two up to 16 divides these.
        "hidden": Number(
            default=32, low=1, high=512, search=(16, 128), search_step=16, is_whole=True, meaning="units of a layer"
        ),
        "heads": Number(default=4, low=1, high=16, is_whole=True, meaning="heads of attention, which share the units"),
        **_POOLING,
    },
)
TCN = _entry(
    "tcn",
    {
        "window": _window(20),
        "layers": _layers(3, "blocks of two convolutions, each of bars twice as far apart as the one before"),
        "kernel": Number(default=3, low=2, high=9, is_whole=True, meaning="bars that a convolution reads"),
        **_POOLING,
    },
)
MLP = _entry("mlp", {"window": _window(1), "layers": _layers(2, "layers between features and output")})
