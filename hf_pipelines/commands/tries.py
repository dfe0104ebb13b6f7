"""Tries: one configuration evaluated beside what is current; the lines of `hfp try`, `hfp tries` and `hfp accept`.

Lives here: which file and weeks are meant, what a try and its acceptance say. Does not live here: the computation
(`components.strategy_stages.trying`), where tries lie (`resources.tries`), comparing (`compare`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.operations.activity import Activity
from hf_pipelines.components.setting_overrides import EditedStrategy, edit_strategy
from hf_pipelines.components.setting_values import SettingOverride, at_overrides, parse_override
from hf_pipelines.components.strategy_stages import build_stages
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.shown_settings import differing, flat_settings, value_in_words
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.components.strategy_stages.trying import Made, Trying
from hf_pipelines.components.yaml_files import component_file, component_files, read_values
from hf_pipelines.components.yaml_lines import FaultyYAMLError
from hf_pipelines.partitions import parse_key, shift_week, week_key
from hf_pipelines.research.comparison_words import number, text_table
from hf_pipelines.research.metrics.direction import is_better_higher
from hf_pipelines.research.overview_words import BEST
from hf_pipelines.research.wording import excerpt
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.scratch import scratch_folder
from hf_pipelines.resources.trial_ledger import TrialLedger, actor_of
from hf_pipelines.resources.tries import TryRecord, id_of, list_tries, put_try, store_of_try

if TYPE_CHECKING:
    from hf_pipelines.commands.compare import Compared

# A try is looked at as a whole: more weeks than these are a backfill.
MOST_WEEKS = 26


@dataclass(frozen=True)
class Tried:
    """A try that was made, and what was read for it instead of computed."""

    record: TryRecord
    read: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """A configuration that may be tried.

    Attributes
    ----------
    own : StrategyPlan or None
        The strategy of its name as it is; None where the project has none.
    base : str
        SHA-256 of the own strategy's file.
    """

    edited: EditedStrategy
    plan: StrategyPlan
    own: StrategyPlan | None
    base: str
    overrides: tuple[SettingOverride, ...]

    def differs(self) -> dict[str, tuple[Any, Any]]:
        """Fields in which it differs from the strategy, with both values."""
        if self.own is None:
            return {}
        return {
            name: (before, now)
            for name, (before, now) in differing([settings_shown(self.own), settings_shown(self.plan)]).items()
        }


def settings_shown(plan: StrategyPlan) -> dict[str, Any]:
    """All that may change a strategy's result, field by field."""
    return flat_settings(settings_of(plan), seed=plan.learner.seed)


def file_of_strategy(defs: Path, name: str) -> Path | None:
    """The YAML file of a strategy of the project; None if it has no such strategy."""
    for path in component_files(defs):
        try:
            if path.parent.name == name and read_values(path).type.endswith(".Strategy"):
                return path
        except FaultyYAMLError:
            continue
    return None


def candidate(pipeline: Pipeline, word: str, sets: Sequence[str]) -> Candidate:
    """The configuration that a strategy or a file and some values make, checked as YAML is.

    Raises
    ------
    ValueError
        If it is none: with the rule, at the file and line or at the value that is refused.
    """
    tree = pipeline.tree()
    overrides = tuple(parse_override(each) for each in sets)
    own_file = file_of_strategy(tree.defs_module_path, word)
    path = own_file or Path(word)
    if own_file is None and not path.exists():
        names = ", ".join(each.name for each in pipeline.strategies())
        raise ValueError(f"`strategy` must be one of {names}, or a YAML file of one, was {excerpt(word)!r}.")
    path = path.resolve()
    edited = edit_strategy(path, overrides, is_in_place=own_file is not None)
    name = edited.strategy.name
    try:
        plan = edited.strategy.checked_plan(tree.load_context.for_path(path), is_widened=True)
    except ValueError as e:
        raise ValueError(at_overrides(str(e), overrides) if overrides else str(e)) from e
    own = {each.name: each for each in pipeline.strategies()}.get(name)
    base = file_of_strategy(tree.defs_module_path, name)
    digest = "" if base is None else sha256(base.read_bytes()).hexdigest()
    return Candidate(edited, plan, own, digest, overrides)


