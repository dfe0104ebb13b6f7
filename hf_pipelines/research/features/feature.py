"""What a feature is: a name, a window, its inputs and the function that computes it.

Here: `Feature`, and the builders of the tables that end each group's module. Not here: the tables joined
(`registry.py`), how a window slides (`windows.py`).

Every feature is a function of exactly the last `lookback_bars` bars of a symbol (of its splits in the last `lookback_days`, of
the bars of the benchmark and of the universe at those sessions, of the calendar, and of what was known of the symbol before the session opened), so a
stored value never depends on what else was loaded with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from hf_pipelines.research.features.panel import Panel
from hf_pipelines.research.features.panel_columns import FloatArray

Input = Literal[
    "open", "high", "low", "close", "volume", "benchmark", "volatility_index", "sector", "universe",
    "session", "next_session", "calendar", "planned_holidays", "fundamentals", "insider_trades", "short_interest", "news",
    "session_open",
]  # fmt: skip

# What a market has to store before a value of week W: its longest window must fit into the weeks it reads.
MAX_LOOKBACK_BARS = 300
MAX_LOOKBACK_DAYS = 420

Columns = Sequence[npt.NDArray[np.float32] | FloatArray]


@dataclass(frozen=True)
class Feature:
    """One feature column.

    Attributes
    ----------
    name, group : str
        The column, and the dataset it is stored in.
    compute : callable
        `compute(panel) -> float64 array of shape (n_rows,)`, aligned with the panel's rows. Row t may depend
        on the symbol's bars t - lookback_bars + 1 to t only.
    lookback_bars : int
        Bars of the symbol that a value reads, the current one included.
    inputs : tuple of str
        What a value is made of. "benchmark" needs reference bars, "next_session" the calendar.
    formula : str
        What is computed, in one line, for the reader of a model card.
    source : str
        Paper, book or library that defines it.
    min_bars : int, optional
        Bars without which the value is NaN. Default: `lookback_bars`. With fewer, `compute` reads what there is
        from `panel.first_readable` on.
    together : callable, optional
        `together(panel, names) -> arrays of shape (n_rows,)`, or (n_wanted,) for the wanted rows alone, one a
        name in their order: features that share their work and are computed in one call. `compute` gives the
        same for one name.
    lookback_days : int, optional
        Days of the symbol's bars that a value reads besides, for the splits among them, however many bars they are: bars of
        sessions that opened earlier than this before the row's session change nothing.
    reference_days : int, optional
        Days of reference tables that a value reads: rows that became available earlier than this before the
        row's session change nothing.
    """

    name: str
    group: str
    compute: Callable[[Panel], FloatArray]
    lookback_bars: int
    inputs: tuple[Input, ...]
    formula: str
    source: str = ""
    min_bars: int | None = None
    together: Callable[[Panel, Sequence[str]], Columns] | None = None
    lookback_days: int = 0
    reference_days: int = 0

    def __post_init__(self) -> None:
        if unknown := [item for item in self.inputs if item not in get_args(Input)]:
            raise ValueError(
                f"`inputs` must be among {', '.join(get_args(Input))}, was {', '.join(map(repr, unknown))} for {self.name}."
            )
        if not 1 <= self.lookback_bars <= MAX_LOOKBACK_BARS:
            raise ValueError(
                f"`lookback_bars` must be from 1 to {MAX_LOOKBACK_BARS}, was {self.lookback_bars} for {self.name}."
            )
        if not 1 <= self.required_bars <= self.lookback_bars:
            raise ValueError(
                f"`min_bars` must be from 1 to `lookback_bars` ({self.lookback_bars}), was {self.min_bars} for {self.name}."
            )
        if not 0 <= self.lookback_days <= MAX_LOOKBACK_DAYS:
            raise ValueError(
                f"`lookback_days` must be from 0 to {MAX_LOOKBACK_DAYS}, was {self.lookback_days} for {self.name}."
            )

    @property
    def window(self) -> str:
        """How far back a value reads, in words."""
        bars = "1 bar" if self.lookback_bars == 1 else f"{self.lookback_bars} bars"
        days = {"splits": self.lookback_days, "tables": self.reference_days}
        return ", ".join([bars, *(f"{what} of {n} days" for what, n in days.items() if n)])

    @property
    def required_bars(self) -> int:
        """Bars without which the value is NaN."""
        return self.lookback_bars if self.min_bars is None else self.min_bars
