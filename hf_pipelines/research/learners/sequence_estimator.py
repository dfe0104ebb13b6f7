"""Sequence estimator: what all networks of windows share, from rows to predictions.

Lives here: the estimator and its file. Not here: windows (`sequence_windows`), networks (`sequence_modules`), how they are trained
(`sequence_training`), the entries with their parameters (`sequence_learners`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hf_pipelines.research.learners.archive import pack, unpack
from hf_pipelines.research.learners.devices import choose_device
from hf_pipelines.research.learners.learner import Rows, Setup, TrainingRows
from hf_pipelines.research.learners.sequence_modules import Kind, Shape, build_network
from hf_pipelines.research.learners.sequence_training import (
    Aim,
    Examples,
    Losses,
    train_network,
    use_one_thread,
    window_view,
)
from hf_pipelines.research.learners.sequence_windows import Scaling, Windows, cut_windows, labels_by_window
from hf_pipelines.research.learners.tensor_bytes import fill_network, load_tensors, save_tensors

_WEIGHTS, _STATE = "network.safetensors", "network.json"

# Always as many, the last block filled up: how a product of matrices rounds depends on their shapes, and a row alone must be
# predicted as among others.
_WINDOWS_AT_A_TIME = 256


class SequenceNetwork:
    """A network of windows: for returns, returns of several horizons, quantiles beside a return, or classes.

    Features are scaled to mean 0 and deviation 1 of the training rows with a weight, returns likewise.

    Parameters
    ----------
    kind : str
    params : mapping
    setup : Setup

    Attributes
    ----------
    network : torch module
    scaling : Scaling
        Of the features.
    labels : Scaling
        Of the returns, a column a horizon; of classes 0 and 1.
    losses : Losses
    told : dict
        What else is told of the fit.
    """

    network: Any
    scaling: Scaling
    labels: Scaling

    def __init__(self, kind: Kind, params: Mapping[str, Any], setup: Setup) -> None:
        self.kind = kind
        self.params = params
        self.setup = setup
        self.aim = Aim()
        self.losses = Losses()
        self.told: dict[str, Any] = {}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """As scikit-learn's, so that it can be cloned."""
        return {"kind": self.kind, "params": self.params, "setup": self.setup}

    @property
    def classes_(self) -> np.ndarray:
        """Codes of the classes."""
        return np.arange(self.aim.n_classes)

    @property
    def horizons(self) -> tuple[int, ...]:
        """Horizons that it predicts; none: one label a row."""
        return () if self.setup.task == "classification" else tuple(map(int, self.params["horizons"]))

    def fit(self, rows: TrainingRows, validation: TrainingRows | None) -> SequenceNetwork:
        """Train until the validation windows get no better.

        Rows of weight 0 are history alone.

        Raises
        ------
        ValueError
            Without validation rows or windows; if a feature is unknown (NaN), a class has no training row, the horizons are
            not those of the rows, or the device is not there.
        """
        if validation is None:
            raise ValueError(
                "`validation` must be given for a learner that stops early, was None; cut it from the training rows."
            )
        device = choose_device(self.params["device"], _is_built_for_cuda)
        use_one_thread()
        self._check_rows(rows, validation)
        self.aim = self._aim_of(rows, validation)
        weighed = rows.weight > 0.0
        self.scaling = Scaling.of(rows.X[weighed], rows.weight[weighed])
        self.labels = self._scale_of_labels(rows)
        examples, too_short = self._examples(rows, "training")
        judged, _ = self._examples(validation, "validation")
        network = self._unfitted(device)
        _begin_with(network, self._bias(examples))
        self.losses = train_network(
            network,
            examples=examples,
            validation=judged,
            aim=self.aim,
            params=self.params,
            seed=self.setup.seed,
            device=device,
            progress=self.setup.progress,
            fit=self._digest(examples, judged),
        )
        # Predictions need no device.
        self.network = network.cpu()
        self.told = {
            "windows": len(examples),
            "validation_windows": len(judged),
            "too_short": too_short,
            "threads": 1,
            "device": device,
        }
        return self

    def predict(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        """Returns of the rows that are wanted, of several horizons a column each; NaN where there is too little history."""
        found = self._ask(rows, wanted)[:, : self.aim.n_horizons]
        found = self.labels.mean + self.labels.deviation * found
        return found if self.horizons else np.asarray(found[:, 0])

    def predict_proba(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        """Probabilities, a column a class; NaN where there is too little history."""
        found = self._ask(rows, wanted)
        sizes = np.exp(found - found.max(axis=1, keepdims=True))
        return np.asarray(sizes / sizes.sum(axis=1, keepdims=True))

    def predict_quantiles(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        """Quantiles, a column each, never crossing; NaN where there is too little history."""
        found = self._ask(rows, wanted)[:, self.aim.n_horizons :]
        return np.sort(self.labels.mean + self.labels.deviation * found, axis=1)

    def report(self) -> dict[str, Any]:
        """Epochs and losses, and on what it was trained."""
        best = self.losses.best_epoch
        return {
            "best_epoch": best,
            "validation_loss": self.losses.validation[best - 1],
            "training_losses": self.losses.training,
            "validation_losses": self.losses.validation,
            **self.told,
        }

    def _unfitted(self, device: str) -> Any:
        shape = Shape(self.kind, len(self.scaling.mean), self.aim.n_outputs, self.params)
        return build_network(shape, seed=self.setup.seed, device=device)

    def _ask(self, rows: Rows, wanted: np.ndarray) -> np.ndarray:
        """Outputs of the network for the rows that are wanted, in float64; NaN where there is too little history."""
        import torch

        use_one_thread()
        _check_known(rows)
        windows = self._windows(rows)
        end, is_asked = windows.end[wanted], windows.is_whole[wanted]
        found = np.full((len(end), self.aim.n_outputs), np.nan)
        asked, at = np.unique(end[is_asked], return_inverse=True)
        if not len(asked):
            return found
        view = window_view(torch.from_numpy(windows.bars), windows.length)
        begin = torch.from_numpy(asked - (windows.length - 1))
        blocks = []
        with torch.inference_mode():
            for part in torch.split(begin, _WINDOWS_AT_A_TIME):
                filled = torch.cat([part, part[-1:].expand(_WINDOWS_AT_A_TIME - len(part))])
                blocks.append(self.network(view[filled])[: len(part)].double().numpy())
        found[is_asked] = np.concatenate(blocks)[at]
        return found

    def _windows(self, rows: Rows) -> Windows:
        return cut_windows(rows, length=self.params["window"], scaling=self.scaling)

    def _check_rows(self, rows: TrainingRows, validation: TrainingRows) -> None:
        for each in (rows, validation):
            _check_known(each)
        if not self.horizons:
            return
        if "horizon" not in rows.keys.columns:
            raise ValueError(
                f"`horizons` must be left out for a target with one label a row, was {list(self.horizons)[:5]}."
            )
        labelled = rows.keys["horizon"].unique().sort().to_list()
        if labelled != list(self.horizons):
            raise ValueError(
                f"`horizons` must be those of the training rows, {labelled[:5]}, was {list(self.horizons)[:5]}."
            )

    def _aim_of(self, rows: TrainingRows, validation: TrainingRows) -> Aim:
        if self.setup.task == "regression":
            return Aim(0, max(len(self.horizons), 1), tuple(self.params["quantiles"]))
        found = {int(each) for each in np.unique(rows.y[rows.weight > 0.0])}
        n_classes = max(int(max(found | {int(each) for each in np.unique(validation.y)})) + 1, 2)
        if lacking := sorted({*range(n_classes)} - found):
            raise ValueError(f"`y` must hold every class in its training rows, was without the codes {lacking[:5]}.")
        return Aim(n_classes=n_classes)

    def _scale_of_labels(self, rows: TrainingRows) -> Scaling:
        if self.aim.n_classes:
            return Scaling(np.zeros(1), np.ones(1))
        column = rows.keys["horizon"].to_numpy() if self.horizons else np.zeros(len(rows))
        parts = [(column == each) & (rows.weight > 0.0) for each in self.horizons or (0,)]
        found = [Scaling.of(rows.y[part, None], rows.weight[part]) for part in parts]
        return Scaling(
            np.concatenate([each.mean for each in found]), np.concatenate([each.deviation for each in found])
        )

    def _examples(self, rows: TrainingRows, which: str) -> tuple[Examples, int]:
        """Windows with labels, and how many rows have a label and too little history."""
        windows = self._windows(rows)
        end, y, weight = labels_by_window(windows, rows, rows.y, rows.weight, horizons=self.horizons)
        if not len(end):
            raise ValueError(
                f"`window` must be short enough for the {which} rows, was {windows.length} bars, and none of {len(rows)} rows has "
                "as many up to it without a gap; take a shorter one, or train on more weeks."
            )
        too_short = int(((rows.weight > 0.0) & ~windows.is_whole).sum())
        scaled = np.where(weight > 0.0, (y - self.labels.mean) / self.labels.deviation, 0.0)
        weight = weight * (len(end) / weight.sum())
        found = Examples(windows.bars, windows.length, end, scaled.astype(np.float32), weight.astype(np.float32))
        return found, too_short

    def _bias(self, examples: Examples) -> np.ndarray:
        """Output that is right for whom knows no feature."""
        if self.aim.n_classes:
            counts = np.bincount(
                examples.labels[:, 0].astype(int), weights=examples.weights[:, 0], minlength=self.aim.n_classes
            )
            return np.asarray(np.log((counts + 1.0) / (counts + 1.0).sum()))
        # Scaled returns have mean 0.
        return np.concatenate([np.zeros(self.aim.n_horizons), np.quantile(examples.labels[:, 0], self.aim.quantiles)])

    def _digest(self, *parts: Examples) -> str:
        """Hash of all that decides about the result of the training."""
        import torch

        settings = [self.kind, dict(self.params), self.setup.task, self.setup.seed, torch.__version__]
        digest = hashlib.sha256(json.dumps(settings).encode())
        for each in parts:
            for array in (each.bars, each.end, each.labels, each.weights):
                digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
        return digest.hexdigest()


def _check_known(rows: Rows) -> None:
    if np.isnan(rows.X).any():
        raise ValueError(
            "`X` must not hold unknown features (NaN) for a network, was with some; fill them by the preprocessing imputation."
        )


def _begin_with(network: Any, bias: np.ndarray) -> None:
    import torch

    with torch.no_grad():
        network.head.bias.copy_(torch.from_numpy(bias.astype(np.float32)))


def _is_built_for_cuda() -> bool:
    import torch

    return torch.version.cuda is not None


def save_sequence(estimator: SequenceNetwork) -> bytes:
    """Weights as safetensors and everything else as JSON, in one archive."""
    state = {
        "mean": estimator.scaling.mean.tolist(),
        "deviation": estimator.scaling.deviation.tolist(),
        "label_mean": estimator.labels.mean.tolist(),
        "label_deviation": estimator.labels.deviation.tolist(),
        "n_classes": estimator.aim.n_classes,
        "training_losses": estimator.losses.training,
        "validation_losses": estimator.losses.validation,
        "told": estimator.told,
    }
    weights = save_tensors(estimator.network.state_dict())
    return pack({_WEIGHTS: weights, _STATE: json.dumps(state, sort_keys=True).encode()})


def load_sequence(data: bytes, unfitted: SequenceNetwork) -> SequenceNetwork:
    """Return a network that predicts.

    Raises
    ------
    ValueError
        If the archive does not hold the weights and the numbers of such a network.
    """
    files = unpack(data, [_WEIGHTS, _STATE])
    try:
        state = json.loads(files[_STATE])
        unfitted.scaling = Scaling(_numbers(state["mean"]), _numbers(state["deviation"]))
        unfitted.labels = Scaling(_numbers(state["label_mean"]), _numbers(state["label_deviation"]))
        unfitted.losses = Losses(
            _numbers(state["training_losses"]).tolist(), _numbers(state["validation_losses"]).tolist()
        )
        unfitted.told = dict(state["told"])
        n_classes, n_features = int(state["n_classes"]), len(unfitted.scaling.mean)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as e:
        raise ValueError(
            f"`data` must hold the numbers of a network in JSON, was with others ({type(e).__name__}: {str(e)[:80]})."
        ) from e
    deviations = np.concatenate([unfitted.scaling.deviation, unfitted.labels.deviation])
    if not (deviations > 0.0).all():
        raise ValueError(f"`data` must hold deviations above 0, was with {deviations.min():g}.")
    is_classification = unfitted.setup.task == "classification"
    n_horizons = 1 if is_classification else max(len(unfitted.horizons), 1)
    sizes = [len(unfitted.scaling.deviation), len(unfitted.labels.mean), len(unfitted.labels.deviation)]
    if (
        is_classification != (2 <= n_classes <= _MOST_CLASSES)
        or n_features < 1
        or sizes != [n_features, n_horizons, n_horizons]
    ):
        raise ValueError(
            f"`data` must be of a network for {unfitted.setup.task}, was with {n_classes} classes and numbers of {n_features}, "
            f"{sizes} columns; it is of another learner."
        )
    quantiles = () if is_classification else tuple(unfitted.params["quantiles"])
    unfitted.aim = Aim(n_classes if is_classification else 0, n_horizons, quantiles)
    tensors = load_tensors(files[_WEIGHTS])
    _check_size(unfitted, tensors)
    network = unfitted._unfitted("cpu")
    fill_network(network, tensors)
    unfitted.network = network.eval()
    return unfitted


# A file may say any number: a network is made for it before its weights are compared.
_MOST_CLASSES = 1_000


def _check_size(unfitted: SequenceNetwork, tensors: Mapping[str, Any]) -> None:
    """Whether the file is as large as what its numbers ask for, so that nothing larger is made."""
    n_features, held = len(unfitted.scaling.mean), sum(value.numel() for value in tensors.values())
    if n_features * unfitted.params["hidden"] > held:
        raise ValueError(
            f"`data` must hold a weight for each of {n_features} features and each unit, was with {held} numbers."
        )


def _numbers(values: Any) -> np.ndarray:
    """A list of finite numbers."""
    if not isinstance(values, list) or not all(
        isinstance(each, int | float) and not isinstance(each, bool) and math.isfinite(each) for each in values
    ):
        raise ValueError("it must be a list of finite numbers")
    return np.array(values, dtype=np.float64)