def weeks_of(pipeline: Pipeline, chosen: Candidate, weeks: Sequence[str]) -> list[str]:
    """The weeks that are tried: those named, else the latest with results of the strategy, else the latest with bars.

    Raises
    ------
    ValueError
        If one is no week of the market, or there are none, or too many.
    """
    partitions = chosen.plan.market.partitions
    if weeks:
        for each in weeks:
            if week_key(parse_key(each)) != each:
                raise ValueError(f"`weeks` must be Sundays, was {each}; take {week_key(parse_key(each))}.")
        if len({*weeks}) > MOST_WEEKS:
            raise ValueError(f"`weeks` must be at most {MOST_WEEKS}, were {len({*weeks})}; make the strategy of them.")
        return sorted({*weeks})
    if stored := pipeline.store.partitions(f"{chosen.plan.name}/cv_results"):
        return [stored[-1]]
    if bars := pipeline.store.partitions(chosen.plan.market.bars_asset):
        last = shift_week(bars[-1], 1)
        return [last if partitions.end is None or parse_key(last) <= partitions.end else bars[-1]]
    market = chosen.plan.market
    raise ValueError(
        f"`market` must have bars for a try, {market.name} has none; hfp materialise {market.bars_asset} --from "
        f"{partitions.first_week} --to SUNDAY"
    )


def make_try(pipeline: Pipeline, chosen: Candidate, weeks: Sequence[str], tell: Any = None) -> Tried:
    """Evaluate a configuration, and keep what it came to beside all that is current.

    Each week is a trial of the strategy, recorded before anything is fitted.

    Raises
    ------
    ValueError
        If a week cannot be made.
    """
    now = datetime.now(UTC)
    ledger = TrialLedger(pipeline.store.objects, actor_of({}), Clock().now)
    differs = chosen.differs()
    market = pipeline.markets()[chosen.plan.market.name]
    made: dict[str, Made] = {}
    with scratch_folder("hfp_try_") as folder:
        work = PartitionStore(ObjectStore(str(folder)))
        trying = Trying(
            chosen.plan,
            build_stages(chosen.plan),
            market,
            pipeline.store,
            work,
            ledger,
            {name: value_now for name, (_, value_now) in differs.items()},
            now,
            tell or (lambda line: None),
        )
        for week in weeks:
            made[week] = trying.make(week)
    record = _record(chosen, made, now, actor=ledger.actor)
    kept = store_of_try(pipeline.store, record.strategy, record.id)
    for week, each in made.items():
        for stage, (content, footer) in each.contents.items():
            stamp = Stamp(footer.code_version, footer.run_id, footer.created_at)
            kept.publish(f"{record.strategy}/{stage}", week, content, stamp, verdicts=footer.verdicts, kind=footer.kind)
    # Last: whoever is stopped before has left no try.
    put_try(pipeline.store, record)
    return Tried(record, tuple(line for each in made.values() for line in each.read))


def _record(chosen: Candidate, made: dict[str, Made], now: datetime, *, actor: str) -> TryRecord:
    text = chosen.edited.text
    return TryRecord(
        strategy=chosen.plan.name,
        id=id_of({week: each.week.trial for week, each in made.items()}, text),
        made_at=now.isoformat(timespec="seconds"),
        actor=actor,
        file=str(chosen.edited.path),
        before=chosen.edited.before,
        yaml=text,
        base=chosen.base,
        given=tuple(each.origin.removeprefix("--set ") for each in chosen.overrides),
        differs=chosen.differs(),
        settings=settings_shown(chosen.plan),
        weeks={week: each.week for week, each in made.items()},
    )


def try_lines(pipeline: Pipeline, chosen: Candidate, tried: Tried) -> Iterator[str]:
    """What a try is made of and what it came to, beside the strategy as it is."""
    from hf_pipelines.commands.compare import Named, outdated_notes

    record = tried.record
    seconds = sum(each.seconds for each in record.weeks.values())
    yield f"{record.name}: {', '.join(record.weeks)} in {seconds:.1f} s; nothing that is current was touched"
    for week, each in record.weeks.items():
        data = ", ".join(f"{asset} {digest}" for asset, digest in each.data.items())
        yield f"  {week}: trial {each.trial[:12]}, matrix {each.matrix[:12]} of {data}"
    for line in tried.read:
        yield f"  {line}"
    for run in Activity.read(pipeline.instance, datetime.now(UTC)).runs:
        if not run.death and any(asset.startswith(f"{record.strategy}/") for asset in run.assets):
            yield f"  {record.strategy} is being made meanwhile ({run.partitions}, run {run.run_id[:8]}): the try is of the contents named above"
    if chosen.own is None:
        yield f"The project has no strategy {record.strategy} to compare it with; hfp accept {record.name} adds it."
    elif not record.differs:
        yield f"It is {record.strategy} as it is: no parameter differs."
    for name, (before, now) in record.differs.items():
        yield f"  {name}: {value_in_words(before)} -> {value_in_words(now, before)}"
    for week in record.weeks if chosen.own is not None else ():
        if week not in pipeline.store.partitions(f"{record.strategy}/cv_results"):
            yield f"Nothing is stored of {record.strategy} {week} to compare it with; hfp retrain {record.strategy} --week {week}"
            continue
        yield ""
        found = _compared(pipeline, record, week)
        if isinstance(found, str):
            yield f"Whether it is better or only luckier cannot be said: {found}"
            yield from _score_lines(pipeline.store, record, week)
            yield from outdated_notes(pipeline, Named(record.strategy, week, ""), record.strategy)
        else:
            yield from found.lines()
    yield f"To take it: hfp accept {record.name}"


