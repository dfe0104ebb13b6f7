"""FinBERT through transformers, on a tiny BERT made here: three layers deep in words, not in meaning."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hf_pipelines.research.sentiment import score_news
from hf_pipelines.resources.sentiment import FinbertScorer
from hf_pipelines_tests.research.test_sentiment import _news

# Seconds of imports in each process that needs it.
pytestmark = pytest.mark.xdist_group("transformers")

LABELS = {0: "neutral", 1: "positive", 2: "negative"}
TEXTS = ["profit rose", "loss", "profit fell and loss rose", "", "an unseen word"]


def _tiny_bert(folder: Path, labels: dict[int, str]) -> Path:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: extra `finbert`")
    import torch

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "profit", "loss", "rose", "fell", "and", "word"]
    (folder / "vocab.txt").write_text("\n".join(words))
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        num_labels=3, id2label=labels, label2id={label: number for number, label in labels.items()},
        # Weights large enough for the texts to differ.
        initializer_range=1.0,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return _tiny_bert(tmp_path_factory.mktemp("bert") / "tiny", LABELS)


def _by_hand(checkpoint: Path, text: str) -> np.ndarray:
    """Probabilities of positive, negative, neutral, one text at a time, by transformers alone."""
    import torch
    from transformers import BertForSequenceClassification, BertTokenizerFast

    tokens = BertTokenizerFast.from_pretrained(checkpoint)(text, return_tensors="pt", truncation=True, max_length=512)
    network = BertForSequenceClassification.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        logits = network(**tokens).logits[0].double()
    # The checkpoint's order is neutral, positive, negative.
    return torch.softmax(logits, dim=0).numpy()[[1, 2, 0]]


def test_finbert_agrees_with_transformers_text_by_text(checkpoint):
    scores = FinbertScorer(str(checkpoint))(TEXTS)
    np.testing.assert_allclose(scores, [_by_hand(checkpoint, text) for text in TEXTS], atol=1e-5)
    assert np.ptp(scores, axis=0).min() > 0.05


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_finbert_scores_do_not_depend_on_the_batch(checkpoint, batch_size):
    whole = FinbertScorer(str(checkpoint))(TEXTS)
    np.testing.assert_allclose(FinbertScorer(str(checkpoint), batch_size)(TEXTS), whole, atol=1e-5)
    np.testing.assert_allclose(FinbertScorer(str(checkpoint), batch_size)(TEXTS[::-1])[::-1], whole, atol=1e-5)


def test_finbert_reads_the_order_of_labels_from_the_checkpoint(checkpoint, tmp_path):
    # The same weights, whose second output is now called negative and whose third positive.
    other = _tiny_bert(tmp_path / "other", {0: "Neutral", 1: "Negative", 2: "Positive"})
    ours, theirs = (FinbertScorer(str(folder))(TEXTS) for folder in (checkpoint, other))
    np.testing.assert_allclose(theirs, ours[:, [1, 0, 2]])


def test_finbert_truncates_at_512_tokens(checkpoint):
    # 510 words between [CLS] and [SEP]: what comes after changes nothing, what comes before does.
    long = FinbertScorer(str(checkpoint))(["profit " * 510, "profit " * 510 + "loss " * 400, "loss " + "profit " * 600])
    np.testing.assert_allclose(long[1], long[0], atol=1e-7)
    assert np.abs(long[2] - long[0]).max() > 1e-5


def test_finbert_of_no_texts_gives_no_rows(checkpoint):
    assert FinbertScorer(str(checkpoint))([]).shape == (0, 3)


def test_finbert_scores_a_news_table(checkpoint):
    scored = score_news(_news("profit rose", "loss"), FinbertScorer(str(checkpoint)))
    np.testing.assert_allclose(scored.select("positive", "negative", "neutral").sum_horizontal(), 1.0)


def test_finbert_without_a_model_is_an_error_and_never_zeros(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed: extra `finbert`")
    with pytest.raises(ValueError, match="`model` must be the folder of a checkpoint .*was '.*nowhere'"):
        FinbertScorer(str(tmp_path / "nowhere"))(["profit"])


def test_finbert_of_other_labels_is_refused(tmp_path):
    folder = _tiny_bert(tmp_path / "unnamed", {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"})
    with pytest.raises(ValueError, match=r"labels \['positive', 'negative', 'neutral'\], was \['label_0', 'label_1'"):
        FinbertScorer(str(folder))(["profit"])


def test_finbert_of_pickled_weights_is_refused(checkpoint, tmp_path):
    import torch
    from safetensors.torch import load_file

    folder = _tiny_bert(tmp_path / "pickled", LABELS)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="`model` must be the folder of a checkpoint with safetensors"):
        FinbertScorer(str(folder))(["profit"])


def test_finbert_without_transformers_says_what_to_install():
    # A process in which the package cannot be imported.
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "from hf_pipelines.resources.sentiment import FinbertScorer\n"
        "try: FinbertScorer('x')(['profit'])\n"
        "except ImportError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == (
        "`transformers` must be installed to score with FinBERT, was not; install hf_pipelines[finbert]."
    )


def test_importing_the_scorer_imports_neither_transformers_nor_torch():
    code = (
        "import json, sys, hf_pipelines.resources.sentiment, hf_pipelines.research.sentiment\n"
        "print(json.dumps([name for name in ('transformers', 'torch') if name in sys.modules]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == []


def test_finbert_refuses_a_batch_of_nothing():
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, was 0"):
        FinbertScorer("x", batch_size=0)
