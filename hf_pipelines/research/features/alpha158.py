"""Alpha158: the 158 features of Qlib, under Qlib's names.

Here: their formulas in Qlib's words, and the one call that computes any of them together. Not here: what runs compiled
(`alpha158_kernels.py`).

As in Qlib a window begins short: with fewer bars than it has, a value is made of those there are, and NaN (a halt) is
skipped. NaN comes out

- where Qlib gives NaN: from a NaN of the very bar that the formula names; where nothing is known in the window, or too
  little (two bars for STD, BETA, RSQR, RESI, CORR and VSTD, two changes for CORD and WVMA); ROC before bar d + 1; RSQR and CORR of
  constant prices, CORR and CORD of constant volumes, CORD of constant changes;
- where Qlib gives inf or, thanks to the 1e-12 that it adds to what it divides by, 1e18: something divided by nothing.
  That is VMA and VSTD of a bar without volume (0 where the whole window has none), and KMID2, KUP2, KLOW2, KSFT2 and
  RSV where the highest is the lowest but the close or open is another (0 where they are the same).

Prices are adjusted for total return and volumes for splits, as seen from the window's last bar; where a close is NaN
the split counts and the dividend does not. We differ from Qlib in four points, since a value must not change with the
unit of prices or volumes:

- what Qlib adds to a divisor, 1e-12, is here a share of the price;
- constant prices (RSQR, CORR) spread by less than 1e-9 of their mean, in Qlib by less than 2e-5 in units of price;
- CORR takes `Log($volume)`, Qlib `Log($volume+1)`: a bar without volume is left out, as Qlib leaves it out of CORD;
- `$vwap` is the typical price (high + low + close) / 3: bars carry no amount traded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.features import alpha158_kernels as kernels
from hf_pipelines.research.features.feature import Feature, Input
from hf_pipelines.research.features.panel import Panel
from hf_pipelines.research.features.panel_columns import FloatArray

_SOURCE = "Qlib's Alpha158, Yang et al. (2020), Qlib: An AI-oriented Quantitative Investment Platform, arXiv:2009.11189"

# Tiles that a thread takes at a time: enough to make the hand-over cheap, few enough to end together.
_TILES_A_TASK = 64


def alpha158(panel: Panel, names: Sequence[str], *, n_threads: int | None = None) -> list[npt.NDArray[np.float32]]:
    """Compute features of Alpha158.

    Parameters
    ----------
    panel : Panel
    names : sequence of str
        Of this group, in Qlib's spelling.
    n_threads : int, optional
        Default: as many as polars takes. The values are the same.

    Returns
    -------
    list of float32 arrays of shape (n_wanted,)
        One a name, for the panel's wanted rows only; never infinite, NaN as the module says.
    """
    rows = np.flatnonzero(panel.is_wanted)
    columns = np.full(kernels.N_FEATURES, -1, dtype=np.int64)
    for column, name in enumerate(names):
        columns[_PLACE[name]] = column
    tiles = np.empty((rows.size, 4), dtype=np.int64)
    tiles = tiles[: kernels.plan_tiles(rows, panel.first_readable, tiles)]
    out = np.empty((len(names), rows.size), dtype=np.float32)
    tasks = [tiles[first : first + _TILES_A_TASK] for first in range(0, len(tiles), _TILES_A_TASK)]
    queue = iter(tasks)  # Shared: whichever thread is free takes the next.
    n_threads = max(1, min(n_threads or pl.thread_pool_size(), len(tasks)))
    with ThreadPoolExecutor(n_threads) as pool:
        for done in [pool.submit(_fill, panel, queue, columns, out) for _ in range(n_threads)]:
            done.result()
    return list(out)


def _fill(panel: Panel, tasks: Iterator[kernels.Ints], columns: kernels.Ints, out: kernels.Floats32) -> None:
    # Scratch of one thread, for all its tiles: giving it back to the system each time cost half the run.
    trees = np.empty((kernels.N_TREES, kernels.N_NODES, kernels.TILE_WIDTH))
    lines = np.empty((kernels.N_LINES, kernels.TILE_WIDTH))
    extremes = np.empty((7 * len(kernels.WINDOWS), kernels.TILE_WIDTH))
    for tiles in tasks:
        kernels.fill_tiles(
            tiles, columns, out,
            panel.open, panel.high, panel.low, panel.close, panel.volume, panel.price_factor, panel.split_ratio,
            trees, lines, extremes,
        )  # fmt: skip


def _compute(name: str) -> Callable[[Panel], FloatArray]:
    compute = partial(_one, name=name)
    compute.__doc__ = _one.__doc__
    return compute


def _one(panel: Panel, *, name: str) -> FloatArray:
    """Compute one feature of Alpha158, see `alpha158`; NaN in rows that are not wanted."""
    values = np.full(panel.close.size, np.nan)
    values[panel.is_wanted] = alpha158(panel, [name])[0]
    return values


_OPEN: tuple[Input, ...] = ("open", "close")
_HIGH: tuple[Input, ...] = ("high", "close")
_LOW: tuple[Input, ...] = ("low", "close")
_BAR: tuple[Input, ...] = ("open", "high", "low", "close")
_RANGE: tuple[Input, ...] = ("high", "low", "close")
_CLOSE: tuple[Input, ...] = ("close",)
_VOLUME: tuple[Input, ...] = ("volume",)
_FLOW: tuple[Input, ...] = ("close", "volume")
_GAIN = "Sum(Greater($x-Ref($x,1),0),{d})/Sum(Abs($x-Ref($x,1)),{d}), 0/0 = 0"
_LOSS = "Sum(Greater(Ref($x,1)-$x,0),{d})/Sum(Abs($x-Ref($x,1)),{d}), 0/0 = 0"


def _bar(name: str, inputs: tuple[Input, ...], formula: str) -> list[Feature]:
    return [Feature(name, "alpha158", _compute(name), 1, inputs, formula, _SOURCE, together=alpha158)]


def _windows(
    family: str, inputs: tuple[Input, ...], formula: str, *, least: int | None, is_change: bool = False
) -> list[Feature]:
    """One feature a window, known from bar `least` on; a window of changes reads one bar more than it has."""
    return [
        Feature(
            name := f"{family}{bars}", "alpha158", _compute(name), bars + is_change, inputs,
            formula.replace("{d}", str(bars)), _SOURCE, min_bars=least, together=alpha158,
        )
        for bars in kernels.WINDOWS
    ]  # fmt: skip


# In Qlib's order, which is that of the kernels' columns.
FEATURES = (
    *_bar("KMID", _OPEN, "($close-$open)/$open"),
    *_bar("KLEN", _BAR, "($high-$low)/$open"),
    *_bar("KMID2", _BAR, "($close-$open)/($high-$low+1e-12*$open)"),
    *_bar("KUP", _BAR, "($high-Greater($open,$close))/$open"),
    *_bar("KUP2", _BAR, "($high-Greater($open,$close))/($high-$low+1e-12*$open)"),
    *_bar("KLOW", _BAR, "(Less($open,$close)-$low)/$open"),
    *_bar("KLOW2", _BAR, "(Less($open,$close)-$low)/($high-$low+1e-12*$open)"),
    *_bar("KSFT", _BAR, "(2*$close-$high-$low)/$open"),
    *_bar("KSFT2", _BAR, "(2*$close-$high-$low)/($high-$low+1e-12*$open)"),
    *_bar("OPEN0", _OPEN, "$open/$close"),
    *_bar("HIGH0", _HIGH, "$high/$close"),
    *_bar("LOW0", _LOW, "$low/$close"),
    *_bar("VWAP0", _RANGE, "$vwap/$close, $vwap = ($high+$low+$close)/3"),
    *_windows("ROC", _CLOSE, "Ref($close,{d})/$close", least=None, is_change=True),
    *_windows("MA", _CLOSE, "Mean($close,{d})/$close", least=1),
    *_windows("STD", _CLOSE, "Std($close,{d})/$close", least=2),
    *_windows("BETA", _CLOSE, "Slope($close,{d})/$close", least=2),
    *_windows("RSQR", _CLOSE, "Rsquare($close,{d})", least=2),
    *_windows("RESI", _CLOSE, "Resi($close,{d})/$close", least=2),
    *_windows("MAX", _HIGH, "Max($high,{d})/$close", least=1),
    *_windows("MIN", _LOW, "Min($low,{d})/$close", least=1),
    *_windows("QTLU", _CLOSE, "Quantile($close,{d},0.8)/$close", least=1),
    *_windows("QTLD", _CLOSE, "Quantile($close,{d},0.2)/$close", least=1),
    *_windows("RANK", _CLOSE, "Rank($close,{d})", least=1),
    *_windows("RSV", _RANGE, "($close-Min($low,{d}))/(Max($high,{d})-Min($low,{d})+1e-12*$close)", least=1),
    *_windows("IMAX", _HIGH, "IdxMax($high,{d})/{d}", least=1),
    *_windows("IMIN", _LOW, "IdxMin($low,{d})/{d}", least=1),
    *_windows("IMXD", _RANGE, "(IdxMax($high,{d})-IdxMin($low,{d}))/{d}", least=1),
    *_windows("CORR", _FLOW, "Corr($close,Log($volume),{d})", least=2),
    *_windows("CORD", _FLOW, "Corr($close/Ref($close,1),Log($volume/Ref($volume,1)+1),{d})", least=3, is_change=True),
    *_windows("CNTP", _CLOSE, "Mean($close>Ref($close,1),{d})", least=1, is_change=True),
    *_windows("CNTN", _CLOSE, "Mean($close<Ref($close,1),{d})", least=1, is_change=True),
    *_windows("CNTD", _CLOSE, "CNTP{d}-CNTN{d}", least=1, is_change=True),
    *_windows("SUMP", _CLOSE, _GAIN.replace("$x", "$close"), least=2, is_change=True),
    *_windows("SUMN", _CLOSE, _LOSS.replace("$x", "$close"), least=2, is_change=True),
    *_windows("SUMD", _CLOSE, "SUMP{d}-SUMN{d}", least=2, is_change=True),
    *_windows("VMA", _VOLUME, "Mean($volume,{d})/$volume, 0/0 = 0", least=1),
    *_windows("VSTD", _VOLUME, "Std($volume,{d})/$volume, 0/0 = 0", least=2),
    *_windows("WVMA", _FLOW, "Std(x,{d})/Mean(x,{d}), x = Abs($close/Ref($close,1)-1)*$volume, 0/0 = 0", least=3,
              is_change=True),
    *_windows("VSUMP", _VOLUME, _GAIN.replace("$x", "$volume"), least=2, is_change=True),
    *_windows("VSUMN", _VOLUME, _LOSS.replace("$x", "$volume"), least=2, is_change=True),
    *_windows("VSUMD", _VOLUME, "VSUMP{d}-VSUMN{d}", least=2, is_change=True),
)  # fmt: skip

_PLACE = {feature.name: place for place, feature in enumerate(FEATURES)}
