"""Models: which releases there are, what one is, and what it was made from; the lines of `hfp model list`, `show` and `lineage`.

Lives here: what is told of each. Does not live here: which release is meant (`releases`), what changed between two
(`release_changes`), the decisions (`promoting`).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from hf_pipelines.commands.promoting import signals_follow
from hf_pipelines.commands.releases import Content, StoredRelease, content_of, release_of, role_of
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.display import ACCOUNT_HEADLINE, SCORES_HEADLINE
from hf_pipelines.components.strategy_stages.evidence import age_weeks
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.shown_settings import value_in_words
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.research.comparison_words import text_table
from hf_pipelines.research.promotion.lifecycle import ARCHIVED, DEVELOPMENT
from hf_pipelines.research.promotion.words import DIGITS_SHOWN
from hf_pipelines.research.wording import printable, some_of
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.footer import FITTED_MODEL, kind_by_name
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.promotions.history import (
    PASSING,
    History,
    PromotionHistoryError,
    histories_of,
)
from hf_pipelines.resources.trial_ledger import configuration_hash
from hf_pipelines.resources.trial_ledger.trials import hash_of_data

Row = dict[str, Any]

# What says most, of all that programs are told.
HEADLINE = (*(f"scores/{name}" for name in SCORES_HEADLINE), *(f"account/{name}" for name in ACCOUNT_HEADLINE))


def models_told(pipeline: Pipeline) -> list[Row]:
    """Every strategy of the project and every one with a history: what serves, since when, how old it is, and whether it is gated."""
    plans = {each.name: each for each in pipeline.strategies()}
    histories, now = histories_of(pipeline.store.objects), Clock().now()
    return [
        _row(name, plans.get(name), histories.get(name, History(name)), now) for name in sorted({*plans, *histories})
    ]


def _row(strategy: str, plan: StrategyPlan | None, history: History | PromotionHistoryError, now: datetime) -> Row:
    row: Row = {"strategy": strategy, "is_in_project": plan is not None, "is_gated": _is_gated(plan, history)}
    if isinstance(history, PromotionHistoryError):
        return {**row, "fault": str(history)}
    state, champion = history.state, history.state.champion
    today = None if plan is None else configuration_hash(settings_of(plan))
    stage = DEVELOPMENT if today is None else state.stages.get(today, DEVELOPMENT)
    if champion is not None or state.is_withdrawn:
        stage = ARCHIVED if champion is None else state.stages[champion.configuration]
    return {
        **row,
        "headline": state.headline,
        "champion": None if champion is None else str(champion.version),
        "stage": stage,
        "week": None if champion is None else champion.week,
        "since": state.since or None,
        "age_weeks": None if champion is None else age_weeks(champion.week, now, end=_end(plan)),
        "is_override": champion is not None and champion.is_override,
        "is_withdrawn": state.is_withdrawn,
        "releases": len(state.releases),
        # What the YAML says today, beside the champion: the same, or a challenger.
        "is_champion_today": None if plan is None or champion is None else champion.configuration == today,
        "stage_today": None if today is None else state.stages.get(today, DEVELOPMENT),
        "fault": None,
    }


def _is_gated(plan: StrategyPlan | None, history: History | PromotionHistoryError) -> bool | None:
    """Whether the YAML asks for gates; of a strategy that is gone the one that was judged last, None where that is not known."""
    if plan is not None:
        return plan.gates is not None
    if isinstance(history, PromotionHistoryError):
        return None
    judged = [each for each in history.records if each["yaml"]]
    return judged[-1]["yaml"].get("gates") is not None if judged else None


def _end(plan: StrategyPlan | None) -> date | None:
    return None if plan is None else plan.market.partitions.end


def models_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, bool]]:
    """A line for each strategy, and whether its history is sound."""
    sound = [each for each in rows if each["fault"] is None]
    head = ("strategy", "champion", "stage", "week", "age", "since", "gates", "its YAML today")
    yield from ((line, True) for line in text_table([head, *(_cells(each) for each in sound)]))
    if any(each["age_weeks"] is not None for each in sound):
        yield "age: weeks since the week of its evidence, until the end of a market that has one", True
    for each in rows:
        if each["fault"] is not None:
            yield f"{each['strategy']}: its history of promotions is damaged: {each['fault']}", False


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    champion = row["champion"] or ("withdrawn" if row["is_withdrawn"] else "none")
    age = row["age_weeks"]
    if not row["is_in_project"]:
        today = "not in the project"
    elif row["is_champion_today"]:
        today = "as the champion"
    else:
        today = row["stage_today"] if row["champion"] is None else f"a challenger, {row['stage_today']}"
    return (
        row["strategy"],
        champion + ", by override" * row["is_override"],
        row["stage"],
        row["week"] or "-",
        "-" if age is None else f"{age:.1f}",
        (row["since"] or "-")[:10],
        {True: "gated", False: "ungated", None: "-"}[row["is_gated"]],
        today,
    )


def release_told(pipeline: Pipeline, word: str) -> Row:
    """Everything that is known of a release, for programs.

    Raises
    ------
    ValueError
        If there is no such release.
    PromotionHistoryError
        If the history is not as it was written.
    """
    return _told(release_of(pipeline, word))


def _told(found: StoredRelease) -> Row:
    release, record, state = found.release, found.record, found.history.state
    model = found.content(FITTED_MODEL)
    return {
        "strategy": found.history.strategy,
        "version": str(release.version),
        "role": role_of(state, release),
        "stage": state.stages[release.configuration],
        "decision": release.number,
        "kind": record["kind"],
        "at": record["at"],
        "actor": record["actor"],
        "reason": record["reason"],
        "override": record["override"] or None,
        "failed_gates": _failed(record),
        "gates": record["gates"],
        "parent": None if release.parent is None else str(release.parent),
        "changed": [*release.changed],
        "week": release.week,
        "configuration": release.configuration,
        "parameters": found.settings,
        "features": found.features,
        "settings": record["settings"],
        "yaml": record["yaml"],
        "yaml_hash": record["yaml_hash"],
        "metrics": found.metrics,
        "unknown_metrics": found.unknown_metrics,
        "evidence": [
            {
                "asset": each.asset,
                "partition": each.partition,
                "content_hash": each.digest,
                "code_version": None if each.footer is None else each.footer.code_version,
                "created_at": None if each.footer is None else each.footer.created_at,
                "fault": each.fault or None,
            }
            for each in found.contents
        ],
        "artifacts": {} if model is None or model.footer is None else dict(model.footer.attachments),
        "mlflow_run_id": None if model is None or model.footer is None else model.footer.facts.get("mlflow_run_id"),
    }


def _failed(record: Mapping[str, Any]) -> list[str]:
    return [str(each["gate"]) for each in record["gates"] if each["verdict"] not in PASSING]


def release_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """A release for a person."""
    yield from map(printable, _release_lines(told))


def _release_lines(told: Mapping[str, Any]) -> Iterator[str]:
    override = f", by override in the name of {told['override']}" if told["override"] else ""
    yield f"{told['strategy']} {told['version']}: {told['role']}{override}"
    yield f"  decision {told['decision']}, {told['at'][:16].replace('T', ' ')}: {told['kind']} by {told['actor']}: {told['reason']}"
    if told["failed_gates"]:
        yield f"  gates that stood in the way: {', '.join(told['failed_gates'])}"
    parent = told["parent"]
    if parent is None:
        yield "  the first release"
    elif told["changed"]:
        yield f"  changed since {parent}: {', '.join(told['changed'])}"
    else:
        yield f"  a refit of {parent} by another week"
    yield f"  week {told['week']}, configuration {told['configuration'][:DIGITS_SHOWN]} ({told['stage']}), YAML {told['yaml_hash'][:DIGITS_SHOWN]}"
    yield "Parameters:"
    yield from (f"  {name}: {value_in_words(value)}" for name, value in told["parameters"].items())
    yield f"Features: {len(told['features'])}"
    yield f"  {some_of(told['features'])}"
    yield "Metrics:"
    shown = [name for name in HEADLINE if name in told["metrics"]]
    yield from (f"  {name}: {number_in_words(told['metrics'][name])}" for name in shown)
    if len(shown) < len(told["metrics"]):
        yield f"  {len(told['metrics']) - len(shown)} more: --json"
    yield from (f"  unknown: {each}" for each in told["unknown_metrics"])
    yield "Evidence:"
    for each in told["evidence"]:
        fault = f" ({each['fault']})" if each["fault"] else ""
        yield f"  {each['asset']} {each['partition']} {each['content_hash'][:DIGITS_SHOWN]}{fault}"
    yield "Artifacts (sha256):"
    yield from (f"  {name} {digest}" for name, digest in told["artifacts"].items())
    if not told["artifacts"]:
        yield "  none: the model is not stored any more"
    if told["mlflow_run_id"]:
        yield f"MLflow run: {told['mlflow_run_id']}"


def number_in_words(value: float | str | None) -> str:
    """A stored number; undefined is said."""
    if value is None:
        return "undefined"
    return value if isinstance(value, str) else f"{value:,.4g}"


def lineage_told(pipeline: Pipeline, word: str) -> Row:
    """The releases that one descends from, and all contents that it was made from, up to the bars; for programs.

    Raises
    ------
    ValueError
        If there is no such release.
    PromotionHistoryError
        If the history is not as it was written.
    """
    found = release_of(pipeline, word)
    state = found.history.state
    known = {each.version: each for each in state.releases}
    ancestors, release = [], found.release
    while release.parent is not None:
        parent = known[release.parent]
        ancestors.append(
            {
                "version": str(parent.version),
                "week": parent.week,
                "changed": [*release.changed],
                "role": role_of(state, parent),
            }
        )
        release = parent
    return {
        "strategy": found.history.strategy,
        "version": str(found.release.version),
        "role": role_of(state, found.release),
        "configuration": found.release.configuration,
        "serves": state.headline,
        "signals": signals_follow(pipeline, found.history),
        "ancestors": ancestors,
        "made_from": [_asset_told(asset, each) for asset, each in _made_from(pipeline.store, found.contents).items()],
    }


def _made_from(store: PartitionStore, contents: Sequence[Content]) -> dict[str, list[Content]]:
    """All contents behind some, themselves among them, by asset: what is made the last comes first."""
    found: dict[tuple[str, str, str], Content] = {}
    depth: dict[str, int] = {}
    waiting = [(each, 0) for each in contents]
    while waiting:
        content, far = waiting.pop()
        depth[content.asset] = max(depth.get(content.asset, 0), far)
        key = (content.asset, content.partition, content.digest)
        if key in found:
            continue
        found[key] = content
        for asset, parts in (content.footer.inputs if content.footer else {}).items():
            waiting += [(content_of(store, asset, partition, digest), far + 1) for partition, digest in parts.items()]
    assets = sorted(depth, key=lambda each: (depth[each], each))
    return {asset: [each for each in found.values() if each.asset == asset] for asset in assets}


def _asset_told(asset: str, contents: Sequence[Content]) -> Row:
    sources = {name: digest for each in contents if each.footer for name, digest in each.footer.sources.items()}
    ordered = sorted(contents, key=lambda each: (each.partition, each.digest))
    return {
        "asset": asset,
        "kind": next((each.footer.kind for each in contents if each.footer), kind_by_name(asset)),
        "first": ordered[0].partition,
        "last": ordered[-1].partition,
        "contents": len(contents),
        "digest": hash_of_data({asset: {f"{each.partition} {each.digest}": each.digest for each in ordered}}),
        "code_versions": sorted({each.footer.code_version for each in contents if each.footer}),
        "sources": len(sources),
        "sources_digest": hash_of_data({asset: sources}) if sources else None,
        "lost": [f"{each.partition} {each.digest[:DIGITS_SHOWN]}: {each.fault}" for each in ordered if each.fault],
    }


def lineage_lines(told: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """A lineage for a person, and whether all of each line is there still."""
    yield f"{told['strategy']}: {told['serves']}; {told['signals']}", True
    yield f"{told['version']}: {told['role']}, configuration {told['configuration'][:DIGITS_SHOWN]}", True
    for each in told["ancestors"]:
        how = f"by {', '.join(each['changed'])}" if each["changed"] else "by a refit"
        yield f"  {how} from {each['version']} of week {each['week']}: {each['role']}", True
    if not told["ancestors"]:
        yield "  the first release", True
    yield "", True
    head = ("made from", "first", "last", "contents", "digest", "code and settings", "source files")
    rows = [
        (
            each["asset"],
            each["first"],
            each["last"],
            f"{each['contents']:,}",
            each["digest"][:DIGITS_SHOWN],
            _versions_in_words(each["code_versions"]),
            f"{each['sources']:,} {each['sources_digest'][:DIGITS_SHOWN]}" if each["sources"] else "-",
        )
        for each in told["made_from"]
    ]
    yield from ((line, True) for line in text_table([head, *rows]))
    for each in told["made_from"]:
        if each["lost"]:
            yield (
                f"{each['asset']}: {len(each['lost'])} of {each['contents']} cannot be read: {some_of(each['lost'])}",
                False,
            )


def _versions_in_words(versions: Sequence[str]) -> str:
    if len(versions) > 1:
        return f"{len(versions)} versions"
    return versions[0][:DIGITS_SHOWN] if versions else "-"
