"""Trial records: what a strategy's stages leave in the ledger.

Lives here: the configuration of a strategy as the ledger knows it, and recording the trials of `cv_results`, of its diagnostics and
of `backtest`. Does not live here: the ledger and the rule of what counts (`resources.trial_ledger`).

| what runs | leaves |
|---|---|
| `cv_results` of a week, whoever asks for it: a schedule, a sensor, `hfp`, the web UI | a trial |
| `backtest` of a week with the rule, costs and engine that its `cv_results` were recorded with | the return series of that trial |
| `backtest` with another rule, other costs or another engine | a trial of its own |
| `hfp try` of a week | a trial of the strategy, of source `try`, with what differs from the strategy |
| `tuning` of a week | a trial for each point, pruned and failed ones among them; that of the best is the one of `cv_results` |
| `leaderboard` of a week | a trial for each candidate that has begun (`leaderboard_records`) |
| `sweep` of a week | a trial for each point that has begun (`sweep_points`) |
| each value of a validation curve, each size of a learning curve, the permutations | a diagnostic trial |
| `fitted_model`, `signals`, `track_record` | nothing: what is fitted or issued there was evaluated before |
"""

import inspect
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.modules import CHOSEN_FROM
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, holdout_fields, single, trading_fields
from hf_pipelines.components.strategy_stages.score_display import score_metadata
from hf_pipelines.research.features import FEATURES
from hf_pipelines.research.overfitting import LEARNING, PERMUTED, VALIDATION, Overfitting
from hf_pipelines.research.score_table import ScoreTable
from hf_pipelines.research.signals import fill_rule_params
from hf_pipelines.research.splitters import SPLITTERS
from hf_pipelines.research.targets import TARGETS, neutral_value
from hf_pipelines.research.tuning import Goal, Journal, Task, Trial
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.settings import answers_trials
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError
from hf_pipelines.resources.trial_ledger import OpenTrial, Slot, TrialLedger, configuration_hash
from hf_pipelines.resources.trial_ledger.heads import LEDGER_HEAD, TRIAL
from hf_pipelines.resources.trial_ledger.importing import import_stored
from hf_pipelines.resources.trial_ledger.returns import session_returns
from hf_pipelines.resources.trial_ledger.trials import (
    BACKTEST,
    CROSS_VALIDATION,
    LEARNING_CURVE,
    PERMUTED_LABELS,
    TUNING,
    VALIDATION_CURVE,
    ancestors_of,
    kind_of,
)

# Below it lies the project's own code.
_PACKAGE = Path(__file__).resolve().parents[2]

ComputeOne = Callable[[StageRun, Mapping[str, Loaded], str], tuple[Content, Mapping[str, Any]]]

Resolve = Callable[[Mapping[str, Loaded], str], StrategyPlan]


def settings_of(plan: StrategyPlan, *, own_code: str | None = None) -> dict[str, Any]:
    """All that may change a strategy's result, as JSON values: neither its name nor the seed is among it.

    `own_code` is that of `_own_code`, where it is known already.
    """
    learner = plan.learner
    return {
        "market": plan.market.name,
        "features": {group: list(names) for group, names in sorted(plan.feature_names.items())},
        "target": [plan.target.name, _json(plan.target.params), neutral_value(plan.target)],
        "training": {
            "weeks": plan.training.weeks,
            "minimum_rows": plan.training.minimum_rows,
            "weighting": _json(plan.training.weighting_fields),
            "missing": plan.training.missing,
        },
        "cross_validation": [plan.splitter.name, _json(plan.splitter.params)],
        "learner": _json(learner.choice.settings()),
        **({"validation_share": learner.validation_share} if learner.choice.needs_validation else {}),
        "rule": [plan.rule.name, _json(fill_rule_params(plan.rule.name, plan.rule.params))],
        "account": _json(trading_fields(plan)),
        **holdout_fields(plan),
        # Of a nested study the procedure is what is evaluated: each fold has a configuration of its own.
        **({} if plan.tuning is None else {"tuning": _json(plan.tuning.fields())}),
        "own_code": _own_code(_functions_of(plan)) if own_code is None else own_code,
    }


