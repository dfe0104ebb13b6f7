"""Tables of mlfinpy's numbers that tests compare with: it wants an older numpy than ours.

Run in an environment of its own, in the folder of this file:
`pip install mlfinpy==0.1.2 scikit-learn && python mlfinpy_tables.py`.

- `mlfinpy_uniqueness.csv`: labels over spans of the bars of an hour, and their average uniqueness.
- `mlfinpy_barriers.csv`: daily closes; of each the close that meets a barrier first, and which: 1 the profit of 1.5
  deviations of the last 20 returns, -1 the stop of one, 0 neither within ten bars.
"""

import numpy as np
import pandas as pd

N_LABELS, N_BARS, SEED = 120, 160, 7
N_CLOSES, HORIZON, LOOKBACK, PROFIT, STOP = 400, 10, 20, 1.5, 1.0


def uniqueness(rng: np.random.Generator) -> pd.DataFrame:
    # Not in our environment: imported where it is used.
    from mlfinpy.sampling.concurrent import get_av_uniqueness_from_triple_barrier

    bars = pd.date_range("2024-01-01", periods=N_BARS, freq="h")
    start = np.sort(rng.choice(N_BARS - 20, size=N_LABELS, replace=False))
    # Our uniqueness knows the bars at which a label begins or ends, and no others.
    end = np.array([rng.choice(start[at : at + 12]) for at in range(N_LABELS)])
    closes = pd.Series(1.0, index=bars[np.unique(np.concatenate([start, end]))])
    events = pd.DataFrame({"t1": bars[end]}, index=bars[start])
    unique = get_av_uniqueness_from_triple_barrier(events, closes, num_threads=1, verbose=False)
    return pd.DataFrame({"label_start": bars[start], "label_end": bars[end], "uniqueness": unique["tW"].to_numpy()})


def barriers(rng: np.random.Generator) -> pd.DataFrame:
    from mlfinpy.labeling.labeling import triple_barriers

    days = pd.date_range("2020-01-01", periods=N_CLOSES, freq="D")
    close = pd.Series(np.round(100 * np.exp(np.cumsum(rng.normal(0.0003, 0.02, N_CLOSES))), 4), index=days)
    deviation = close.pct_change().rolling(LOOKBACK).std().dropna()
    starts = deviation.index[:-HORIZON]
    last = pd.Series(days[days.get_indexer(starts) + HORIZON], index=starts)
    # Not by `get_events`, which makes the barriers of an unknown side equally wide.
    events = pd.DataFrame({"t1": last, "trgt": deviation[starts], "side": 1.0})
    met = triple_barriers(close, events, np.array([PROFIT, STOP]), starts.to_numpy())
    first = met.min(axis=1)
    which = np.select([first == met["sl"], first == met["pt"]], [-1, 1], 0)
    table = pd.DataFrame({"close": close, "label_end": first, "met": pd.Series(which, index=starts, dtype="Int64")})
    return table.rename_axis("day").reset_index()


def main() -> None:
    rng = np.random.default_rng(SEED)
    uniqueness(rng).to_csv("mlfinpy_uniqueness.csv", index=False, float_format="%.15g")
    barriers(rng).to_csv("mlfinpy_barriers.csv", index=False, float_format="%.15g")


if __name__ == "__main__":
    main()
