"""Training of sequence modules: one loop for all of them, which can be killed after any epoch and goes on to the same bits.

Lives here: batches, losses, the rate of learning, early stopping, and the state that is kept each epoch. Not here: networks
(`sequence_modules`), what rows are trained on (`sequence_estimator`). Epochs are run by skorch; torch and skorch are loaded where
they are used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hf_pipelines.research.learners.archive import pack, unpack
from hf_pipelines.research.learners.learner import Progress
from hf_pipelines.research.learners.sequence_modules import Module
from hf_pipelines.research.learners.tensor_bytes import load_tensors, save_tensors

_TENSORS, _NUMBERS = "state.safetensors", "state.json"

# Share of the first rate that the last epoch has under the schedules that fall.
_LAST_RATE = 0.01


@dataclass(frozen=True, eq=False)
class Examples:
    """Windows with what is learned from them.

    Attributes
    ----------
    bars : ndarray of shape (n_bars, n_features), float32
    length : int
        Bars of a window.
    end : ndarray of shape (n_windows,), int64
        Place of each window's last bar.
    labels, weights : ndarray of shape (n_windows, n_columns), float32
        Class codes or scaled returns; weights of all windows add up to their number.
    """

    bars: np.ndarray
    length: int
    end: np.ndarray
    labels: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.end)


@dataclass(frozen=True)
class Aim:
    """What a network predicts.

    Attributes
    ----------
    n_classes : int
        0: returns.
    n_horizons : int
        Returns of one window.
    quantiles : tuple of float
        Beside the one return.
    """

    n_classes: int = 0
    n_horizons: int = 1
    quantiles: tuple[float, ...] = ()

    @property
    def n_outputs(self) -> int:
        return self.n_classes or self.n_horizons + len(self.quantiles)


@dataclass
class Losses:
    """How a training went.

    Attributes
    ----------
    training, validation : list of float
        Mean loss of each epoch: of the training windows as they were seen, with dropout, before each step; and of the validation
        windows after it.
    """

    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)

    @property
    def best_epoch(self) -> int:
        """Number of the epoch with the smallest validation loss, the first is 1; 0 before it."""
        return int(np.argmin(self.validation)) + 1 if self.validation else 0

    def of(self, epoch: int) -> dict[str, float]:
        """Both losses of an epoch, the first is 0."""
        return {"training_loss": self.training[epoch], "validation_loss": self.validation[epoch]}


def use_one_thread() -> None:
    """Let torch compute in one thread of its own from now on: sums that are split over more round differently.

    For good: another thread may be in the middle of a fit when this one ends.
    """
    import torch

    torch.set_num_threads(1)


def window_view(bars: Any, length: int) -> Any:
    """All slices of `length` bars as one view, (n_slices, length, n_features): nothing is copied."""
    return bars.unfold(0, length, 1).transpose(1, 2)


def loss_of(output: Any, labels: Any, weights: Any, aim: Aim) -> Any:
    """Sum of the weighted losses of the labels over the number of windows.

    Cross entropy of classes; squared errors of returns, and beside them the quantile losses.
    """
    import torch

    if aim.n_classes:
        losses = torch.nn.functional.cross_entropy(output, labels[:, 0].long(), reduction="none")[:, None]
    else:
        losses = (output[:, : aim.n_horizons] - labels) ** 2
    total = (losses * weights).sum()
    if aim.quantiles:
        levels = torch.tensor(aim.quantiles, dtype=output.dtype, device=output.device)
        above = labels - output[:, aim.n_horizons :]
        total = total + (torch.maximum(levels * above, (levels - 1.0) * above) * weights).sum()
    return total / len(output)


def rate_of(epoch: int, *, rate: float, schedule: str, epochs: int) -> float:
    """Learning rate of an epoch, the first is 0.

    Examples
    --------
    >>> [round(rate_of(each, rate=1.0, schedule="linear", epochs=4), 2) for each in range(4)]
    [1.0, 0.67, 0.34, 0.01]
    """
    done = epoch / max(epochs - 1, 1)
    match schedule:
        case "cosine":
            left = 0.5 * (1.0 + math.cos(math.pi * done))
        case "linear":
            left = 1.0 - done
        case _:
            return rate
    return rate * (_LAST_RATE + (1.0 - _LAST_RATE) * left)


def train_network(
    network: Module,
    *,
    examples: Examples,
    validation: Examples,
    aim: Aim,
    params: Mapping[str, Any],
    seed: int,
    device: str,
    progress: Progress,
    fit: str,
) -> Losses:
    """Train a network until the validation windows get no better; it has the weights of its best epoch then.

    Parameters
    ----------
    network : Module
        From `build_network`; changed in place.
    examples, validation : Examples
    aim : Aim
    params : mapping
        `epochs`, `early_stopping_epochs`, `batch_size`, `learning_rate`, `schedule`, `clip_norm`, `weight_decay`.
    seed : int
        Of the order of the windows.
    device : {"cpu", "cuda"}
    progress : Progress
        Gets the losses and the state of each epoch.
    fit : str
        Hash of all that decides about the result: the state of another fit is not gone on from.

    Raises
    ------
    ValueError
        If a loss is not finite.
    """
    import torch

    order = torch.Generator().manual_seed(seed)
    net = _skorch_net(network, examples, validation, aim=aim, params=params, order=order, device=device)
    net.initialize()
    training = _Training(net, order)
    kept = progress.restore(fit)
    if kept is not None:
        training.load(kept)
        for epoch in range(len(training.losses.training)):
            progress.log(epoch, training.losses.of(epoch))
    net.notify("on_train_begin", X=None, y=None)
    while not training.is_done(params["epochs"], params["early_stopping_epochs"]):
        epoch = len(training.losses.training)
        for group in net.optimizer_.param_groups:
            group["lr"] = rate_of(
                epoch, rate=params["learning_rate"], schedule=params["schedule"], epochs=params["epochs"]
            )
        # Epoch by epoch: skorch takes an interruption of its whole loop for the end of the training.
        net.fit_loop(net.examples, epochs=1)
        training.note(float(net.history[-1, "train_loss"]), float(net.history[-1, "valid_loss"]))
        progress.keep(fit, training.save())
        progress.log(epoch, training.losses.of(epoch))
    network.load_state_dict(training.best)
    network.eval()
    return training.losses


class _Training:
    """What goes on from epoch to epoch."""

    def __init__(self, net: Any, order: Any) -> None:
        self.net = net
        self.order = order
        self.losses = Losses()
        self.best = self._weights()

    def is_done(self, epochs: int, patience: int) -> bool:
        n = len(self.losses.training)
        return n >= epochs or n - self.losses.best_epoch >= patience

    def note(self, training: float, validation: float) -> None:
        """Add the losses of an epoch."""
        if not (math.isfinite(training) and math.isfinite(validation)):
            raise ValueError(
                f"`learning_rate` must be small enough for finite losses, was not in epoch {len(self.losses.training) + 1}: "
                f"{training:g} in training, {validation:g} in validation; lower it, or look for values that are far off."
            )
        self.losses.training.append(training)
        self.losses.validation.append(validation)
        # The first of equal ones.
        if self.losses.best_epoch == len(self.losses.validation):
            self.best = self._weights()

    def save(self) -> bytes:
        """Everything that the next epoch depends on."""
        optimizer = self.net.optimizer_.state_dict()["state"]
        tensors = {
            **{f"network.{name}": value for name, value in self._weights().items()},
            **{f"best.{name}": value for name, value in self.best.items()},
            **{f"optimizer.{at}.{name}": value for at, of in optimizer.items() for name, value in of.items()},
            "order": self.order.get_state(),
            "draws": self.net.module_.draws.get_state(),
        }
        numbers = {"training": self.losses.training, "validation": self.losses.validation}
        return pack({_TENSORS: save_tensors(tensors), _NUMBERS: json.dumps(numbers).encode()})

    def load(self, state: bytes) -> None:
        """Take back what `save` gave."""
        files = unpack(state, [_TENSORS, _NUMBERS])
        numbers, tensors = json.loads(files[_NUMBERS]), load_tensors(files[_TENSORS])
        self.losses = Losses(numbers["training"], numbers["validation"])
        self.net.module_.load_state_dict(_below("network.", tensors))
        self.best = _below("best.", tensors)
        moments: dict[int, dict[str, Any]] = {}
        for name, value in _below("optimizer.", tensors).items():
            at, _, moment = name.partition(".")
            moments.setdefault(int(at), {})[moment] = value
        whole = self.net.optimizer_.state_dict()
        self.net.optimizer_.load_state_dict({**whole, "state": moments})
        self.order.set_state(tensors["order"])
        self.net.module_.draws.set_state(tensors["draws"])

    def _weights(self) -> dict[str, Any]:
        return {name: value.detach().cpu().clone() for name, value in self.net.module_.state_dict().items()}


def _below(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _skorch_net(
    network: Module,
    examples: Examples,
    validation: Examples,
    *,
    aim: Aim,
    params: Mapping[str, Any],
    order: Any,
    device: str,
) -> Any:
    """skorch's net around a network, with `examples` as its data set."""
    import torch
    from skorch import NeuralNet
    from skorch.helper import predefined_split

    class Data(torch.utils.data.Dataset):
        def __init__(self, given: Examples) -> None:
            self.windows = window_view(torch.from_numpy(given.bars), given.length)
            self.begin = torch.from_numpy(given.end - (given.length - 1))
            self.labels, self.weights = torch.from_numpy(given.labels), torch.from_numpy(given.weights)

        def __len__(self) -> int:
            return len(self.begin)

    class Batches:
        """Windows of a batch at a time: torch's own loader takes one after the other."""

        def __init__(self, dataset: Data, batch_size: int, order: Any = None) -> None:
            self.dataset, self.batch_size, self.order = dataset, batch_size, order

        def __iter__(self) -> Iterator[tuple[Any, Any, Any]]:
            data, n = self.dataset, len(self.dataset)
            numbers = torch.arange(n) if self.order is None else torch.randperm(n, generator=self.order)
            for part in torch.split(numbers, self.batch_size):
                yield data.windows[data.begin[part]], data.labels[part], data.weights[part]

    class Net(NeuralNet):  # type: ignore[misc]  # Without types.
        """skorch's own steps tell every callback of every batch and walk through all modules: a third of a small network's time."""

        def run_single_epoch(self, iterator: Any, training: bool, prefix: str, step_fn: Any, **given: Any) -> None:
            self._set_training(training)
            total, n = 0.0, 0
            for batch in iterator:
                total += step_fn(batch)["loss"].item() * len(batch[0])
                n += len(batch[0])
            self.history.record(f"{prefix}_loss", total / n)

        def train_step(self, batch: Any, **given: Any) -> dict[str, Any]:
            self.optimizer_.zero_grad()
            loss = self._loss(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.module_.parameters(), params["clip_norm"])
            self.optimizer_.step()
            return {"loss": loss.detach()}

        def validation_step(self, batch: Any, **given: Any) -> dict[str, Any]:
            with torch.no_grad():
                return {"loss": self._loss(batch)}

        def _loss(self, batch: Any) -> Any:
            windows, labels, weights = (each.to(self.device) for each in batch)
            return loss_of(self.module_(windows), labels, weights, aim)

    net = Net(
        network,
        # Its steps know the loss.
        torch.nn.Identity,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=params["weight_decay"],
        lr=params["learning_rate"],
        batch_size=params["batch_size"],
        iterator_train=Batches,
        iterator_train__order=order,
        iterator_valid=Batches,
        train_split=predefined_split(Data(validation)),
        callbacks="disable",
        device=device,
        verbose=0,
    )
    net.examples = Data(examples)
    return net