def slot_of(
    plan: StrategyPlan,
    key: str,
    data: Mapping[str, Mapping[str, str]],
    *,
    settings: Mapping[str, Any] | None = None,
    purpose: str = "",
) -> Slot:
    """The slot of a week's evaluation; `settings` are the plan's, where they are known already."""
    return Slot(
        strategy=plan.name,
        week=key,
        configuration=configuration_hash(settings_of(plan) if settings is None else settings),
        seed=plan.learner.seed,
        data=data,
        market=plan.market.name,
        purpose=purpose,
    )


def recording_cross_validation(
    strategy: StrategyPlan, compute_one: ComputeOne, *, resolve: Resolve | None = None
) -> ComputeOne:
    """The computation of a week's `cv_results`, in a trial that is begun before it and ended before its result is published.

    Parameters
    ----------
    resolve : callable, optional
        The strategy as it is evaluated: of a tuned one at the point that was chosen.
    """

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        if run.trials is None:
            # A stored partition that is replayed is no new evaluation.
            return compute_one(run, inputs, key)
        # What cannot be read is no trial: nothing is evaluated.
        inputs["training_matrix"].require([key])
        plan = strategy if resolve is None else resolve(inputs, key)
        settings = settings_of(plan)
        slot = slot_of(plan, key, inputs["training_matrix"].hashes([key]), settings=settings)
        if (answered := _answer(plan, run, slot)) is not None:
            return answered
        _import_once(plan, run, slot)
        with _begun(plan, run, slot, source=CROSS_VALIDATION, settings=settings) as trial:
            content, metadata = compute_one(replace(run, slot=slot), inputs, key)
            trial.end(scores=_scores(content))
        return _noted(trial, content, metadata)

    return compute


def recording_backtest(
    strategy: StrategyPlan, compute_one: ComputeOne, *, resolve: Resolve | None = None
) -> ComputeOne:
    """The computation of a week's `backtest`, whose account is recorded before it is published."""

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        if run.trials is None:
            return compute_one(run, inputs, key)
        plan = strategy if resolve is None else resolve(inputs, key)
        footer, matrix = single(inputs["cv_results"], key).footer, plan.asset("training_matrix")
        settings = settings_of(plan)
        slot = slot_of(plan, key, {matrix: footer.inputs.get(matrix, {})}, settings=settings)
        resumed = run.trials.resume(slot.id) if footer.facts.get(TRIAL) == slot.id else None
        with resumed or _begun(plan, run, slot, source=BACKTEST, settings=settings) as trial:
            content, metadata = compute_one(run, inputs, key)
            trial.end(scores=_scores(content), returns=session_returns(content.frame, content.facts))
        return _noted(trial, content, metadata)

    return compute


def _begun(plan: StrategyPlan, run: StageRun, slot: Slot, *, source: str, settings: Mapping[str, Any]) -> OpenTrial:
    """A trial of the strategy itself, recorded as begun."""
    assert run.trials is not None
    return run.trials.begin(
        slot,
        source=source if run.variant is None else run.variant.source,
        differs=None if run.variant is None else run.variant.differs,
        settings=settings,
        descends_from=plan.descends_from,
        code_version=run.code_version,
    )


def recording_study(
    plan: StrategyPlan,
    run: StageRun,
    key: str,
    data: Mapping[str, Mapping[str, str]],
    journal: Journal,
    *,
    place: str,
) -> Journal:
    """A journal whose trials are recorded before they run and ended before they are kept.

    Parameters
    ----------
    place : str
        Of a study on an outer fold its name: its trials are others than those on all rows, and count once for each configuration.
    """
    if run.trials is None:
        return journal
    known = run.trials.known()
    lineage = [*plan.descends_from, *ancestors_of(plan.name, known)]
    return _RecordedStudy(plan, run, run.trials, key, data, journal, place, known, lineage)


