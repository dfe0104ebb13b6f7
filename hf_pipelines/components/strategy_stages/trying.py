"""Trying: one configuration of a strategy from features to account, in this process, beside all that is current.

Lives here: reading what is stored, computing what is not, in a store of its own. Does not live here: the stages themselves, the
configuration (`components.setting_overrides`), where tries are kept (`resources.tries`).

The same stages, checks and records of trials as in a run of Dagster's: a try of what the strategy is anyway gives the bits that are
stored of it.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import perf_counter
from typing import Any

import polars as pl

from hf_pipelines.components.market_stages.features import features_stage
from hf_pipelines.components.market_stages.plan import MarketPlan
from hf_pipelines.components.stage import Stage, StageInput, window
from hf_pipelines.components.stage_asset import check_contents
from hf_pipelines.components.stage_run import StageRun, Variant
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.training_matrix import require_window
from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.footer import Footer, Stamp
from hf_pipelines.resources.parquet_io_manager import Loaded, load_partitions, verdict_faults
from hf_pipelines.resources.partition_codec import Content, Stored
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.settings import answers_trials
from hf_pipelines.resources.storage_errors import StoredPartitionError
from hf_pipelines.resources.trial_ledger import TrialLedger
from hf_pipelines.resources.trial_ledger.heads import TRIAL
from hf_pipelines.resources.trial_ledger.trials import TRY, hash_of_data
from hf_pipelines.resources.tries import TriedWeek

# What a try keeps, in flow order.
KEPT = ("cv_results", "backtest")

STAGES = ("training_matrix", *KEPT)

# In footers of what no run of Dagster's has made.
RUN_ID = "try"


@dataclass(frozen=True)
class Made:
    """A week of a try: its record, what it keeps by stage, and what was read of it instead of computed."""

    week: TriedWeek
    contents: Mapping[str, tuple[Content, Footer]]
    read: tuple[str, ...]


@dataclass
class Trying:
    """One configuration under way.

    Attributes
    ----------
    plan : StrategyPlan
        Of the configuration. Its market may have features that the project's does not store.
    stages : sequence of Stage
        Of the plan: those of `kinds`, which are made in their order, and its study.
    market : MarketPlan
        As the project has it.
    store : PartitionStore
        Of the project: only read.
    work : PartitionStore
        An empty one on this machine, for what is made.
    ledger : TrialLedger
    differs : mapping or None
        From the strategy, for the ledger; None: it is no try, but a configuration of the strategy's own.
    now : datetime
        UTC.
    tell : callable
        Told what is being done.
    kinds : tuple of str
        What is made, in flow order.
    """

    plan: StrategyPlan
    stages: Sequence[Stage]
    market: MarketPlan
    store: PartitionStore
    work: PartitionStore
    ledger: TrialLedger
    differs: Mapping[str, Any] | None
    now: datetime
    tell: Callable[[str], None] = lambda line: None
    kinds: tuple[str, ...] = STAGES
    # Each content is read once: a run beside it may publish another one between two stages.
    _read: dict[tuple[str, str], Stored] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)

    def make(self, week: str) -> Made:
        """Evaluate the configuration in a week.

        Raises
        ------
        ValueError
            If the week cannot be made, or what it came to fails a guard.
        """
        began = perf_counter()
        made = self.contents(week)
        footers = {kind: footer for kind, (_, footer) in made.items()}
        matrix = footers["training_matrix"]
        found = TriedWeek(
            trial=str(footers["backtest"].facts[TRIAL]),
            contents={kind: footers[kind].content_hash for kind in KEPT},
            matrix=matrix.content_hash,
            data={asset: hash_of_data({asset: of})[:12] for asset, of in sorted(matrix.inputs.items())},
            metrics={kind: _numbers(footers[kind].facts.get("metrics")) for kind in KEPT},
            seconds=perf_counter() - began,
        )
        return Made(found, {kind: made[kind] for kind in KEPT}, tuple(self._notes))

    def contents(self, week: str) -> dict[str, tuple[Content, Footer]]:
        """Everything that is made of a week, by kind; errors as of `make`."""
        require_window(self.plan, week)
        self._notes = []
        stages = {each.kind: each for each in self.stages}
        return {kind: self._stage(stages[kind], week) for kind in self.kinds}

    def _stage(self, stage: Stage, week: str) -> tuple[Content, Footer]:
        """A stage of the week: as it is stored where that is the same, else computed and checked."""
        began = perf_counter()
        inputs = {each.name: self.load(each, week) for each in stage.inputs}
        if (same := self._stored(stage, week, inputs)) is not None:
            self._notes.append(f"{stage.asset} {week} {same[1].content_hash[:12]} as it is stored")
            return same
        self.tell(f"{stage.kind} of {week}")
        run = StageRun(
            (week,),
            self.now,
            logging.getLogger(__name__),
            store=self.store,
            code_version=stage.code_version,
            trials=self.ledger,
            variant=None if self.differs is None else Variant(TRY, self.differs),
        )
        computed = stage.compute(run, inputs)
        guards = replace(stage, checks=tuple(each for each in stage.checks if each.is_guard))
        publication, _ = check_contents(guards, run, inputs, computed)
        if publication.rejected:
            found = [
                f"{name}: {'; '.join(each.findings[:3])}"
                for name, each in publication.verdicts[week].items()
                if not each.passed
            ]
            raise ValueError(
                f"`{stage.kind}` of a try must pass the guards of the strategy's own, failed {' | '.join(found)}"
            )
        content = computed.contents[week]
        published = self.work.publish(
            stage.asset, week, content, self._stamp(stage), verdicts=publication.verdicts[week], kind=stage.kind
        )
        self.tell(f"{stage.kind} of {week}: {perf_counter() - began:.1f} s")
        return content, published.footer

    def _stored(self, stage: Stage, week: str, inputs: Mapping[str, Loaded]) -> tuple[Content, Footer] | None:
        """What the project stores of a stage, if it is what would be computed; None if it is not, or is wanted anew."""
        try:
            footer = self.store.footer(stage.asset, week) if answers_trials() else None
            if footer is None or footer.code_version != stage.code_version:
                return None
            read = self._weeks_read(stage, week)
            made_from: dict[str, Mapping[str, str]] = {}
            for name, keys in read.items():
                inputs[name].require(keys)
                made_from |= inputs[name].hashes(keys)
            if not all(each.passed for each in footer.verdicts.values()) or made_from != dict(footer.inputs):
                return None
            stored = self.store.read(stage.asset, week)
            if stored.footer != footer:
                # A run has published meanwhile.
                return None
            attachments = {name: self.store.read_attachment(footer, name) for name in footer.attachments}
        except (StoredPartitionError, ValueError):
            return None
        content = Content(stored.frame, attachments, footer.inputs, facts=footer.facts)
        self.work.publish(
            stage.asset,
            week,
            content,
            Stamp(footer.code_version, footer.run_id, footer.created_at),
            verdicts=footer.verdicts,
            kind=footer.kind,
        )
        return content, footer

    def _weeks_read(self, stage: Stage, week: str) -> dict[str, list[str]]:
        return {
            each.name: [week] if each.asset.startswith(f"{self.plan.name}/") else self.plan.selection_window(each, week)
            for each in stage.inputs
        }

    def load(self, wanted: StageInput, week: str) -> Loaded:
        """An input as a run would read it: what was made here out of the own store, all else out of the project's."""
        of_strategy = wanted.asset.startswith(f"{self.plan.name}/")
        is_made = wanted.asset.partition("/")[2] in self.kinds and of_strategy
        keys = [week] if of_strategy else window(self.plan.market.partitions, wanted, week)
        group = wanted.asset.removeprefix(f"{self.plan.market.name}/features/")
        if group != wanted.asset and (lacking := self._lacking(wanted, group, week)):
            self._compute_features(group, lacking)
        facts = wanted.asset_in().metadata or {}
        if is_made:
            return load_partitions(self.work, wanted.asset, keys, facts=facts, tags={})
        if wanted.asset == self.plan.asset("tuning"):
            self._require_study(week)
        fresh = [key for key in keys if (wanted.asset, key) not in self._read]
        loaded = load_partitions(self.store, wanted.asset, fresh, facts=facts, tags={})
        self._read |= {(wanted.asset, key): part for key, part in loaded.parts.items()}
        parts = {key: self._read[wanted.asset, key] for key in keys if (wanted.asset, key) in self._read}
        if wanted.guard is not None:
            # Of what the try has computed itself, too.
            refused = wanted.guard.refused(wanted.asset, parts, {})
            loaded = replace(loaded, damaged={**loaded.damaged, **refused})
        return replace(loaded, parts={key: part for key, part in parts.items() if key not in loaded.damaged})

    def _require_study(self, week: str) -> None:
        (stage,) = (each for each in self.stages if each.kind == "tuning")
        footer = self.store.footer(stage.asset, week)
        if footer is None or footer.code_version != stage.code_version:
            was = "is none" if footer is None else "is one of other settings"
            raise ValueError(
                f"`tuning` must have a stored study of week {week} with these very settings for a try, there {was}; a try makes no study: "
                "--set tuning=null tries what the YAML says without one."
            )

    def _lacking(self, wanted: StageInput, group: str, week: str) -> dict[str, tuple[str, ...]]:
        """Features of a group that are not stored for a week that is read, by week."""
        names, found = self.plan.feature_names[group], {}
        stored_weeks = {*self.store.partitions(wanted.asset)} if group in self.market.feature_groups else set()
        for key in self.plan.selection_window(wanted, week):
            if (wanted.asset, key) in self._read:
                continue
            if key not in stored_weeks:
                found[key] = tuple(names)
            elif not {*names} <= {*self.market.feature_groups[group]}:
                stored = self.store.read(wanted.asset, key).frame.columns
                if lacking := tuple(name for name in names if name not in stored):
                    found[key] = lacking
        return found

    def _compute_features(self, group: str, lacking: Mapping[str, tuple[str, ...]]) -> None:
        """Features that are not stored, replayed as those that are; put beside those of the group that are stored."""
        for names in dict.fromkeys(lacking.values()):
            weeks = [week for week, each in lacking.items() if each == names]
            self.tell(f"{len(names)} features of {group} in {len(weeks)} weeks")
            market = replace(self.plan.market, feature_groups={group: names})
            stage = features_stage(market, group)
            inputs = {each.name: self._load_weeks(each, market, weeks) for each in stage.inputs}
            run = StageRun(
                tuple(weeks), self.now, logging.getLogger(__name__), store=self.store, code_version=stage.code_version
            )
            computed = stage.compute(run, inputs)
            if computed.failures:
                week, fault = min(computed.failures.items())
                once = f"; all at once: hfp materialise {stage.asset} --from {weeks[0]} --to {weeks[-1]} --with-inputs"
                told = fault.partition("; materialise it first")[0]
                raise ValueError(
                    f"`features` of a try must be computed for {week}, could not: {told}{once if group in self.market.feature_groups else ''}"
                )
            guards = replace(stage, checks=tuple(each for each in stage.checks if each.is_guard))
            publication, _ = check_contents(guards, run, inputs, computed)
            for week in sorted(publication.rejected)[:1]:
                failed = [each for each in publication.verdicts[week].values() if not each.passed]
                raise ValueError(
                    f"`features` of a try must pass their guards, {some_of(names)} of {week} failed: {failed[0].findings[:1]}"
                )
            for week, content in computed.contents.items():
                self._put_features(stage, week, content, names, publication.verdicts[week])
            self._notes.append(f"{len(names)} features of {group} computed in {len(weeks)} weeks: {some_of(names)}")

    def _put_features(
        self, stage: Stage, week: str, content: Content, names: Sequence[str], verdicts: Mapping[str, Any]
    ) -> None:
        frame, inputs = content.frame, content.inputs
        if self.store.footer(stage.asset, week) is not None and len(names) < len(
            self.plan.feature_names[stage.asset.rpartition("/")[2]]
        ):
            stored = self.store.read(stage.asset, week)
            if faults := verdict_faults({week: stored}, stage.asset, "replay"):
                raise ValueError(faults[week])
            frame = stored.frame.join(
                frame.select(*KEY_COLUMNS, *names), on=[*KEY_COLUMNS], how="left", maintain_order="left"
            ).with_columns(pl.col(names).fill_null(float("nan")))
            inputs = {**inputs, stage.asset: {week: stored.footer.content_hash}}
        joined = Content(frame, inputs=inputs)
        digest = joined.content_hash()
        passed = {name: replace(each, content_hash=digest) for name, each in verdicts.items()}
        self.work.publish(stage.asset, week, joined, self._stamp(stage), verdicts=passed, kind=stage.kind)
        self._read[stage.asset, week] = self.work.read(stage.asset, week)

    def _load_weeks(self, wanted: StageInput, market: MarketPlan, weeks: Sequence[str]) -> Loaded:
        keys = sorted({key for week in weeks for key in window(market.partitions, wanted, week)})
        return load_partitions(self.store, wanted.asset, keys, facts=wanted.asset_in().metadata or {}, tags={})

    def _stamp(self, stage: Stage) -> Stamp:
        return Stamp(stage.code_version, RUN_ID, self.now.isoformat(timespec="seconds"))


def _numbers(metrics: object) -> dict[str, float | None]:
    if not isinstance(metrics, Mapping):
        return {}
    return {str(name): float(each) if isinstance(each, int | float) else None for name, each in metrics.items()}
