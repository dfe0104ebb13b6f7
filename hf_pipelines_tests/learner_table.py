"""What every learner finds on the demo's market: score, interval, seconds and size, as docs/guides/choosing-a-learner.md has it: `make learners`.

Lives here: the table. Does not live here: how learners are fitted and scored (`research`). It reads the training matrices of the
demo's last week, and fits every entry of the registry by the folds of the strategies that they were made for, with its defaults:
nothing is tuned, so a place in the table is a beginning, no verdict. Learners of one series a symbol get the return of a bar beside the
features; a third table has some learners on the same rows with how volatile the next bars were. Names given are the learners shown alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import process_time
from typing import Any

import polars as pl
import yaml

from hf_pipelines.research.cross_validation import cross_validate, fit_final
from hf_pipelines.research.features import compute_features
from hf_pipelines.research.learners import LEARNERS, LearnerChoice, choose_learner
from hf_pipelines.research.score_table import tabulate_scores
from hf_pipelines.research.splitters import PurgedWalkForward
from hf_pipelines.research.targets import Target, build_labels, build_target
from hf_pipelines.research.weights import choose_weightings
from hf_pipelines.resources import settings
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_store import PartitionStore

STRATEGIES = Path(__file__).resolve().parents[1] / "hf_pipelines" / "defs" / "strategies"
WEEK = "2013-02-24"
# A strategy with each task, and the scores that its table shows.
SHOWN = {"tech_direction": ("accuracy", "log_loss"), "tech_ranking": ("rmse", "information_coefficient")}

# Rows and folds of `tech_ranking` with another target, and the learners that are shown with it.
VOLATILITY = "tech_ranking: realised volatility"
VOLATILITY_LEARNERS = ("mean", "last_value", "ridge", "lightgbm", "garch", "gjr_garch", "egarch")
RETURN = "return_1"

# What an entry cannot do without.
MEMBERS = {
    "tech_direction": ["logistic", "lightgbm", "random_forest"],
    "tech_ranking": ["ridge", "lightgbm", "random_forest"],
}
FINAL = {"tech_direction": "logistic", "tech_ranking": "ridge"}
NAMED = {"regime_experts": "volatility_20", "last_value": "roc_10", "momentum_sign": "roc_20"}
NAMED_OF_VOLATILITY = {**NAMED, "last_value": "volatility_10"}


@dataclass(frozen=True)
class Line:
    """What one learner came to."""

    name: str
    scores: dict[str, tuple[float, float | None, float | None]]
    verdict: str
    fit_s: float
    size_bytes: int


def choices_for(strategy: str, target: Target) -> Iterator[LearnerChoice]:
    """Every entry that can fit a target, with its defaults and what has none."""
    task = "classification" if target.is_classification else "regression"
    is_volatility = target.name == "realised_volatility"
    named = NAMED_OF_VOLATILITY if is_volatility else NAMED
    for name, entry in LEARNERS.items():
        if task not in entry.tasks or (is_volatility and name not in VOLATILITY_LEARNERS):
            continue
        needed: dict[str, Any] = {"members": MEMBERS[strategy], "final": FINAL[strategy]}
        needed |= {"feature": named[name]} if name in named else {}
        # The target's, or what has a default is left.
        needed |= {"horizon_bars": target.horizon_bars} if entry.require_target is not None else {}
        choice = choose_learner(name, {each: value for each, value in needed.items() if each in entry.params})
        try:
            choice.require_target(target)
        except ValueError:
            continue
        yield choice


def line_of(
    choice: LearnerChoice, matrix: pl.DataFrame, attributes: Any, target: Target, shown: tuple[str, ...]
) -> Line:
    """Cross-validate a learner, score it beside the baselines, and fit it on the whole matrix."""
    splitter = PurgedWalkForward(**attributes["cross_validation"])
    weighting = attributes["training"].get("weighting", "none") if choice.takes_weights else "none"
    seed = 7
    result = cross_validate(
        matrix,
        learner=choice,
        splitter=splitter,
        target=target,
        weightings=choose_weightings(weighting),
        seed=seed,
    )
    table = tabulate_scores(result, matrix, splitter=splitter, target=target, seed=seed)
    pooled = table.scores.filter(pl.col("fold").is_null(), predictor="model")
    found = {row["score"]: (row["value"], row["low"], row["high"]) for row in pooled.iter_rows(named=True)}
    began = process_time()
    model = fit_final(matrix, learner=choice, target=target, seed=seed)
    return Line(
        choice.name, {each: found[each] for each in shown}, table.verdict, process_time() - began, len(model.save())
    )


def returns_of(matrix: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """The matrix with the return of one bar as its last feature."""
    value = compute_features(bars.sort("symbol", "ts"), [RETURN]).select("symbol", "ts", RETURN)
    return matrix.join(value, on=["symbol", "ts"], how="left", maintain_order="left")


def with_volatility(matrix: pl.DataFrame, bars: pl.DataFrame, target: Target) -> pl.DataFrame:
    """The rows of a matrix with labels of realised volatility that end where those of the matrix may end at the latest."""
    labels = build_labels(bars.filter(role="member"), target)
    others = matrix.drop("label_start", "label_end", "target", "y")
    cut = matrix["label_end"].max()
    joined = others.join(labels, on=["symbol", "session", "ts"], how="inner", maintain_order="left")
    return joined.filter(pl.col("label_end") <= cut)


def lines_of(
    strategy: str, store: PartitionStore, *, names: Sequence[str] = (), volatility: bool = False
) -> list[Line]:
    """A line for every learner, or those named, the best first by the first score shown."""
    attributes = yaml.safe_load((STRATEGIES / strategy / "defs.yaml").read_text())["attributes"]
    given = attributes["target"]
    target = build_target(given["type"], horizon_bars=given["horizon_bars"], params=given.get("params"))
    matrix = store.read(f"{strategy}/training_matrix", WEEK).frame
    market = attributes["market"]
    before = matrix["session"].min() - timedelta(days=14)
    weeks = [each for each in store.partitions(f"{market}/bars") if str(before) <= each < WEEK]
    bars = pl.concat([store.read(f"{market}/bars", each).frame for each in weeks])
    if volatility:
        target = build_target("realised_volatility", horizon_bars=target.horizon_bars)
        matrix = with_volatility(matrix, bars, target)
    with_returns = returns_of(matrix, bars)
    lines = []
    for choice in choices_for(strategy, target):
        if names and choice.name not in names:
            continue
        shown_rows = with_returns if choice.params.get("feature") == RETURN else matrix
        lines.append(line_of(choice, shown_rows, attributes, target, SHOWN[strategy]))
        print(f"{strategy}: {choice.name} fitted in {lines[-1].fit_s:.1f} CPU s", file=sys.stderr, flush=True)
    first = SHOWN[strategy][0]
    sign = -1.0 if first == "accuracy" else 1.0
    return sorted(lines, key=lambda line: sign * line.scores[first][0])


def page_of(strategy: str, lines: list[Line]) -> Iterator[str]:
    """The table in Markdown."""
    shown = SHOWN[strategy]
    yield f"| learner | {' | '.join(f'{each} (interval of 95 %)' for each in shown)} | beats the best baseline | fit, CPU s | kB |"
    yield "|---" * (len(shown) + 4) + "|"
    for line in lines:
        cells = [_cell(*line.scores[each]) for each in shown]
        beats = "yes" if " beats " in line.verdict else "no"
        size = f"{line.size_bytes / 1e3:,.0f}" if line.size_bytes >= 1e3 else "under 1"
        yield f"| `{line.name}` | {' | '.join(cells)} | {beats} | {line.fit_s:.2f} | {size} |"


def _cell(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:.4f}" + (f" ({low:.4f} to {high:.4f})" if low is not None and high is not None else "")


def main() -> int:
    """Print the tables."""
    store = PartitionStore(ObjectStore(settings.storage_uri()))
    names = sys.argv[1:]
    for strategy in SHOWN:
        print(f"\n## {strategy}, week {WEEK}\n")
        print("\n".join(page_of(strategy, lines_of(strategy, store, names=names))), flush=True)
    print(f"\n## {VOLATILITY}, week {WEEK}\n")
    print("\n".join(page_of("tech_ranking", lines_of("tech_ranking", store, names=names, volatility=True))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
