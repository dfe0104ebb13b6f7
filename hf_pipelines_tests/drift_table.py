"""How often drift is called where there is none, and what is found where there is: `make drift`.

Lives here: many stationary histories, and planted shifts. The short form is in `research/drift/test_judgement.py`.
"""

import os
import sys
from collections.abc import Iterator
from time import process_time

import numpy as np
import polars as pl

from hf_pipelines.research.drift import Drift
from hf_pipelines.research.drift.judgement import ERROR, NOT_JUDGED
from hf_pipelines_tests.drift_series import KINDS, REFERENCE, WINDOW, drawn_columns, in_window, judged

# HF_DRIFT_DAYS of them; with 500 symbols, where a day takes a second, one in 25.
N_DAYS = int(os.environ.get("HF_DRIFT_DAYS", "500"))
N_LARGE_DAYS = max(N_DAYS // 25, 1)
SYMBOLS = 500

# Most alarms, in multiples of the family error; of "AR 0.98" none is judged.
MOST = {"iid": 2.0, "AR 0.5": 2.0, "AR 0.9": 3.0, "AR 0.98": 3.0, "GARCH": 3.0, "mixed": 3.0}
MIXED = ("iid", "AR 0.5", "AR 0.9", "AR 0.9")

SHIFT, LEAST_FOUND = 1.5, 0.95


def judged_day(seed: int, kinds: list[str], *, n_symbols: int = 1, shift: float = 0.0) -> Drift:
    """Judgement of one drawn day; the first column is shifted in its window."""
    frame = drawn_columns(np.random.default_rng([seed, len(kinds)]), kinds, REFERENCE + WINDOW, n_symbols=n_symbols)
    return judged(in_window(frame, pl.col("x0") + shift))


def alarms(n_days: int, n_columns: int, n_symbols: int) -> Iterator[tuple[str, float, float, float]]:
    """Kind, share of days with an alarm, share of columns that are not judged, and share with an index above 0.2."""
    for kind in (*KINDS, "mixed"):
        kinds = [MIXED[place % len(MIXED)] if kind == "mixed" else kind for place in range(n_columns)]
        found = [judged_day(seed, kinds, n_symbols=n_symbols) for seed in range(n_days)]
        yield (
            kind,
            float(np.mean([bool(each.drifted) for each in found])),
            float(np.mean([(each.columns["verdict"] == NOT_JUDGED).mean() for each in found])),
            float(np.mean([(each.columns["population_stability_index"] > 0.2).mean() for each in found])),
        )


def main() -> int:
    """Print the table; 1 if a limit does not hold."""
    began, faults = process_time(), []
    print(f"Family error {ERROR:.0%} a day, window of {WINDOW} sessions after {REFERENCE}.")
    print(
        f"{'series':<10}{'columns':>8}{'symbols':>8}{'days':>6}{'alarms':>8}{'limit':>7}{'not judged':>12}{'index > 0.2':>13}"
    )
    for n_days, n_columns, n_symbols in (
        (N_DAYS, 1, 1),
        (N_DAYS, 20, 1),
        (N_DAYS // 4, 60, 1),
        (N_LARGE_DAYS, 5, SYMBOLS),
    ):
        for kind, share, left_out, above in alarms(n_days, n_columns, n_symbols):
            limit = MOST[kind] * ERROR
            # Three standard errors of the limit itself: a few days cannot tell more.
            if share > limit + 3.0 * np.sqrt(limit * (1.0 - limit) / n_days):
                faults.append(f"{kind}, {n_columns} columns, {n_symbols} symbols: {share:.1%} of days")
            print(
                f"{kind:<10}{n_columns:>8}{n_symbols:>8}{n_days:>6}{share:>8.1%}{limit:>7.0%}{left_out:>12.0%}{above:>13.0%}",
                flush=True,
            )
    for kind in ("iid", "AR 0.5", "AR 0.9"):
        found = [judged_day(seed, [kind] * 60, shift=SHIFT) for seed in range(N_DAYS // 4)]
        named = float(np.mean(["x0" in each.drifted for each in found]))
        if kind != "AR 0.9" and named < LEAST_FOUND:
            faults.append(f"a shift at {kind}: found in {named:.1%}")
        print(f"a shift of {SHIFT} deviations in one of 60 columns, {kind}: found in {named:.1%}", flush=True)
    print(f"{process_time() - began:.0f} CPU seconds")
    for fault in faults:
        print(f"LIMIT: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
