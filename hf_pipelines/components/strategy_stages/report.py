"""`<strategy>/report`: one page that shows a week of a strategy. Made when it is asked for.

Lives here: what is read of the week, and the page beside its table of numbers. Does not live here: sections (`research.report`), the
evidence of gates (`evidence`).
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import cache
from hashlib import sha256
from time import perf_counter
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.code_version import CodeVersion, code_version
from hf_pipelines.components.market_stages import code_versions
from hf_pipelines.components.modules import CHOSEN_FROM
from hf_pipelines.components.stage import Stage, StageInput
from hf_pipelines.components.stage_run import StageRun, each_partition
from hf_pipelines.components.strategy_stages.decided_weights import deciding_functions
from hf_pipelines.components.strategy_stages.evidence import champion_of, gather_evidence
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.reconciliation import CHECKED_BY
from hf_pipelines.partitions import shift_week, usual_sessions
from hf_pipelines.research.backtest import ENGINES, Execution
from hf_pipelines.research.costs import Costs
from hf_pipelines.research.promotion import judge_gates
from hf_pipelines.research.promotion.lifecycle import Lifecycle
from hf_pipelines.research.report.making import make_page, numbers_of
from hf_pipelines.research.report.results import Part, Trials, WeekResults
from hf_pipelines.research.targets import Target
from hf_pipelines.resources.currency import CurrencyChecker
from hf_pipelines.resources.footer import SIGNALS, Footer
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content, Stored
from hf_pipelines.resources.partition_store import PartitionStore, attached_key
from hf_pipelines.resources.report_files import PAGE, page_files
from hf_pipelines.resources.trial_ledger import TrialLedger
from hf_pipelines.resources.trial_ledger.judging import (
    best_of,
    estimate_of,
    judge,
    judge_choice,
    sharing_sessions,
    sharpes_of,
)
from hf_pipelines.resources.trial_ledger.trials import counted, select

# Of the week, beside what is there every week: the page says which command makes them.
REQUIRED = ("cv_results", "backtest")
OPTIONAL = ("fitted_model", "validation", "full_validation", "track_record")

# Issues whose models are looked up: a quarter.
MOST_ISSUES = 65

# Ends the names of tables that are attached to a partition.
TABLE = ".parquet"

DESCRIPTION = (
    "One HTML page of the week, which needs no network: the verdict and its gates, the account with and without costs, and what is stored "
    "of the search, the model and its predictions. A row a number that the page shows. Nothing is fitted. hfp report STRATEGY opens it."
)


def report(plan: StrategyPlan, stages: Sequence[Stage]) -> Stage:
    """`<strategy>/report`: the page of a week, and its numbers."""
    inputs = [StageInput(name, plan.asset(name)) for name in REQUIRED]
    inputs += [StageInput(name, plan.asset(name), is_optional=True) for name in OPTIONAL]
    versions = {**code_versions(plan.market), **{each.asset: each.code_version for each in stages}}
    issues = [each.asset for each in stages if each.kind == SIGNALS]

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        began = perf_counter()
        store = run.store
        assert store is not None
        checker = CurrencyChecker(store, versions, {}, issues)
        results = week_results(plan, store, key, inputs, checker=checker, now=run.now)
        page = make_page(results, page_files())
        hashes: dict[str, Mapping[str, str]] = {}
        for each in inputs.values():
            hashes |= each.hashes([key] if key in each.parts else [])
        content = Content(
            numbers_of(page),
            attachments={PAGE: page.html},
            inputs=hashes,
            facts={"sentence": page.sentence, "is_passed": results.decision.is_passed},
        )
        address = store.objects.address(page_key(plan.asset("report"), key, page.html))
        return content, {
            "says": page.sentence,
            "page": dg.MetadataValue.url(f"/reports/{plan.name}/{key}"),
            "stored": dg.MetadataValue.url(address) if store.objects.is_remote else dg.MetadataValue.path(address),
            "open": f"hfp report {plan.name} {key} --open",
            "page_bytes": len(page.html),
            "report_s": perf_counter() - began,
        }

    return Stage(
        asset=plan.asset("report"),
        kind="report",
        description=DESCRIPTION,
        kinds=frozenset({"html", "parquet"}),
        partitions=plan.weekly,
        inputs=tuple(inputs),
        compute=each_partition(compute),
        is_range_run=False,
        code_version=_version(plan),
        # It reads what others have stored, which are kept out of a hold-out themselves.
        reads_holdout="always",
    )


def week_results(
    plan: StrategyPlan,
    store: PartitionStore,
    week: str,
    inputs: Mapping[str, Loaded],
    *,
    checker: CurrencyChecker,
    now: datetime,
) -> WeekResults:
    """What is stored of a week, judged.

    Raises
    ------
    ValueError
        If the week has no results or no backtest.
    """
    for name in REQUIRED:
        inputs[name].require([week])
    champion = champion_of(plan, store)
    evidence = gather_evidence(plan, store, week, checker=checker, now=now, champion=champion)
    return WeekResults(
        strategy=plan.name,
        week=week,
        market=plan.market.name,
        description=plan.description,
        currency=plan.market.currency,
        until=now.date(),
        decision=judge_gates(evidence, plan.gates),
        parts=_matrix(plan, store, week)
        | _drift(plan, store, week)
        | {name: _part(store, each.parts[week]) for name, each in inputs.items() if week in each.parts},
        sessions_per_year=usual_sessions(plan.market.partitions.calendar_name)[0],
        trials=_trials(plan, store),
        served=_served(plan, store, week),
    )


def page_key(asset: str, week: str, html: bytes) -> str:
    """Key of the stored page."""
    return attached_key(asset, week, PAGE, sha256(html).hexdigest())


class _Attached(Mapping[str, pl.DataFrame]):
    """Tables beside a partition, each read when it is asked for: trades of years, which no section shows, are most of the bytes."""

    def __init__(self, store: PartitionStore, footer: Footer) -> None:
        self._store, self._footer = store, footer
        self._read: dict[str, pl.DataFrame] = {}

    def __getitem__(self, name: str) -> pl.DataFrame:
        attached = f"{name}{TABLE}"
        if attached not in self._footer.attachments:
            raise KeyError(name)
        if name not in self._read:
            self._read[name] = pl.read_parquet(io.BytesIO(self._store.read_attachment(self._footer, attached)))
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return (each.removesuffix(TABLE) for each in self._footer.attachments if each.endswith(TABLE))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _part(store: PartitionStore, stored: Stored) -> Part:
    footer = stored.footer
    return Part(
        frame=stored.frame,
        facts=footer.facts,
        tables=_Attached(store, footer),
        content_hash=footer.content_hash,
        code_version=footer.code_version,
        made_at=str(footer.created_at),
        inputs={asset: len(keys) for asset, keys in footer.inputs.items()},
        verdicts={name: each.passed for name, each in footer.verdicts.items()},
    )


def _matrix(plan: StrategyPlan, store: PartitionStore, week: str) -> dict[str, Part]:
    """The training matrix by its footer alone: it is large, and nothing of it is shown."""
    footer = store.footer(plan.asset("training_matrix"), week)
    return {} if footer is None else {"training_matrix": _part(store, Stored(pl.DataFrame(), footer))}


def _drift(plan: StrategyPlan, store: PartitionStore, week: str) -> dict[str, Part]:
    """What the last session of the week that was judged says of drift; it is made beside signals, which no page waits for."""
    asset = plan.asset("drift")
    if not (days := [each for each in store.partitions(asset) if week <= each < shift_week(week, 1)]):
        return {}
    part = _part(store, store.read(asset, days[-1]))
    return {"drift": replace(part, facts={**part.facts, "session": days[-1]})}


def _trials(plan: StrategyPlan, store: PartitionStore) -> Trials | None:
    """The search as the ledger knows it; nothing of one that cannot be read whole, which would count too few."""
    every, unreadable = TrialLedger(store.objects, "").read()
    trials = counted(select(every, strategy=plan.name))
    best_trial = best_of(trials)
    best = estimate_of(best_trial)
    if unreadable or best is None:
        return None
    judged, lacking = judge(store.objects, trials, best)
    if lacking:
        return None
    choice, _ = judge_choice(sharing_sessions(store.objects, trials))
    return Trials(
        n_trials=judged.n_trials,
        n_independent=judged.n_independent,
        best_week=str(best_trial["week"][0] or ""),
        sharpes=tuple(float(each) for each in sharpes_of(trials) if each == each),
        best=best.sharpe,
        expected_maximum=judged.expected_maximum,
        probabilistic=judged.probabilistic,
        deflated=judged.deflated,
        deflated_by_all=judged.deflated_by_all,
        overfitting=None if choice is None else choice.probability,
    )


def _served(plan: StrategyPlan, store: PartitionStore, week: str) -> pl.DataFrame:
    """Stretches of sessions whose signals one model issued, of the last ones to the end of the week; by footers alone."""
    asset, until = plan.asset("signals"), shift_week(week, 1)
    rows = []
    for day in [each for each in store.partitions(asset) if each < until][-MOST_ISSUES:]:
        footer = store.footer(asset, day)
        models = {} if footer is None else footer.inputs.get(plan.asset("fitted_model"), {})
        if models:
            # A rule that looks back reads models of earlier weeks too; the latest issues.
            rows.append((date.fromisoformat(day), max(models), models[max(models)][:12]))
    schema = {"session": pl.Date, "model_week": pl.String, "model": pl.String}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    stretches = frame.with_columns(stretch=pl.struct("model_week", "model").rle_id()).group_by(
        "stretch", "model_week", "model", maintain_order=True
    )
    found = stretches.agg(
        first=pl.col("session").min(), last=pl.col("session").max(), n_sessions=pl.col("session").n_unique()
    )
    return found.drop("stretch").reverse()


def _version(plan: StrategyPlan) -> CodeVersion:
    """Of what makes the page of any strategy, and of what decides and trades this one's weights again."""
    engines = [ENGINES[name].run for name in CHECKED_BY]
    traded = code_version(
        *deciding_functions(plan),
        *plan.backtest.functions,
        *engines,
        *(Costs, Execution, Target),
        fields={},
        chosen_from=CHOSEN_FROM,
    )
    files = page_files()
    texts = "".join((*files.templates.values(), files.style, files.script))
    version = code_version(
        fields={
            "made_by": _made_by(),
            "traded_by": traded,
            "files": [sha256(texts.encode()).hexdigest(), files.library_sha256.hex()],
        }
    )
    version.codes = _made_by().codes | traded.codes
    return version


@cache
def _made_by() -> CodeVersion:
    """Of what makes the page of any strategy: long to follow, and the same for all."""
    functions = (make_page, numbers_of, WeekResults, gather_evidence, Lifecycle, judge_gates)
    return code_version(*functions, fields={}, chosen_from=CHOSEN_FROM)
