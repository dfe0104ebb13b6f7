"""Feature reader: stored features of a market as one frame, for notebooks.

Lives here: `load_features`. Which files hold a span of time follows from its dates: nothing is listed (but to say what is
stored where something is not), and of each file only the columns that are asked for are read (`feature_files`). Does not
live here: how the pipeline reads its inputs (`parquet_io_manager`: whole files, their hashes recomputed), how values are
computed (`research.features`).

    from hf_pipelines.resources.feature_reader import load_features
    load_features("us_tech", "technical", "2012-01-01", "2012-12-31", columns=["rsi_14", "roc_20"])
"""

import difflib
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

import polars as pl

from hf_pipelines.partitions import parse_key, week_key, week_start
from hf_pipelines.research.bars import KEY_COLUMNS, SYMBOL_PATTERN
from hf_pipelines.research.features.registry import FEATURES
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.feature_files import GroupFiles
from hf_pipelines.resources.holdout_looks import FEATURES as LOOKED_AT_FEATURES
from hf_pipelines.resources.holdout_looks import stated_holdouts, take_look
from hf_pipelines.resources.parquet_io_manager import missing_error, open_store
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import StorageUnavailableError, StoredPartitionError
from hf_pipelines.resources.trial_ledger import actor_of

# A market or a group; all lower case, so that no two names are twins on a disk that does not tell cases apart.
NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,62}")

# Names near a mistyped one that a message shows.
SHOWN = 5

# Alike enough to be a slip of the keys: `us_teck` for `us_tech`, not `us_tech_feed`.
SLIP = 0.8


def load_features(
    market: str,
    groups: str | Sequence[str],
    start: date | str,
    end: date | str,
    symbols: str | Sequence[str] | None = None,
    columns: str | Sequence[str] | None = None,
    *,
    store: PartitionStore | None = None,
    is_verified: bool = False,
    holdout_reason: str = "",
) -> pl.DataFrame:
    """Stored features of a market between two days.

    By default only the end of each file is checked: a bit flipped in the middle is **not noticed**, and a wrong number is
    returned without a word, unless the file cannot be decoded. `is_verified=True` refuses every such file. It reads files
    whole and hashes them: a year of 500 symbols x 158 features takes 0.5 s, not 0.02 s for 6 columns or 0.1 s for all.

    Parameters
    ----------
    market : str
        Such as "us_tech".
    groups : str or sequence of str
        Feature groups, such as "technical", and single features, such as "technical/rsi_14", as strategies name them.
    start, end : date or str
        First and last session (YYYY-MM-DD), both included.
    symbols : str or sequence of str, optional
        Default: all. A warning names those without a row.
    columns : str or sequence of str, optional
        Features, each once. Default: all of the groups.
    store : PartitionStore, optional
        Default: the one that the environment describes (HF_STORAGE_URI, HF_CACHE_DIR).
    is_verified : bool
        Read each file whole and recompute its hashes, as the pipeline does. Otherwise its footer is checked: a foreign,
        truncated, misplaced or oversized file is refused. Files in the cache are always checked whole, once a process.
    holdout_reason : str
        Why sessions are read that a strategy of the market holds out. It is a recorded look at the hold-out of each such strategy, of
        which it allows few. Without it they are refused.

    Returns
    -------
    DataFrame
        `symbol`, `session`, `ts`, then one Float32 column a feature; week after week, sorted by (symbol, ts) within.

    Raises
    ------
    ValueError
        If a week is not stored, a name is unknown, none of the symbols has a row (with what is stored), or the sessions are held
        out.
    StoredPartitionError
        If a file is not the one that was published.
    """
    names = _texts("groups", groups)
    members = None if symbols is None else _texts("symbols", symbols)
    picked = None if columns is None else _texts("columns", columns)
    first, last = _day("start", start), _day("end", end)
    _check_names(market, names, members)
    if last < first:
        raise ValueError(f"`end` must not be before `start` {first}, was {last}.")
    n_weeks = (week_start(last) - week_start(first)).days // 7 + 1
    weeks = [week_key(week_start(first) + timedelta(weeks=number)) for number in range(n_weeks)]
    opened = open_store() if store is None else store
    files = {
        group: GroupFiles(opened, f"{market}/features/{group}", weeks, is_verified)
        for group in dict.fromkeys(name.partition("/")[0] for name in names)
    }
    if any(each.missing for each in files.values()):
        raise _absence(opened, market, files)
    _ask_for_holdouts(opened, market, (first, last), reason=holdout_reason)
    for each in files.values():
        each.parse()
    selected = _select(files, _offered(files, names, opened, market), picked)
    frames = {group: files[group].frame(chosen, (first, last), members) for group, chosen in selected.items()}
    found = _side_by_side(frames, market)
    if members is not None and (lacking := sorted(set(members).difference(found["symbol"].unique()))):
        where = f"{market} from {first} to {last}"
        if found.is_empty():
            stored = files[next(iter(frames))].frame([], (first, last), None)["symbol"].unique().sort()
            raise _without_rows(lacking, where, stored.to_list())
        warnings.warn(f"`symbols` have no row in {where}: {some_of(lacking)}.", stacklevel=2)
    return found


