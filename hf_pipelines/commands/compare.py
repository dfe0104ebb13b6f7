"""Compare: is one strategy, week or learner better than another; the lines of `hfp compare`.

Lives here: which stored results are meant, and whether they may be compared. Not here: the comparison (`research.comparison`), its words
(`research.comparison_words`), parsing of arguments (`cli`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.partitions import parse_key, usual_sessions
from hf_pipelines.research.comparison import Contestant, compare
from hf_pipelines.research.comparison_words import comparison_lines
from hf_pipelines.research.wording import excerpt, some_of
from hf_pipelines.resources.lineage import CURRENT, read_content
from hf_pipelines.resources.partition_codec import Stored
from hf_pipelines.resources.partition_store import VERSIONS, PartitionStore
from hf_pipelines.resources.tries import find_try, store_of_try

NAMED = re.compile(r"(?P<strategy>[^@:\s]+)(@(?P<week>\d{4}-\d\d-\d\d)(:(?P<digest>[0-9a-f]{4,64}))?)?")

HASH_SHOWN = 8


@dataclass(frozen=True)
class Named:
    """What a word of the command line means: a strategy or a try (STRATEGY~ID), a week of it, a content of the week."""

    strategy: str
    week: str
    digest: str

    @property
    def owner(self) -> str:
        """The strategy, also of a try."""
        return self.strategy.partition("~")[0]

    @property
    def is_try(self) -> bool:
        return "~" in self.strategy

    @staticmethod
    def parse(word: str) -> "Named":
        """`STRATEGY`, `STRATEGY@SUNDAY` or `STRATEGY@SUNDAY:HASH`; "" for what is not said.

        Raises
        ------
        ValueError
            If it is none of these.
        """
        found = NAMED.fullmatch(word)
        if found is None:
            raise ValueError(
                f"`strategy` must be STRATEGY, STRATEGY@SUNDAY or STRATEGY@SUNDAY:HASH (hashes: hfp versions STRATEGY/cv_results "
                f"SUNDAY), was {excerpt(word)!r}."
            )
        return Named(found["strategy"], found["week"] or "", found["digest"] or "")


def compare_lines(pipeline: Pipeline, words: Sequence[str], week: str | None) -> Iterator[str]:
    """Compare the first of some strategies, weeks or stored contents with the others.

    Parameters
    ----------
    words : sequence of str
        As `Named.parse` reads them.
    week : str, optional
        Of those that name none; the latest that all of them have by default.

    Raises
    ------
    ValueError
        If one is unknown, has nothing stored, or they cannot be compared.
    """
    named = [_resolved(pipeline, Named.parse(each)) for each in words]
    plans = {name: _plan_of(pipeline, name) for name in dict.fromkeys(each.strategy for each in named)}
    _require_one_calendar([*plans.values()])
    if any(not each.week for each in named):
        week = week or _latest_week(pipeline.store, [each.strategy for each in named if not each.week])
        parse_key(week)
        named = [each if each.week else Named(each.strategy, str(week), "") for each in named]
    if len(set(named)) < 2 or len(set(named)) < len(named):
        raise ValueError(
            f"`strategy` must be given two or more that differ, were {', '.join(words)[:80]}; weeks of one strategy are "
            "STRATEGY@SUNDAY, contents of a week STRATEGY@SUNDAY:HASH."
        )
    contestants: list[Contestant] = []
    notes: list[str] = []
    for each in named:
        name = _name(each, named)
        store = _store_of(pipeline.store, each)
        stored = read_content(store, f"{each.owner}/cv_results", each.week, each.digest or CURRENT)
        contestants.append(_contestant(store, plans[each.strategy], each, name, stored))
        notes += _notes(pipeline, each, name)
    yield from comparison_lines(compare(contestants))
    yield from _same_lines(contestants)
    yield from notes


def _resolved(pipeline: Pipeline, named: Named) -> Named:
    """The same with the whole id of a try."""
    return replace(named, strategy=find_try(pipeline.store, named.strategy).name) if named.is_try else named


def _plan_of(pipeline: Pipeline, name: str) -> StrategyPlan:
    """The strategy of a run; of a try of one that the project does not have any of its market: its calendar is asked for alone."""
    owner, _, number = name.partition("~")
    plans = {each.name: each for each in pipeline.strategies()}
    if not number or owner in plans:
        return pipeline.strategy(owner)
    market = find_try(pipeline.store, name).settings["market"]
    alike = next((each for each in plans.values() if each.market.name == market), None)
    if alike is None:
        raise ValueError(
            f"`strategy` must be of a market with strategies, {name} is of {market!r:.80}; hfp accept {name} adds it."
        )
    return alike


def _store_of(store: PartitionStore, named: Named) -> PartitionStore:
    owner, _, number = named.strategy.partition("~")
    return store_of_try(store, owner, number) if number else store


def _same_lines(contestants: Sequence[Contestant]) -> Iterator[str]:
    """Which of the others predict what the first one does, on the rows that both have."""
    first, *others = contestants
    keys = [name for name in ("symbol", "ts", "horizon", "fold") if name in first.predictions.columns]
    wanted = [*keys, "prediction"]
    for other in others:
        both = first.predictions.select(wanted).join(other.predictions.select(wanted), on=keys, suffix="_other")
        if both.height and both["prediction"].equals(both["prediction_other"]):
            yield f"{other.name} predicts the very same as {first.name} on all {both.height:,} rows that both have: nothing can tell them apart."


def _require_one_calendar(plans: Sequence[StrategyPlan]) -> None:
    calendars = {each.name: each.market.partitions.calendar_name for each in plans}
    if len(set(calendars.values())) > 1:
        shown = ", ".join(f"{calendar} ({name})" for name, calendar in calendars.items())
        raise ValueError(
            f"`strategy` must be of markets of one calendar, were of {shown}: sessions of one are other hours than those of the other, "
            "and so are their returns; compare strategies of one market."
        )


def _latest_week(store: PartitionStore, strategies: Sequence[str]) -> str:
    """The latest week of which each strategy has results."""
    stored = {
        name: _store_of(store, Named(name, "", "")).partitions(f"{name.partition('~')[0]}/cv_results")
        for name in dict.fromkeys(strategies)
    }
    if shared := set.intersection(*(set(weeks) for weeks in stored.values())):
        return max(shared)
    without = [name for name, weeks in stored.items() if not weeks]
    if without:
        raise ValueError(
            f"`strategy` must have results of a week, {', '.join(without)} has none; hfp retrain {without[0]} --week SUNDAY."
        )
    shown = "; ".join(f"{name} {some_of(weeks[::-1])}" for name, weeks in stored.items())
    raise ValueError(
        f"`week` must be one of which all strategies have results, there is none ({shown}); hfp retrain the other one, or name weeks "
        "as STRATEGY@SUNDAY."
    )


def _name(one: Named, all_of_them: Sequence[Named]) -> str:
    """As short as tells them apart."""
    name = one.strategy
    if len({each.week for each in all_of_them}) > 1 or any(each.digest for each in all_of_them):
        name += f"@{one.week}"
    return name + (f":{one.digest[:HASH_SHOWN]}" if one.digest else "")


def _contestant(store: PartitionStore, plan: StrategyPlan, named: Named, name: str, results: Stored) -> Contestant:
    footer = results.footer
    failed = sorted(each for each, verdict in footer.verdicts.items() if not verdict.passed)
    if failed:
        raise ValueError(
            f"`strategy` must have sound results, {name} has failed {', '.join(failed)}; hfp retrain {named.strategy} --week "
            f"{named.week}."
        )
    account = _backtest_of(store, f"{named.owner}/backtest", named.week, footer.asset, footer.content_hash)
    # Absent in results stored before they were scored in blocks.
    spans = footer.facts.get("label_sessions", 1)
    return Contestant(
        name,
        results.frame,
        None if account is None else account.frame,
        spans if isinstance(spans, int) else 1,
        float(usual_sessions(plan.market.partitions.calendar_name)[0]),
    )


def _backtest_of(store: PartitionStore, asset: str, week: str, made_from: str, digest: str) -> Stored | None:
    """The newest backtest that was made from some predictions, current or kept; None if there is none."""
    keys = [store.key(asset, week)] if week in store.partitions(asset) else []
    keys += [f"{VERSIONS}/{asset}/{week}/{each}.parquet" for each in store.versions(asset, week)]
    footers = [store.peek(key, asset=asset, partition=week) for key in keys]
    made = [each for each in footers if each.inputs.get(made_from, {}).get(week) == digest]
    if not made:
        return None
    newest = max(made, key=lambda each: each.created_at)
    return read_content(store, asset, week, newest.content_hash)


def _notes(pipeline: Pipeline, named: Named, name: str) -> Iterator[str]:
    """What of the results is out of date."""
    if named.digest or named.is_try:
        return
    checker = pipeline.checker()
    for stage in ("cv_results", "backtest"):
        asset = f"{named.strategy}/{stage}"
        if named.week in pipeline.store.partitions(asset) and (reason := checker.is_current(asset, named.week).reason):
            yield f"Out of date: {stage} of {name}: {reason}; hfp retrain {named.strategy} --week {named.week}."
            return
