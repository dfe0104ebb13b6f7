"""Compare: is one strategy, try, week or learner better than another; the lines and the picture of `hfp compare`.

Lives here: which stored results are meant, and whether they may be compared. Not here: the comparison (`research.comparison`), its words
(`research.comparison_words`), parsing of arguments (`cli`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.shown_settings import differing, flat_settings, value_in_words
from hf_pipelines.partitions import parse_key, usual_sessions
from hf_pipelines.research.comparison import Comparison, Contestant, compare
from hf_pipelines.research.comparison_words import comparison_lines
from hf_pipelines.research.overview import indexed_equity, prediction_agreement, score_overview
from hf_pipelines.research.overview_words import overview_lines
from hf_pipelines.research.targets import neutral_value
from hf_pipelines.research.wording import excerpt, some_of
from hf_pipelines.resources.lineage import CURRENT, read_content
from hf_pipelines.resources.partition_codec import Stored
from hf_pipelines.resources.partition_store import VERSIONS, PartitionStore
from hf_pipelines.resources.trial_ledger.heads import TRIAL
from hf_pipelines.resources.trial_ledger.settings_of_trials import settings_of_trials
from hf_pipelines.resources.tries import find_try, store_of_try

NAMED = re.compile(r"(?P<strategy>[^@:\s]+)(@(?P<week>\d{4}-\d\d-\d\d)(:(?P<digest>[0-9a-f]{4,64}))?)?")

HASH_SHOWN = 8

# As many as a reader takes in beside each other.
MOST_RUNS = 10


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


@dataclass(frozen=True)
class Compared:
    """Runs beside each other.

    Attributes
    ----------
    contestants : tuple of Contestant
    found : Comparison
        Of the first with the others.
    settings : mapping of field to list
        Fields that differ, with the value of each run.
    unknown : tuple of str
        Runs whose settings the ledger does not hold.
    neutral : tuple of float or None
        Of each run the prediction that is neither up nor down.
    notes : tuple of str
        What is out of date.
    """

    contestants: tuple[Contestant, ...]
    found: Comparison
    settings: Mapping[str, Sequence[Any]]
    unknown: tuple[str, ...]
    neutral: tuple[float | None, ...]
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.contestants)

    @property
    def shown_settings(self) -> dict[str, list[str]]:
        """Fields that differ, in words: of long lists what they have more and less than that of the first run."""
        return {
            name: [value_in_words(values[0]), *(value_in_words(each, values[0]) for each in values[1:])]
            for name, values in self.settings.items()
        }

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield from comparison_lines(self.found)
        yield from _same_lines(self.contestants)
        yield from overview_lines(
            self.names,
            settings=self.shown_settings,
            # Of two runs the first table has both.
            scores=score_overview(self.found).filter(pl.lit(len(self.names) > 2)),
            agreement=prediction_agreement(self.contestants, self.neutral),
        )
        if self.unknown:
            yield f"The ledger does not hold the settings of {', '.join(self.unknown)}."
        yield from self.notes

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        equity = indexed_equity(self.contestants)
        return {
            "runs": list(self.names),
            "parameters": {name: list(values) for name, values in self.settings.items()},
            "scores": score_overview(self.found).to_dicts(),
            "against_first": self.found.scores.to_dicts(),
            "together": self.found.together.to_dicts(),
            "agreement": prediction_agreement(self.contestants, self.neutral).to_dicts(),
            "equity": {
                name: None
                if curve is None
                else {"session": [str(day) for day in curve["session"]], "equity": curve["equity"].to_list()}
                for name, curve in zip(self.names, equity, strict=True)
            },
            "notes": [*self.found.notes, *self.notes],
        }

    def png(self) -> bytes:
        """As a picture."""
        from hf_pipelines.research.plots.overview import overview_png

        return overview_png(
            self.names,
            equity=indexed_equity(self.contestants),
            scores=score_overview(self.found),
            agreement=prediction_agreement(self.contestants, self.neutral),
            settings=self.shown_settings,
            note="Scores are of the rows and sessions that all of them have. " + " ".join(self.notes),
        )


def compare_runs(pipeline: Pipeline, words: Sequence[str], week: str | None) -> Compared:
    """Compare the first of some strategies, tries, weeks or stored contents with the others.

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
    if len(words) > MOST_RUNS:
        raise ValueError(f"`strategy` must be given {MOST_RUNS} at most, were {len(words)}; compare the best of them.")
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
    trials: list[str] = []
    for each in named:
        name = _name(each, named)
        store = _store_of(pipeline.store, each)
        stored = read_content(store, f"{each.owner}/cv_results", each.week, each.digest or CURRENT)
        contestant, trial = _contestant(store, plans[each.strategy], each, name, stored)
        contestants.append(contestant)
        trials.append(trial)
        notes += outdated_notes(pipeline, each, name)
    found = settings_of_trials(pipeline.store.objects, trials)
    settings = [None if each is None else flat_settings(each.settings, seed=each.seed) for each in found]
    return Compared(
        tuple(contestants),
        compare(contestants),
        differing(settings),
        tuple(each.name for each, known in zip(contestants, settings, strict=True) if known is None),
        tuple(
            neutral_value(plans[each.strategy].target) if known is None else known.settings["target"][2]
            for each, known in zip(named, found, strict=True)
        ),
        tuple(notes),
    )


