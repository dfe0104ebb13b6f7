"""Cost of an epoch of our sequence learners against a training loop written by hand over the same views, and of a prediction.

An epoch is 20,000 windows of 20 bars of 20 features and as many validation windows as a fifth of them, in one thread; both ways make
the same steps, and must come to the same losses. They take turns, so that a busy machine slows both, and count CPU seconds. Then a
fresh process loads a model and predicts 500 symbols, imports apart; and each learner with its defaults is stored. Exits 1 if losses
differ, an epoch takes more than MAX_RATIO times the other's, a prediction more than MAX_PREDICTION_S, or a file more than MAX_BYTES.

    python benchmarks/bench_sequences.py [rounds] [learner ...]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from hf_pipelines.research.learners import Setup, TrainingRows, build_pipeline, choose_learner, keyed
from hf_pipelines.research.learners.learner import NO_PROGRESS
from hf_pipelines.research.learners.sequence_modules import Shape, build_network
from hf_pipelines.research.learners.sequence_training import Aim, Examples, train_network, use_one_thread, window_view

WINDOWS, LENGTH, FEATURES, EPOCHS = 20_000, 20, 20, 2
SYMBOLS = 500
MAX_RATIO, MAX_PREDICTION_S, MAX_BYTES = 1.1, 3.0, 5_000_000
LEARNERS = ("gru", "lstm", "transformer", "tcn", "mlp")
SEED = 7


def examples(n: int, seed: int) -> Examples:
    """Windows one after the other, of noise and a label of it."""
    rng = np.random.default_rng(seed)
    bars = rng.normal(size=(n + LENGTH - 1, FEATURES)).astype(np.float32)
    end = np.arange(LENGTH - 1, len(bars))
    labels = (bars[end, :1] + rng.normal(size=(n, 1))).astype(np.float32)
    return Examples(bars, LENGTH, end, labels, np.ones((n, 1), dtype=np.float32))


def network(name: str, params: dict[str, Any]) -> Any:
    return build_network(Shape(name, FEATURES, 1, params), seed=SEED)  # type: ignore[arg-type]


def ours(name: str, params: dict[str, Any], train: Examples, validation: Examples) -> tuple[float, list[float]]:
    """CPU seconds of an epoch, and the losses."""
    made = network(name, params)
    began = time.process_time()
    losses = train_network(
        made,
        examples=train,
        validation=validation,
        aim=Aim(),
        params=params,
        seed=SEED,
        device="cpu",
        progress=NO_PROGRESS,
        fit="",
    )
    return (time.process_time() - began) / EPOCHS, [*losses.training, *losses.validation]


def by_hand(name: str, params: dict[str, Any], train: Examples, validation: Examples) -> tuple[float, list[float]]:
    """The same steps in a loop over views."""
    made = network(name, params)
    began = time.process_time()
    optimizer = torch.optim.AdamW(made.parameters(), lr=params["learning_rate"], weight_decay=params["weight_decay"])
    order = torch.Generator().manual_seed(SEED)
    views = [window_view(torch.from_numpy(each.bars), LENGTH) for each in (train, validation)]
    labels = [torch.from_numpy(each.labels) for each in (train, validation)]
    found: list[list[float]] = [[], []]
    for _ in range(EPOCHS):
        made.train()
        total = 0.0
        for batch in torch.split(torch.randperm(len(train), generator=order), params["batch_size"]):
            optimizer.zero_grad()
            loss = ((made(views[0][batch]) - labels[0][batch]) ** 2).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(made.parameters(), params["clip_norm"])
            optimizer.step()
            total += float(loss.detach()) * len(batch)
        found[0].append(total / len(train))
        made.eval()
        total = 0.0
        with torch.no_grad():
            for batch in torch.split(torch.arange(len(validation)), params["batch_size"]):
                total += float(((made(views[1][batch]) - labels[1][batch]) ** 2).mean()) * len(batch)
        found[1].append(total / len(validation))
    return (time.process_time() - began) / EPOCHS, [*found[0], *found[1]]


def rows(symbols: int, sessions: int) -> TrainingRows:
    """Rows of many symbols, each with every bar."""
    days = [date(2024, 1, 1) + timedelta(days=day) for day in range(sessions)]
    frame = pl.DataFrame({"session": days}).join(
        pl.DataFrame({"symbol": [f"S{n:03d}" for n in range(symbols)]}), how="cross"
    )
    ts = pl.col("session").cast(pl.Datetime("us", "UTC"))
    frame = frame.with_columns(ts=ts, label_start=ts, label_end=ts)
    rng = np.random.default_rng(SEED)
    X = rng.normal(size=(frame.height, FEATURES)).astype(np.float32)
    names = tuple(f"f{n}" for n in range(FEATURES))
    keys = keyed(frame, "label_start", "label_end")
    return TrainingRows(keys, X, names, y=rng.normal(size=len(X)), weight=np.ones(len(X)))


PREDICT = """
import sys, time
from pathlib import Path
import numpy as np, torch, skorch, safetensors.torch
from benchmarks.bench_sequences import LENGTH, SYMBOLS, rows
from hf_pipelines.research.learners import Setup, build_pipeline, choose_learner
given = rows(SYMBOLS, LENGTH)
began = time.process_time()
pipeline = build_pipeline(choose_learner(sys.argv[1]), Setup("regression")).load(Path(sys.argv[2]).read_bytes())
last = given.keys["bar"].to_numpy() == LENGTH - 1
found = pipeline.predict(given, last).point
assert found.shape == (SYMBOLS,) and np.isfinite(found).all()
print(time.process_time() - began)
"""


def stored(name: str) -> bytes:
    """A model with the learner's defaults, but for the number of epochs."""
    given = rows(20, 60)
    bar = given.keys["bar"].to_numpy()
    choice = choose_learner(name, {"epochs": 1})
    return (
        build_pipeline(choice, Setup("regression", seed=SEED)).fit(given.take(bar < 35), given.take(bar >= 35)).save()
    )