def _ask_for_holdouts(store: PartitionStore, market: str, span: tuple[date, date], *, reason: str) -> None:
    """Refuse sessions that strategies hold out, or record that they are looked at."""
    held = stated_holdouts(store.objects, market, until=span[1])
    if held and not reason.strip():
        told = ", ".join(f"{each.strategy} from {each.week} on" for each in held)
        raise ValueError(
            f"`end` must be before what strategies of {market} hold out ({told}), was {span[1]}; end earlier, or give "
            "`holdout_reason`: it is recorded as a look at each of these hold-outs, see hfp holdout STRATEGY."
        )
    for each in held:
        of = (max(span[0], parse_key(each.week)), span[1])
        actor, now = actor_of({}), datetime.now(UTC)
        take_look(store.objects, each, actor=actor, reason=reason, what=LOOKED_AT_FEATURES, of=of, at=now)


def _offered(
    files: Mapping[str, GroupFiles], names: Sequence[str], store: PartitionStore, market: str
) -> dict[str, list[str]]:
    """Features that a selection of groups (`technical`) and of single features (`technical/rsi_14`) names."""
    given = set(names)
    stored = {f"{group}/{feature}" for group, each in files.items() for feature in each.features}
    if unknown := sorted(given - stored - set(files)):
        group, _, feature = unknown[0].partition("/")
        near = [f"{group}/{each}" for each in _near(feature, files[group].features)]
        groups = list(files)
        with suppress(StorageUnavailableError):
            groups = _stored_groups(store, market)
        raise ValueError(f"{_among_groups(market, groups)} or {', '.join(near)}, was {some_of(unknown)}.")
    return {
        group: [feature for feature in each.features if not given.isdisjoint((group, f"{group}/{feature}"))]
        for group, each in files.items()
    }


def _select(
    files: Mapping[str, GroupFiles], offered: Mapping[str, list[str]], columns: Sequence[str] | None
) -> Mapping[str, list[str]]:
    """Features to read of each group, without the groups that have none."""
    if columns is None:
        return offered
    known = {f"{group}/{feature}": feature for group, features in offered.items() for feature in features}
    # Lists that were put together name a feature twice.
    wanted = list(dict.fromkeys(known.get(name, name) for name in columns if name not in KEY_COLUMNS))
    if unknown := sorted(set(wanted) - set(known.values())):
        near = _near(unknown[0].rpartition("/")[2], list(known.values()))
        whole = [group for group, features in offered.items() if len(features) == len(files[group].features)]
        singles = [name for name in known if name.partition("/")[0] not in whole]
        raise ValueError(
            f"`columns` must be features stored in {some_of(whole + singles)}, was {some_of(unknown)}; "
            f"near it: {', '.join(near)}."
        )
    chosen = {group: [each for each in wanted if each in set(features)] for group, features in offered.items()}
    return {group: features for group, features in chosen.items() if features} or {next(iter(files)): []}


def _side_by_side(frames: dict[str, pl.DataFrame], market: str) -> pl.DataFrame:
    (first, joined), *others = frames.items()
    for name, frame in others:
        if not frame.select(KEY_COLUMNS).equals(joined.select(KEY_COLUMNS)):
            raise ValueError(
                f"`groups` must hold the same rows, {first} and {name} of {market} do not; "
                f"see which is out of date: hfp current {market}/features/{name}"
            )
        joined = joined.hstack(frame.drop(KEY_COLUMNS))
    return joined


def _day(name: str, given: date | str) -> date:
    if isinstance(given, date):
        return date(given.year, given.month, given.day)
    try:
        return parse_key(given)
    except (TypeError, ValueError) as e:
        raise ValueError(f"`{name}` must be a date or YYYY-MM-DD, was {str(given)[:40]!r}.") from e


