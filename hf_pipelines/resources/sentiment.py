"""FinBERT: a language model that scores texts, read from a local folder or a hub.

Lives here: the scorer that touches disk and network. Does not live here: the contract it keeps and the scorer that
needs no model (`research/sentiment.py`).
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_pipelines.research.features.panel_columns import FloatArray
from hf_pipelines.research.references import SCORE_COLUMNS

# BERT has positions for 512 tokens; what is beyond is cut off.
_MAX_TOKENS = 512


@dataclass(frozen=True)
class FinbertScorer:
    """Score texts with a BERT classifier of positive, negative and neutral (extra `finbert`).

    Attributes
    ----------
    model : str
        Folder of a checkpoint, or its name on the hub, such as "ProsusAI/finbert". Weights are read as safetensors
        only: other formats can hold code.
    batch_size : int
        Texts at once.

    Notes
    -----
    The order of the labels is read from the checkpoint's `id2label`. Texts of like length share a batch, and padding is
    masked: another batch changes a score by rounding only.
    Araci (2019), "FinBERT: Financial Sentiment Analysis with Pre-trained Language Models", arXiv:1908.10063.
    """

    model: str
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, was {self.batch_size}.")

    def __call__(self, texts: Sequence[str]) -> FloatArray:
        """Probabilities of positive, negative and neutral: float64 of shape (n, 3).

        Raises
        ------
        ImportError
            If `transformers` is not installed.
        ValueError
            If the model cannot be read, or has other labels.
        """
        _, _, order = self._loaded
        scores = np.empty((len(texts), len(order)))
        for rows in self._batches(texts):
            scores[rows] = self._probabilities([texts[row] for row in rows])[:, order]
        return scores

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for first in range(0, len(texts), self.batch_size):
            yield by_length[first : first + self.batch_size]

    def _probabilities(self, texts: list[str]) -> FloatArray:
        import torch

        tokenizer, network, _ = self._loaded
        length = min(_MAX_TOKENS, network.config.max_position_embeddings)
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
        with torch.inference_mode():
            logits = network(**tokens).logits
        return np.asarray(torch.softmax(logits.double(), dim=1).numpy())

    @functools.cached_property
    def _loaded(self) -> tuple[Any, Any, list[int]]:
        """Tokenizer, network, and the positions of `SCORE_COLUMNS` among its labels."""
        try:
            from transformers import AutoModelForSequenceClassification, AutoTokenizer
        except ImportError as e:
            raise ImportError(
                "`transformers` must be installed to score with FinBERT, was not; install hf_pipelines[finbert]."
            ) from e
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.model)
            network = AutoModelForSequenceClassification.from_pretrained(self.model, use_safetensors=True)
        except (OSError, ValueError) as e:
            reason = str(e).strip().splitlines()[0]
            raise ValueError(
                f"`model` must be the folder of a checkpoint with safetensors or its name on a reachable hub, was "
                f"{self.model!r} ({reason})."
            ) from e
        network.eval()
        return tokenizer, network, self._label_order(network.config.id2label)

    def _label_order(self, id2label: dict[int, str]) -> list[int]:
        of_label = {str(label).lower(): int(number) for number, label in id2label.items()}
        if set(of_label) != set(SCORE_COLUMNS):
            raise ValueError(
                f"`model` must have the labels {list(SCORE_COLUMNS)}, was {sorted(of_label)} for {self.model!r}; "
                "set `id2label` in its config.json."
            )
        return [of_label[name] for name in SCORE_COLUMNS]