@dataclass
class _RecordedStudy:
    """A journal that records its trials in the ledger, the slot of each by its configuration: a retry is no second trial."""

    plan: StrategyPlan
    run: StageRun
    ledger: TrialLedger
    key: str
    data: Mapping[str, Mapping[str, str]]
    journal: Journal
    place: str
    before: pl.DataFrame
    lineage: list[str]
    open: dict[int, OpenTrial] = field(default_factory=dict)
    # Trials of a study differ in numbers, seldom in what they are computed by: it is read once.
    own_codes: dict[tuple[int, ...], tuple[tuple[Any, ...], str]] = field(default_factory=dict)

    def known(self) -> Mapping[int, Trial]:
        return self.journal.known()

    def begin(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            settings = self._settings(task.point)
            slot = slot_of(
                self.plan,
                self.key,
                self.data,
                settings=settings,
                purpose=f"tuning of {self.place}" if self.place else "",
            )
            self.open[task.slot] = self.ledger.begin(
                slot,
                source=TUNING,
                kind=kind_of(slot, TUNING, self.before, lineage=self.lineage),
                differs=_json(task.point),
                settings=settings,
                descends_from=self.plan.descends_from,
                code_version=self.run.code_version,
            )
        self.journal.begin(tasks)

    def record(self, trial: Trial) -> None:
        # What repeats a point is no other trial.
        if (opened := self.open.pop(trial.slot, None)) is not None:
            outcome = trial.outcome
            named = zip((each.name for each in self._goals), outcome.values, strict=False)
            opened.end(outcome.state, scores=dict(named), error=outcome.error)
        self.journal.record(trial)

    @property
    def _goals(self) -> tuple[Goal, ...]:
        assert self.plan.tuning is not None
        return self.plan.tuning.design.goals

    def _settings(self, point: Mapping[str, Any]) -> dict[str, Any]:
        try:
            tuned = self.plan.tuned(point)
            functions = _functions_of(tuned)
            # By their ids, since not all can be hashed: they are kept, so that no other object gets one.
            key = tuple(map(id, functions))
            if key not in self.own_codes:
                self.own_codes[key] = functions, _own_code(functions)
            return settings_of(tuned, own_code=self.own_codes[key][1])
        except ValueError:
            # No configuration that could be fitted: it fails, and is told apart by its point.
            return {**settings_of(replace(self.plan, tuning=None)), "point": _json(point)}


@contextmanager
def diagnostic_trials(plan: StrategyPlan, run: StageRun) -> Iterator[Callable[[Overfitting], None]]:
    """Records of all that diagnostics of a week fit; gives what ends them with their scores."""
    asked = plan.diagnostics
    if run.trials is None or run.slot is None:
        yield lambda found: None
        return
    own = run.slot
    points: list[tuple[str, str, str, StrategyPlan, dict[str, Any]]] = []
    for value, choice in asked.candidates:
        tried = replace(plan, learner=replace(plan.learner, choice=choice))
        points.append((VALIDATION_CURVE, VALIDATION, str(value), tried, {asked.parameter: _json(value)}))
    for share in asked.train_shares:
        points.append((LEARNING_CURVE, LEARNING, str(share), plan, {"train_share": share}))
    if asked.permutations:
        points.append((PERMUTED_LABELS, PERMUTED, "", plan, {"permutations": asked.permutations}))
    with ExitStack() as stack:
        begun = []
        for source, kind, point, tried, differs in points:
            slot = slot_of(tried, own.week, own.data, purpose=f"{source} {point}")
            trial = run.trials.begin(slot, source=source, parent=own.id, differs=differs, code_version=run.code_version)
            begun.append((stack.enter_context(trial), kind, point))

        def end(found: Overfitting) -> None:
            for trial, kind, point in begun:
                rows = found.scores.filter(kind=kind)
                rows = rows.filter(point=point) if point else rows
                score = rows["test_score"].mean() if rows.height else None
                trial.end(scores={asked.score: score if isinstance(score, float) else None})

        yield end


@contextmanager
def diagnostic_trial(
    tried: StrategyPlan,
    run: StageRun,
    plan: StrategyPlan,
    key: str,
    data: Mapping[str, Mapping[str, str]],
    *,
    source: str,
    differs: Mapping[str, Any],
) -> Iterator[Callable[[Mapping[str, float | None]], object]]:
    """Record of a fit of `tried` that says something of the week of `plan`, and is no choice; gives what ends it with its scores."""
    if run.trials is None:
        yield lambda scores: None
        return
    parent = slot_of(plan, key, data)
    slot = slot_of(tried, key, data, purpose=f"{source} {json.dumps(_json(differs), sort_keys=True)}")
    with run.trials.begin(
        slot, source=source, parent=parent.id, differs=_json(differs), code_version=run.code_version
    ) as trial:
        yield lambda scores: trial.end(scores=scores)


def _answer(plan: StrategyPlan, run: StageRun, slot: Slot) -> tuple[Content, Mapping[str, Any]] | None:
    """What is stored of a trial that was completed on the same data by the same code; None if it must be made.

    Only what is current, sound and noted by the ledger as this very trial: anything else is fitted anew.
    """
    if run.trials is None or not answers_trials():
        return None
    if run.trials.answer(slot, code_version=run.code_version) is None:
        return None
    store = PartitionStore(run.trials.objects)
    try:
        stored = store.read(plan.asset("cv_results"), slot.week)
        footer = stored.footer
        attachments = {name: store.read_attachment(footer, name) for name in footer.attachments}
    except (ObjectMissingError, StoredPartitionError):
        return None
    is_it = footer.facts.get(TRIAL) == slot.id and footer.code_version == run.code_version
    if not (is_it and {asset: dict(of) for asset, of in footer.inputs.items()} == slot.fields()["data"]):
        return None
    run.log.info(
        f"{footer.asset} {slot.week}: answered by trial {slot.id}, made {footer.created_at}; nothing was fitted"
    )
    content = Content(stored.frame, attachments, footer.inputs, facts=footer.facts)
    table = ScoreTable(
        scores=pl.read_parquet(io.BytesIO(attachments["scores.parquet"])),
        fold_metrics=pl.read_parquet(io.BytesIO(attachments["fold_metrics.parquet"])),
        verdict=str(footer.facts["verdict"]),
        notes=(),
    )
    heading = f"{plan.name}, week {slot.week}"
    page = score_metadata(table, plan.target, stored.frame, footer.facts["metrics"], heading=heading)
    shown = {**page, **_scores(content), "folds": table.fold_metrics.height}
    return content, {**shown, TRIAL: slot.id, "answered_by": f"trial {slot.id}, made {footer.created_at}"}


def _noted(trial: OpenTrial, content: Content, metadata: Mapping[str, Any]) -> tuple[Content, Mapping[str, Any]]:
    """The content and its metadata with the trial, and where the chain of records ended then."""
    noted = {TRIAL: trial.id, **({} if trial.head is None else {LEDGER_HEAD: trial.head.to_text()})}
    return replace(content, facts={**content.facts, **noted}), {**metadata, **noted}


def _import_once(plan: StrategyPlan, run: StageRun, slot: Slot) -> None:
    """Take results that were stored before there was a ledger into it, before the strategy's first trial."""
    if run.trials is None or not run.trials.known().filter(strategy=plan.name).is_empty():
        return
    store = PartitionStore(run.trials.objects)
    n = import_stored(run.trials, store, plan.asset("cv_results"), now=(run.code_version, slot))
    if n:
        run.log.info(f"{n} stored results of {plan.asset('cv_results')} were taken into the trial ledger")


def _scores(content: Content) -> dict[str, Any]:
    metrics = content.facts.get("metrics")
    return dict(metrics) if isinstance(metrics, Mapping) else {}


def _functions_of(plan: StrategyPlan) -> tuple[Any, ...]:
    """The functions by which a strategy is evaluated."""
    return (
        *plan.learner.choice.fitting_functions(),
        *plan.training.weighting_functions,
        *plan.rule.functions,
        SPLITTERS[plan.splitter.name].build,
        *plan.backtest.functions,
        TARGETS[plan.target.name].label,
        *(FEATURES[name].compute for name in plan.all_features if name in FEATURES),
    )


def _own_code(functions: tuple[Any, ...]) -> str:
    """Hash of those functions of a strategy that are not the project's; "" where all are.

    The project's own code is apart, in `code_version`: an update of it is no choice between configurations.
    """
    version = code_version(*functions, fields={}, chosen_from=CHOSEN_FROM)
    own = [code for code in version.codes if not Path(code.co_filename).is_relative_to(_PACKAGE)]
    return configuration_hash({"sources": sorted(inspect.getsource(code) for code in own)}) if own else ""


def _json(value: Any) -> Any:
    """As JSON holds it: mappings in the order of their names, tuples as lists, anything else by its text."""
    if isinstance(value, Mapping):
        return {str(name): _json(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_json(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