def _texts(name: str, given: str | Sequence[str]) -> list[str]:
    """Names given alone or in a sequence."""
    try:
        texts = [given] if isinstance(given, str) else list(given)
    except TypeError as e:
        raise TypeError(f"`{name}` must be a name or a sequence of names, was {str(given)[:40]}.") from e
    if strange := [each for each in texts if not isinstance(each, str)]:
        raise TypeError(f"`{name}` must be a name or a sequence of names, was {strange[0]!r:.40} among them.")
    return texts


def _check_names(market: str, groups: Sequence[str], symbols: Sequence[str] | None) -> None:
    if not NAME_PATTERN.fullmatch(market):
        raise ValueError(f"`market` must match {NAME_PATTERN.pattern}, was {market[:80]!r}.")
    known = list(dict.fromkeys(feature.group for feature in FEATURES.values()))
    if not groups:
        raise ValueError(f"`groups` must name a group such as {', '.join(known)}, was empty.")
    for name in groups:
        group, *features = name.split("/")
        if not NAME_PATTERN.fullmatch(group) or len(features) > 1 or "" in features:
            near = difflib.get_close_matches(name, known, n=3) or known
            raise ValueError(
                f"`groups` must be names such as {', '.join(near)} or technical/rsi_14, was {name[:80]!r}."
            )
    if symbols is not None and not symbols:
        raise ValueError("`symbols` must name a symbol, was empty; leave it out for all.")
    if strange := [each for each in symbols or () if not re.fullmatch(SYMBOL_PATTERN, each)]:
        raise ValueError(f"`symbols` must match {SYMBOL_PATTERN}, was {strange[0][:80]!r}.")


# --- what is stored, where something is not: the store is listed here alone


def _absence(store: PartitionStore, market: str, files: Mapping[str, GroupFiles]) -> ValueError:
    """No such market, no such group, or no such weeks, with what there is."""
    if not store.objects.is_there():
        return ValueError(
            f"`HF_STORAGE_URI` must be a folder that holds features, was {store.objects.uri}, which does not exist; set it to "
            "the storage of the pipeline, or give `store`."
        )
    lacking = [group for group, each in files.items() if each.missing]
    try:
        groups = _stored_groups(store, market)
        asked = next((group for group in lacking if group not in groups), lacking[0])
        asset, missing = files[asked].asset, files[asked].missing
        missed, command = str(missing_error(asset, missing)).split("; materialise it first: ")
        if not groups:
            markets = [each for each in store.objects.folders() if _stored_groups(store, each)]
            return ValueError(
                f"`market` must be one whose features are stored in {store.objects.uri} "
                f"({', '.join(markets) or 'there is none'}), was {market}; {_remedy(market, markets, command)}"
            )
        if unknown := [group for group in lacking if group not in groups]:
            named = f"the feature is named {FEATURES[asked].group}/{asked}." if asked in FEATURES else ""
            return ValueError(
                f"{_among_groups(market, groups)}, was {some_of(unknown)}; {named or _remedy(asked, groups, command)}"
            )
        stored = store.partitions(asset)
    except StorageUnavailableError:
        return missing_error(files[lacking[0]].asset, files[lacking[0]].missing)
    is_gap = stored[0] < missing[0] and missing[-1] < stored[-1]
    when = "" if is_gap else "if the market has sessions then, "
    return ValueError(
        f"{missed}; weeks stored: {len(stored)}, {stored[0]} to {stored[-1]}; {when}materialise it first: {command}"
    )


def _stored_groups(store: PartitionStore, market: str) -> list[str]:
    """Groups of which a market has a week."""
    if not NAME_PATTERN.fullmatch(market):
        return []
    folders = store.objects.folders(f"{market}/features")
    return [each for each in folders if NAME_PATTERN.fullmatch(each) and store.partitions(f"{market}/features/{each}")]


def _among_groups(market: str, groups: Sequence[str]) -> str:
    return f"`groups` must be among the groups stored of market {market} ({', '.join(groups)})"


def _remedy(given: str, stored: Sequence[str], command: str) -> str:
    near = difflib.get_close_matches(given, stored, cutoff=SLIP)
    return f"near it: {', '.join(near)}." if near else f"if it is defined, materialise it first: {command}"


def _without_rows(symbols: Sequence[str], where: str, stored: Sequence[str]) -> ValueError:
    there = f"stored then: {some_of(dict.fromkeys([*_near(symbols[0], stored), *stored]))}"
    reason = there if stored else "no symbol has one: no session lies between"
    return ValueError(f"`symbols` must have rows in {where}, was {some_of(symbols)}; {reason}.")


def _near(given: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(given, known, n=SHOWN) or list(known[:SHOWN])


__all__ = ["StoredPartitionError", "load_features"]
