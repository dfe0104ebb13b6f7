"""The registry of features, and the one call that computes them.

Here: `FEATURES`, the groups' tables joined, and `compute_features`. To add a feature: write a function in its group's
module and one line in the table at its end. Not here: what a feature is (`feature.py`), how a value is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from hf_pipelines.research.features import (
    alpha158,
    alternative,
    automated,
    cross_asset,
    cross_section,
    fundamental,
    sentiment,
    statistical,
    technical,
    temporal,
)
from hf_pipelines.research.features.feature import MAX_LOOKBACK_BARS, Columns, Feature, Input
from hf_pipelines.research.features.guarded import guarded
from hf_pipelines.research.features.panel import CalendarChange, Panel, build_panel, with_roles
from hf_pipelines.research.features.panel_columns import FloatArray

Together = Callable[[Panel, Sequence[str]], Columns]

_TABLES: tuple[Input, ...] = ("fundamentals", "insider_trades", "short_interest", "news")

# Inputs that no value can do without, and the argument that brings each. A benchmark may lack bars.
_REQUIRED_FOR: dict[Input, str] = {
    "next_session": "sessions",
    "calendar": "sessions",
    "planned_holidays": "planned_holidays",
    "volatility_index": "volatility_index",
    "sector": "sectors",
    "session_open": "opens",
    **dict.fromkeys(_TABLES, "references"),
}


def compute_features(
    bars: pl.DataFrame,
    names: Iterable[str] | None = None,
    *,
    sessions: Iterable[date] | None = None,
    earliest: Mapping[date, date] | None = None,
    benchmark: str | None = None,
    wanted: Iterable[date] | None = None,
    opens: Mapping[date, datetime] | None = None,
    volatility_index: str | None = None,
    membership: pl.DataFrame | None = None,
    sectors: Mapping[str, str] | None = None,
    references: Mapping[str, pl.DataFrame] | None = None,
    planned_holidays: Iterable[date] | None = None,
    changes: Sequence[CalendarChange] = (),
) -> pl.DataFrame:
    """Compute features for the member rows of `bars`.

    Parameters
    ----------
    bars : DataFrame
        Contract `BARS_SCHEMA`, sorted by (symbol, ts), of members and references. Without `role` every symbol is a
        member but the `benchmark` and the `volatility_index`.
    names : iterable of str, optional
        Features to compute. Default: all that the arguments can feed, so without those that need the
        benchmark if `bars` hold no reference, and without those that need the calendar if `sessions` is None.
    sessions : iterable of date, optional
        The calendar's sessions, ascending: every session of `bars` and at least one after the last.
    earliest : mapping of date to date, optional
        For each session, the first session that its values may read: a value whose window begins before is
        NaN. Give it when bars of several partitions are loaded at once, so that each comes out as if computed
        alone.
    benchmark : str, optional
        The reference symbol to compare with. Needed only if `bars` hold more than one.
    wanted : iterable of date, optional
        Sessions whose values are returned; the other bars are only read. A week of values reads half a year of
        bars, so this is most of the work. Default: all.
    opens, volatility_index, membership, sectors, references, planned_holidays, changes : optional
        See `build_panel`. Without one of them, features that need it are left out unless named.

    Returns
    -------
    DataFrame
        `symbol`, `session`, `ts` and one Float32 column a feature in registry order; wanted member rows only, in the
        order of `bars`. NaN where the symbol, or the benchmark at its sessions, lacks history, and where the
        feature's formula says so.

    Raises
    ------
    ValueError
        If a name is unknown or needs the calendar and `sessions` is None, if `earliest` lacks a session, or
        if `build_panel` refuses the bars or the sessions.
    """
    tables = references or {}
    bars = with_roles(bars, benchmark=benchmark, volatility_index=volatility_index)
    fed: dict[Input, bool] = {
        "benchmark": bool(((bars["role"] == "reference") & (bars["symbol"] != (volatility_index or ""))).any()),
        "next_session": sessions is not None,
        "calendar": sessions is not None,
        "planned_holidays": sessions is not None and planned_holidays is not None,
        "volatility_index": volatility_index is not None,
        "sector": bool(sectors),
        "session_open": opens is not None,
        **{item: item in tables for item in _TABLES},
    }
    features = _select(names, fed)
    panel = build_panel(
        bars,
        sessions,
        benchmark=benchmark,
        wanted=wanted,
        earliest=earliest,
        opens=opens,
        volatility_index=volatility_index,
        membership=membership,
        sectors=sectors,
        references=references,
        planned_holidays=planned_holidays,
        changes=changes,
        inputs={item for feature in features for item in feature.inputs},
    )
    return feature_frame(panel, features)


def feature_frame(panel: Panel, features: Sequence[Feature]) -> pl.DataFrame:
    """Compute `features`, registered or not, on a panel; see `compute_features`.

    Parameters
    ----------
    panel : Panel
        From `build_panel`.
    features : sequence of Feature
        One column each, in this order.

    Returns
    -------
    DataFrame of shape (n_wanted, 3 + n_features)
        `symbol`, `session`, `ts` and Float32 columns: a row for each wanted bar of the panel. NaN where a feature is not defined or has
        too few bars.
    """
    rows = np.flatnonzero(panel.is_wanted)
    n_bars = rows - panel.first_readable[rows] + 1
    shortest = n_bars.min(initial=MAX_LOOKBACK_BARS)
    computed: dict[str, pl.Series] = {}
    for together, block in _blocks(features):
        names = [feature.name for feature in block]
        columns = [_judged(each).compute(panel) for each in block] if together is None else together(panel, names)
        for feature, values in zip(block, columns, strict=True):
            known = values if values.size == rows.size else values[rows]
            if feature.required_bars > shortest:
                known = _blanked(known, n_bars < feature.required_bars, is_new=together is not None)
            computed[feature.name] = pl.Series(feature.name, known.astype(np.float32, copy=False))
    return panel.keys[rows].hstack([computed[feature.name] for feature in features])


def _blanked(
    values: npt.NDArray[np.float32] | FloatArray, blank: npt.NDArray[np.bool_], *, is_new: bool
) -> npt.NDArray[np.float32] | FloatArray:
    """Values with NaN where `blank`; written into those that were made for this call."""
    if not (is_new and values.dtype == np.float32 and values.flags.writeable):
        return np.where(blank, np.nan, values)
    # Of a panel of years a copy of each column costs more than to compute it, where memory is slow to come.
    values[blank] = np.nan
    return values


def is_shipped(feature: Feature) -> bool:
    """Whether a feature is the project's own."""
    return feature.group in _OWN_GROUPS