def prediction_s(name: str, model: bytes) -> float:
    """CPU seconds of loading and predicting in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        path.write_bytes(model)
        done = subprocess.run(
            [sys.executable, "-c", PREDICT, name, str(path)], check=True, capture_output=True, text=True
        )
    return float(done.stdout)


def main() -> int:
    """Print the figures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    use_one_thread()
    train, validation = examples(WINDOWS, 1), examples(WINDOWS // 5, 2)
    is_sound = True
    print(f"{datetime.now():%Y-%m-%d} least of {rounds}; an epoch of {WINDOWS:,} windows, CPU s: ours, by hand, ratio")
    for name in sys.argv[2:] or LEARNERS:
        params = {**choose_learner(name).params, "epochs": EPOCHS, "dropout": 0.0, "schedule": "constant"}
        params |= {"window": LENGTH}
        times: dict[str, list[float]] = {"ours": [], "by hand": []}
        for _ in range(rounds):
            for way, run in (("ours", ours), ("by hand", by_hand)):
                took, losses = run(name, params, train, validation)
                times[way].append(took)
                if way == "ours":
                    expected = losses
            np.testing.assert_allclose(losses, expected, atol=1e-6)
        ratio = min(times["ours"]) / min(times["by hand"])
        model = stored(name)
        predicted = prediction_s(name, model)
        print(
            f"{name}: {min(times['ours']):.3f}, {min(times['by hand']):.3f}, {ratio:.3f}; {SYMBOLS} symbols loaded and predicted "
            f"in {predicted:.2f} CPU s; {len(model) / 1e3:,.0f} kB",
            flush=True,
        )
        is_sound &= ratio <= MAX_RATIO and predicted <= MAX_PREDICTION_S and len(model) <= MAX_BYTES
    return 0 if is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