def try_json(pipeline: Pipeline, chosen: Candidate, tried: Tried) -> dict[str, Any]:
    """What `try_lines` says, for programs: the record of the try, and what it is beside the strategy by week.

    Of a week that nothing is stored of, or whose sessions are too few for a test, `not_compared` says why.
    """
    record, compared = tried.record, {}
    stored = pipeline.store.partitions(f"{record.strategy}/cv_results")
    for week in record.weeks:
        if chosen.own is None or week not in stored:
            compared[week] = {"not_compared": f"nothing is stored of {record.strategy} {week}"}
            continue
        found = _compared(pipeline, record, week)
        compared[week] = {"not_compared": found} if isinstance(found, str) else found.to_json()
    return {"try": record.to_json(), "read_instead_of_computed": list(tried.read), "compared": compared}


def _compared(pipeline: Pipeline, record: TryRecord, week: str) -> "Compared | str":
    """A try beside its strategy, or why they cannot be compared: too few sessions to tell it from chance are no fault of it."""
    from hf_pipelines.commands.compare import compare_runs

    try:
        return compare_runs(pipeline, [f"{record.name}@{week}", f"{record.strategy}@{week}"], None)
    except ValueError as e:
        return str(e)


def _score_lines(store: PartitionStore, record: TryRecord, week: str) -> Iterator[str]:
    """Scores of a try and of the strategy, each on rows of its own, the better marked."""
    rows: list[tuple[str, ...]] = [("score", record.name, record.strategy)]
    for stage, metrics in record.weeks[week].metrics.items():
        footer = store.footer(f"{record.strategy}/{stage}", week)
        told = footer.facts.get("metrics") if footer is not None else None
        own = told if isinstance(told, Mapping) else {}
        for name, tried in metrics.items():
            other = own.get(name)
            if tried is None or not isinstance(other, int | float):
                continue
            is_better = tried > other if is_better_higher(name) else tried < other
            marks = (BEST * is_better, BEST * (not is_better and tried != other))
            rows.append((name, f"{marks[0]}{number(tried)}", f"{marks[1]}{number(other)}"))
    yield from text_table(rows)


def component_place(defs: Path, name: str) -> Path:
    """Where the YAML of a strategy lies, or would lie."""
    folder = defs / "strategies" / name
    return component_file(folder) or folder / "defs.yaml"


def tries_lines(store: PartitionStore, strategy: str | None) -> Iterator[str]:
    """The tries that there are, the latest last."""
    found = [*list_tries(store, strategy)]
    if not found:
        yield "There is no try: hfp try STRATEGY --set FIELD=VALUE makes one."
        return
    rows: list[tuple[str, ...]] = [("try", "made", "by", "weeks", "Sharpe ratio", "total return")]
    differs = ["differs"]
    for each in found:
        weeks = [*each.weeks]
        account = each.weeks[weeks[-1]].metrics.get("backtest", {})
        rows.append(
            (
                each.name,
                each.made_at[:16].replace("T", " "),
                each.actor,
                weeks[0] if len(weeks) == 1 else f"{weeks[0]} to {weeks[-1]} ({len(weeks)})",
                number(account.get("sharpe_ratio")),
                number(account.get("total_return")),
            )
        )
        told = [f"{name}={value_in_words(now, before)}" for name, (before, now) in each.differs.items()]
        differs.append(", ".join(told) or ("nothing" if each.base else "a strategy of its own"))
    for line, of_try in zip(text_table(rows), differs, strict=True):
        yield f"{line}  {of_try}"