def _judged(feature: Feature) -> Feature:
    """The feature, guarded if it is none of the project's."""
    return feature if is_shipped(feature) else guarded(feature)


def _blocks(features: Sequence[Feature]) -> list[tuple[Together | None, list[Feature]]]:
    """Features that share their work side by side, each other one alone."""
    blocks: dict[object, list[Feature]] = {}
    for feature in features:
        blocks.setdefault(feature.together or feature.name, []).append(feature)
    return [(block[0].together, block) for block in blocks.values()]


def names_by_group(selected: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Features of a selection of groups (`technical`), of single features (`technical/rsi_14`), less those left out
    (`-technical/rsi_14`).

    Returns
    -------
    dict of group to names
        Groups in the order of their first mention, names in registry order.

    Raises
    ------
    ValueError
        If the selection names no registered group or feature, leaves out what it does not hold, or all of a group.
    """
    left_out = {each[1:] for each in selected if each.startswith("-")}
    selected = [each for each in selected if not each.startswith("-")]
    groups = {feature.group for feature in FEATURES.values()}
    known = groups | {f"{feature.group}/{name}" for name, feature in FEATURES.items()}
    if unknown := sorted({*selected, *left_out} - known):
        of_group = sorted(each for each in known if each.startswith(f"{unknown[0].split('/')[0]}/"))
        near = f" or one of {', '.join(of_group)}" if of_group else ""
        raise ValueError(f"`features` must be among {', '.join(sorted(groups))}{near}, was {', '.join(unknown[:5])}.")
    chosen = {
        group: tuple(
            name
            for name, feature in FEATURES.items()
            if feature.group == group and (group in selected or f"{group}/{name}" in selected)
        )
        for group in dict.fromkeys(each.split("/")[0] for each in selected)
    }
    held = {f"{group}/{name}" for group, names in chosen.items() for name in names}
    if strays := sorted(left_out - held):
        raise ValueError(
            f"`features` must leave out single features of the groups that it names, was -{', -'.join(strays[:5])}; name "
            "the group beside it, or leave the line out."
        )
    kept = {
        group: tuple(name for name in names if f"{group}/{name}" not in left_out) for group, names in chosen.items()
    }
    if empty := [group for group, names in kept.items() if not names]:
        raise ValueError(f"`features` must keep a feature of each group, was none of {empty[0]}; leave the group out.")
    return kept


def group_names(group: str) -> tuple[str, ...]:
    """Names of a group's features in registry order.

    Parameters
    ----------
    group : str
        Such as "technical".

    Returns
    -------
    tuple of str
        Without the group.

    Raises
    ------
    ValueError
        If there is no such group.

    Examples
    --------
    >>> "day_of_week" in group_names("temporal")
    True
    """
    names = tuple(name for name, feature in FEATURES.items() if feature.group == group)
    if not names:
        known = sorted({feature.group for feature in FEATURES.values()})
        raise ValueError(f"`group` must be one of {known}, was {group!r}.")
    return names


def register(features: Iterable[Feature]) -> None:
    """Add features that live outside the project, after the groups of its own.

    Parameters
    ----------
    features : iterable of Feature
        Of a group that the project does not have.

    Raises
    ------
    ValueError
        If a name is taken by another feature, or a group by the project.
    """
    for feature in features:
        # The same module may be imported anew: its functions are then other objects of the same place.
        taken = FEATURES.get(feature.name)
        if feature.group in _OWN_GROUPS:
            raise ValueError(
                f"`features` must have a group of their own, was {feature.group}/{feature.name}, a group of the project; choose "
                "another `group`."
            )
        if taken is not None and taken.group != feature.group:
            raise ValueError(
                f"`features` must have names of their own over all groups, was {feature.group}/{feature.name} beside "
                f"{taken.group}/{taken.name}; choose another `name`."
            )
        if (tables := {*_TABLES} & {*feature.inputs}) and not feature.reference_days:
            raise ValueError(
                f"`reference_days` must be the days of {', '.join(sorted(tables))} that a value of {feature.name} reads, was 0: "
                "of older rows nothing would be loaded; give them to `Feature`."
            )
        FEATURES[feature.name] = feature


def _select(names: Iterable[str] | None, fed: Mapping[Input, bool]) -> list[Feature]:
    if names is None:
        unavailable = {item for item, is_fed in fed.items() if not is_fed}
        return [feature for feature in FEATURES.values() if unavailable.isdisjoint(feature.inputs)]
    wanted = set(names)
    if unknown := sorted(wanted - set(FEATURES)):
        raise ValueError(f"`names` must be among {list(FEATURES)}, was {unknown[:5]}.")
    features = [feature for name, feature in FEATURES.items() if name in wanted]
    for item, argument in _REQUIRED_FOR.items():
        unfed = [feature.name for feature in features if item in feature.inputs]
        if unfed and not fed[item]:
            raise ValueError(f"`{argument}` must be given for {unfed[:5]}, was None.")
    return features


def _by_name(features: Sequence[Feature]) -> dict[str, Feature]:
    names = [feature.name for feature in features]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"`FEATURES` must name each feature once, was repeated for {repeated[:5]}.")
    return {feature.name: feature for feature in features}


# A group is a module that ends with its table; the order here is the order of columns.
GROUPS = (
    technical, statistical, alpha158, cross_asset, cross_section, temporal, fundamental, alternative, sentiment, automated
)  # fmt: skip

_OWN_GROUPS = frozenset(feature.group for group in GROUPS for feature in group.FEATURES)

FEATURES: dict[str, Feature] = _by_name([feature for group in GROUPS for feature in group.FEATURES])
