"""What it saves to bin the rows of a fold once for several fits: CPU seconds with and without `KeptBins`, and the same bits.

Trials differ in their learning rate alone. Each way three trials on the same rows, one after the other in every round; the least of
each. Exits 1 if a model differs.

    python benchmarks/bench_bins.py [rows [rounds [trees ...]]]
    python benchmarks/bench_bins.py 100000 2 30 300
"""

from __future__ import annotations

import sys
import time

import numpy as np
import polars as pl

from hf_pipelines.research.learners import Setup, TrainingRows, build_pipeline, choose_learner
from hf_pipelines.research.learners.kept_bins import KeptBins

FEATURES, SEED, RATES = 60, 7, (0.03, 0.05, 0.08)
KEEPING = ("xgboost_early_stopping", "lightgbm", "catboost")


def rows_of(n: int) -> tuple[TrainingRows, TrainingRows]:
    """Noise, the first feature of which says a little; the last fifth are validation rows."""
    rng = np.random.default_rng(SEED)
    X = rng.standard_normal((n, FEATURES), dtype=np.float32)
    y = 0.1 * X[:, 0] + rng.normal(size=n)
    names = tuple(f"feature_{at}" for at in range(FEATURES))
    rows = TrainingRows(pl.DataFrame({"row": np.arange(n)}), X, names, y=y, weight=np.ones(n))
    cut = 4 * n // 5
    return rows.take(np.arange(cut)), rows.take(np.arange(cut, n))


def trials(name: str, trees: int, rows: tuple[TrainingRows, TrainingRows], bins: KeptBins | None) -> list[bytes]:
    """Models of every learning rate; none of them stops early."""
    found = []
    for rate in RATES:
        params = {"n_estimators": trees, "early_stopping_rounds": 10_000, "learning_rate": rate}
        setup = Setup("regression", seed=SEED, bins=bins)
        found.append(build_pipeline(choose_learner(name, params), setup).fit(*rows).save())
    return found


def main() -> int:
    """Print what each library saves; 0 if the models are the same."""
    given = [int(each) for each in sys.argv[1:]]
    n_rows, rounds, *tree_counts = given if len(given) > 2 else given + [100_000, 2, 30, 300][len(given) :]
    rows = rows_of(n_rows)
    is_same = True
    for name in KEEPING:
        for trees in tree_counts:
            least = {"anew": np.inf, "kept": np.inf}
            models: dict[str, list[bytes]] = {}
            for _ in range(rounds):
                for way in least:
                    start = time.process_time()
                    models[way] = trials(name, trees, rows, KeptBins() if way == "kept" else None)
                    least[way] = min(least[way], time.process_time() - start)
            same = models["anew"] == models["kept"]
            is_same &= same
            print(
                f"{name}, {n_rows:,} x {FEATURES}, {trees} rounds, {len(RATES)} trials: anew {least['anew']:.2f} CPU s, kept "
                f"{least['kept']:.2f}, saved {1 - least['kept'] / least['anew']:.0%}; models {'the same' if same else 'DIFFER'}",
                flush=True,
            )
    return 0 if is_same else 1


if __name__ == "__main__":
    raise SystemExit(main())
