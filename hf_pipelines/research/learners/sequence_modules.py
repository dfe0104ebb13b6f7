"""Sequence modules: networks that read a window of bars.

Lives here: the layers, and one network of them for each kind. Not here: windows (`sequence_windows`), training
(`sequence_training`). Torch is loaded where a network is made, so classes of it stand inside of functions.

Random numbers come from a generator of the network's own: folds are fitted side by side in threads, and torch's default
generator belongs to all of them.

References
----------
Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", Neural Computation 9(8).
Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP: the GRU.
Vaswani et al. (2017), "Attention Is All You Need", NeurIPS; Xiong et al. (2020), "On Layer Normalization in the Transformer
Architecture", ICML: normalised before each part.
Bai, Kolter & Koltun (2018), "An Empirical Evaluation of Generic Convolutional and Recurrent Networks", arXiv 1803.01271: the
temporal convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

# torch has types, but is loaded where it is used.
Module: TypeAlias = Any
Generator: TypeAlias = Any

Kind = Literal["lstm", "gru", "transformer", "tcn", "mlp"]

# The inner layer of a transformer's block is as many times wider.
_WIDENING = 2


@dataclass(frozen=True)
class Shape:
    """What a network is made for.

    Attributes
    ----------
    kind : str
    n_features : int
        Of a bar.
    n_outputs : int
    params : mapping
        Those of the learner: `window`, `hidden`, `layers`, `dropout`, and what the kind has of its own.
    """

    kind: Kind
    n_features: int
    n_outputs: int
    params: Mapping[str, Any]


def build_network(shape: Shape, *, seed: int, device: str = "cpu") -> Module:
    """Make a network: windows of shape (n, window, n_features) in, (n, n_outputs) out.

    Its last layer begins at 0: a network that has learned nothing predicts its bias, whatever it sees.

    Parameters
    ----------
    shape : Shape
    seed : int
        Of the first weights and of dropout.
    device : {"cpu", "cuda"}
    """
    import torch
    from torch import nn

    draws = torch.Generator(device).manual_seed(seed)
    hidden = shape.params["hidden"]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(_layers(shape, draws))
            self.pooling = _pooling(shape)
            self.head = nn.Linear(hidden, shape.n_outputs)
            self.draws = draws

        def forward(self, windows: Any) -> Any:
            state = windows.flatten(1).unsqueeze(1) if shape.kind == "mlp" else windows
            for layer in self.layers:
                state = layer(state)
            return self.head(self.pooling(state))

    # Made without values: torch's own first weights would be drawn from the generator that all threads share.
    with torch.device("meta"):
        network = Network()
    network = network.to_empty(device=device)
    _draw_weights(network, draws)
    return network


def _layers(shape: Shape, draws: Generator) -> list[Module]:
    """Layers of a network, each from (n, bars, width) to (n, bars, hidden)."""
    hidden, dropout = shape.params["hidden"], shape.params["dropout"]
    n_inputs = shape.n_features * (shape.params["window"] if shape.kind == "mlp" else 1)
    found: list[Module] = []
    for at in range(shape.params["layers"]):
        width = hidden if at else n_inputs
        match shape.kind:
            case "lstm" | "gru":
                found.append(_recurrent(shape.kind, width, hidden))
            case "tcn":
                found.append(_convolution(width, hidden, shape.params["kernel"], 2**at, dropout, draws))
            case "transformer":
                if not at:
                    found.append(_embedding(n_inputs, hidden, shape.params["window"]))
                found.append(_attention(hidden, shape.params["heads"], dropout, draws))
            case "mlp":
                found.append(_dense(width, hidden))
        # The blocks of the others have theirs inside.
        if shape.kind in ("lstm", "gru", "mlp"):
            found.append(_dropout(dropout, draws))
    return found


def _recurrent(kind: str, width: int, hidden: int) -> Module:
    from torch import nn

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = (nn.LSTM if kind == "lstm" else nn.GRU)(width, hidden, batch_first=True)

        def forward(self, state: Any) -> Any:
            return self.cell(state)[0]

    return Recurrent()


def _convolution(width: int, hidden: int, kernel: int, dilation: int, dropout: float, draws: Generator) -> Module:
    """Two convolutions of a bar and those before it, and the way past them."""
    from torch import nn

    class Convolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv1d(width, hidden, kernel, dilation=dilation)
            self.second = nn.Conv1d(hidden, hidden, kernel, dilation=dilation)
            self.past = nn.Conv1d(width, hidden, 1) if width != hidden else nn.Identity()
            self.dropout = _dropout(dropout, draws)

        def forward(self, state: Any) -> Any:
            found = given = state.transpose(1, 2)
            for convolution in (self.first, self.second):
                # Filled up in front alone: no bar sees a later one.
                found = nn.functional.pad(found, ((kernel - 1) * dilation, 0))
                found = self.dropout(nn.functional.relu(convolution(found)))
            return nn.functional.relu(found + self.past(given)).transpose(1, 2)

    return Convolution()


def _embedding(n_inputs: int, hidden: int, window: int) -> Module:
    """Features to the width of the network, with what each place of the window adds."""
    import torch
    from torch import nn

    class Embedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Linear(n_inputs, hidden)
            self.place = nn.Parameter(torch.empty(window, hidden))

        def forward(self, windows: Any) -> Any:
            return self.features(windows) + self.place

    return Embedding()


def _attention(hidden: int, heads: int, dropout: float, draws: Generator) -> Module:
    """A block of a transformer's encoder: every bar of the window looks at every other, none of them is after the row."""
    from torch import nn

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.between = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
            self.parts, self.joined = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
            self.wide, self.narrow = nn.Linear(hidden, _WIDENING * hidden), nn.Linear(_WIDENING * hidden, hidden)
            self.dropout = _dropout(dropout, draws)

        def forward(self, state: Any) -> Any:
            n, bars, _ = state.shape
            parts = self.parts(self.before(state)).view(n, bars, 3, heads, hidden // heads).permute(2, 0, 3, 1, 4)
            seen = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
            state = state + self.dropout(self.joined(seen.transpose(1, 2).reshape(n, bars, hidden)))
            return state + self.dropout(self.narrow(nn.functional.gelu(self.wide(self.between(state)))))

    return Attention()


def _dense(width: int, hidden: int) -> Module:
    from torch import nn

    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU())


def _dropout(share: float, draws: Generator) -> Module:
    """Dropout that draws from a generator of its own."""
    import torch
    from torch import nn

    class Dropout(nn.Module):
        def forward(self, state: Any) -> Any:
            if not self.training or share == 0.0:
                return state
            kept = torch.empty_like(state).bernoulli_(1.0 - share, generator=draws)
            return state * kept / (1.0 - share)

    return Dropout()


def _pooling(shape: Shape) -> Module:
    """One state of those of all bars: the last, or a mean by weights that are learned."""
    import torch
    from torch import nn

    class Last(nn.Module):
        def forward(self, state: Any) -> Any:
            return state[:, -1]

    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score = nn.Linear(shape.params["hidden"], 1)

        def forward(self, state: Any) -> Any:
            return (torch.softmax(self.score(state), dim=1) * state).sum(dim=1)

    return Weighted() if shape.params.get("pooling") == "attention" else Last()


def _draw_weights(network: Module, draws: Generator) -> None:
    """First weights: even within one over the root of what each sums; norms 1; biases and the last layer 0."""
    import torch

    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.startswith("head.") or value.dim() == 1:
                value.fill_(1.0 if name.endswith(("before.weight", "between.weight")) else 0.0)
            else:
                value.uniform_(-1.0, 1.0, generator=draws).div_(value[0].numel() ** 0.5)