def write_picture(found: Compared, file: Path) -> None:
    """Draw a comparison into a file.

    Raises
    ------
    ValueError
        If it is no PNG file that can be written.
    """
    require_picture(file)
    file.write_bytes(found.png())


def require_picture(file: Path) -> None:
    """Refuse a file that no picture can be written into.

    Raises
    ------
    ValueError
        If it is none NAME.png, or its folder is not there.
    """
    if file.suffix.lower() != ".png" or not file.resolve().parent.is_dir() or file.is_dir():
        raise ValueError(f"`picture` must be a file NAME.png in a folder that is there, was {str(file)[:200]!r}.")


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
            is_one = first.equity is None or other.equity is None or first.equity.equals(other.equity)
            apart = "nothing can tell them apart" if is_one else "their accounts alone can tell them apart"
            yield f"{other.name} predicts the very same as {first.name} on all {both.height:,} rows that both have: {apart}."


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
        f"`week` must be one of which all strategies have results, there is none ({shown}); make one of them for the others, "
        "hfp retrain STRATEGY --week SUNDAY, or name weeks as STRATEGY@SUNDAY."
    )


def _name(one: Named, all_of_them: Sequence[Named]) -> str:
    """As short as tells them apart."""
    name = one.strategy
    if len({each.week for each in all_of_them}) > 1 or any(each.digest for each in all_of_them):
        name += f"@{one.week}"
    return name + (f":{one.digest[:HASH_SHOWN]}" if one.digest else "")


def _contestant(
    store: PartitionStore, plan: StrategyPlan, named: Named, name: str, results: Stored
) -> tuple[Contestant, str]:
    """What is compared, and the trial that it came of."""
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
    contestant = Contestant(
        name,
        results.frame,
        None if account is None else account.frame,
        spans if isinstance(spans, int) else 1,
        float(usual_sessions(plan.market.partitions.calendar_name)[0]),
    )
    # Of another rule the account is a trial of its own.
    return contestant, str((results if account is None else account).footer.facts.get(TRIAL, ""))


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


def outdated_notes(pipeline: Pipeline, named: Named, name: str) -> Iterator[str]:
    """What of the results is out of date."""
    if named.digest or named.is_try:
        return
    checker = pipeline.checker()
    for stage in ("cv_results", "backtest"):
        asset = f"{named.strategy}/{stage}"
        if named.week in pipeline.store.partitions(asset) and (reason := checker.is_current(asset, named.week).reason):
            yield f"Out of date: {stage} of {name}: {reason}; hfp retrain {named.strategy} --week {named.week}."
            return
