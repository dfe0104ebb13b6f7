"""Runs: materialising assets in this process, on the same instance that the web UI shows.

Lives here: what `hfp` and the demo need to launch a run and to know what is out of date. Does not live here: what the
assets do (`components`).
"""

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from uuid import uuid4

import dagster as dg

from hf_pipelines.commands.console import Progress, progress
from hf_pipelines.components import Market, Strategy
from hf_pipelines.components.component_tree import tree_of_sound_files
from hf_pipelines.components.market_stages import MarketPlan, manifests
from hf_pipelines.components.operations.activity import Activity
from hf_pipelines.components.operations.cause import first_failure
from hf_pipelines.components.operations.inventory import Watched
from hf_pipelines.components.operations.status import Status
from hf_pipelines.components.scaffolders import known_markets
from hf_pipelines.components.strategy_stages import LEADERBOARD, RETRAINED, SWEEP, TUNING, StrategyPlan
from hf_pipelines.components.strategy_stages.controls import untrusted_weeks
from hf_pipelines.components.yaml_files import component_files
from hf_pipelines.components.yaml_lines import LOADING_ERRORS, FaultyYAMLError, fault_lines, fault_of
from hf_pipelines.definitions import project_defs, sound_defs
from hf_pipelines.partitions import parse_key, shift_week, week_key
from hf_pipelines.research.wording import printable, some_of
from hf_pipelines.resources import settings
from hf_pipelines.resources.alert_desk import channel_statuses
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.currency import Currency, CurrencyChecker
from hf_pipelines.resources.footer import SIGNALS
from hf_pipelines.resources.incidents import BOOK_KEY, STOPPED_KEY, live_incidents
from hf_pipelines.resources.parquet_io_manager import KIND_KEY, Storage
from hf_pipelines.resources.partition_store import SHADOW, PartitionStore
from hf_pipelines.resources.project import require_project
from hf_pipelines.resources.promotions.history import histories_of
from hf_pipelines.resources.promotions.outbox import deliveries_of
from hf_pipelines.resources.pulse import Ticking, find_stopped, never_looked_at
from hf_pipelines.resources.run_launcher import in_process_tags
from hf_pipelines.resources.setting_variables import differing_variables

# Of what is out of date, commands that `hfp current` names.
STRETCHES_SHOWN = 5


class RunFailedError(RuntimeError):
    """A run failed; the message is that of its first failed step."""


def _show(shown: Progress, event: dg.EventLogEntry) -> None:
    """How far a run is: what was stored, and what the steps say of themselves (folds, trials) between that."""
    told = event.dagster_event
    if told is None:
        # What goes wrong is told where the run ends.
        is_progress = isinstance(event.level, int) and event.level <= logging.INFO and event.user_message
        shown.advance(event.user_message.splitlines()[0][:80] if is_progress else "", n=0)
    elif told.is_step_materialization:
        shown.advance(f"{told.asset_key.to_user_string() if told.asset_key else ''} {told.partition or ''}".strip())


def require_market(name: str) -> None:
    """Refuse a name that is no folder below `defs/markets`.

    Raises
    ------
    ValueError
        Naming those that there are.
    """
    known = known_markets(require_project().defs)
    if name not in known:
        raise ValueError(f"`market` must be one of {', '.join(known)}, was {name[:80]!r}.")


def sound_tree() -> tuple[dg.ComponentTree, dict[Path, str]]:
    """The tree of the project's components whose files can be read, and the faults of the other files."""
    project = require_project()
    project.use()
    return tree_of_sound_files(project.root)


def load_market(name: str) -> MarketPlan:
    """Market of a folder below `defs/markets`.

    Raises
    ------
    ValueError
        If there is no such market.
    FaultyYAMLError
        If its file cannot be read; those of others may be faulty.
    """
    require_market(name)
    tree, faults = sound_tree()
    if fault := faults.get(tree.defs_module_path / "markets" / name):
        raise FaultyYAMLError(fault)
    return tree.load_component(f"markets/{name}", expected_type=Market).plan


def stored_features() -> tuple[dict[str, list[str]], dict[Path, str]]:
    """Markets that store each feature, by the feature's name, and the faults of markets that cannot be loaded.

    Registers the features of the markets' `modules`.
    """
    tree, faults = sound_tree()
    found: dict[str, list[str]] = {}
    for path in component_files(tree.defs_module_path / "markets"):
        if path.parent in faults:
            continue
        try:
            market = tree.load_component(path.parent, expected_type=Market).plan
        except LOADING_ERRORS as e:
            faults[path.parent] = fault_of(e, tree.defs_module_path)
            continue
        for name in (name for names in market.feature_groups.values() for name in names):
            found.setdefault(name, []).append(market.name)
    return found, faults


@dataclass(frozen=True)
class Pipeline:
    """The project's definitions, its store and its Dagster instance.

    Attributes
    ----------
    faults : mapping of Path to str
        Of the components that could not be loaded and are in no definition, by their folders.
    """

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    store: PartitionStore
    faults: Mapping[Path, str] = field(default_factory=dict)

    @staticmethod
    def open(*, tells_faults: bool = True) -> "Pipeline":
        """Open the instance below DAGSTER_HOME and the configured store.

        Components that cannot be loaded are skipped, and named on stderr: a fault of one must not stop work on the others.
        """
        settings.prepare_dagster_home()
        # A command prints its own lines; the runs' logs are in the instance.
        logging.getLogger("dagster").setLevel(logging.CRITICAL)
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        faults: dict[Path, str] = {}
        try:
            definitions = project_defs()
        except FaultyYAMLError:
            definitions, faults = sound_defs()
            for line in fault_lines(faults) if tells_faults else ():
                print(f"hfp: not loaded: {line}", file=sys.stderr)
        return Pipeline(definitions, dg.DagsterInstance.get(), Storage().store(), faults)

    def assets(self) -> list[str]:
        keys = self.definitions.resolve_asset_graph().materializable_asset_keys
        return sorted("/".join(key.path) for key in keys)

    def kind(self, asset: str) -> str:
        """What an asset holds, as its footers say it."""
        return str(self.definitions.resolve_asset_graph().get(dg.AssetKey(asset.split("/"))).metadata[KIND_KEY])

    def checker(self) -> CurrencyChecker:
        """A checker of what is current, with the present code and settings."""
        versions = self._code_versions()
        now, markets = Clock().now(), self._watched().markets
        manifests_now = {
            asset: partial(each, now=now) for market in markets for asset, each in manifests(market).items()
        }
        issues = [asset for asset in versions if self.kind(asset) == SIGNALS]
        return CurrencyChecker(self.store, versions, manifests_now, issues)

    def _code_versions(self) -> dict[str, str]:
        graph = self.definitions.resolve_asset_graph()
        return {"/".join(key.path): graph.get(key).code_version or "" for key in graph.materializable_asset_keys}

    def status(self) -> Status:
        """What markets and strategies have now, what is being made, what is late, and which incidents are open."""
        now, late_after = Clock().now(), settings.late_after()
        watched = self._watched()
        inventory = watched.read(self.store, now)
        strategies = self.strategies()
        ticking = Ticking.of_repository(repository := self.definitions.get_repository_def())
        return Status(
            inventory=inventory,
            late=inventory.late(now, late_after),
            incidents=live_incidents(self.instance, [BOOK_KEY]),
            activity=Activity.read(self.instance, now, repository),
            late_after=late_after,
            now=now,
            holes=watched.holes(self.store),
            stopped=find_stopped(
                self.instance,
                ticking,
                # Ticks, queue and daemon are stamped by the wall clock, also where the pipeline's is set.
                datetime.now(UTC),
                folders=settings.written_folders(),
            ),
            strays=watched.strays(self.store),
            issue_faults=watched.issue_faults(self.store, now),
            outdated=watched.outdated(self.store, inventory, self._code_versions()),
            unloaded=never_looked_at(self.instance, ticking),
            overrides={each.name: each.overrides for each in strategies if each.overrides},
            unstarted={each.name: each.first_trainable_week for each in strategies if each.begins_too_early},
            untrusted=untrusted_weeks(self.store, [each.name for each in strategies]),
            histories=(histories := histories_of(self.store.objects)),
            deliveries=deliveries_of(self.store.objects, histories),
            ungated=[each.name for each in strategies if each.gates is None],
            other_overrides=differing_variables(),
            channels=channel_statuses(self.instance, (BOOK_KEY, STOPPED_KEY), datetime.now(UTC)),
        )

    def _watched(self) -> Watched:
        return Watched.of(self.tree())

    def tree(self) -> dg.ComponentTree:
        tree = self.definitions.component_tree
        if tree is None:
            raise ValueError("`definitions` must be made of a component tree, were not.")
        return tree

    def markets(self) -> dict[str, MarketPlan]:
        """Every market of the project, by name."""
        return {each.name: each for each in self._watched().markets}

    def strategies(self) -> list[StrategyPlan]:
        """Every strategy of the project with its market, by name."""
        markets = self.markets()
        found = [each.plan(markets[each.market]) for each in self.tree().get_all_components(of_type=Strategy)]
        return sorted(found, key=lambda each: each.name)

    def strategy(self, name: str) -> StrategyPlan:
        """A strategy of the project with its market.

        Raises
        ------
        ValueError
            If it is none, naming those that there are.
        """
        found = {each.name: each for each in self.strategies()}
        if name not in found:
            one_of = f"one of {', '.join(found)}" if found else "defined below defs/strategies, where none is"
            raise ValueError(f"`strategy` must be {one_of}, was {name[:80]!r}.")
        return found[name]

    def verdict_lines(self, strategy: str, week: str, *, began: datetime) -> list[str]:
        """What cross-validation of a week says of the model against the baselines, a line for each horizon.

        Before it, where a run that began then evaluated nothing: the same code, data and settings were a trial before.
        """
        footer = self.store.footer(f"{strategy}/cv_results", week)
        if footer is None:
            return []
        is_old = datetime.fromisoformat(footer.created_at) < began
        answered = [f"answered by the ledger: these code, data and settings were evaluated at {footer.created_at}"]
        return [*(answered if is_old else []), *str(footer.facts.get("verdict", "")).splitlines()]

    def partition_keys(
        self, asset: str, first: str, last: str, *, named: tuple[str, str] = ("from", "to")
    ) -> list[str]:
        """Partition keys of an asset from `first` to `last`.

        Raises
        ------
        ValueError
            If the asset is unknown or the keys are none of its partitions.
        """
        known = self.assets()
        if asset not in known:
            raise ValueError(f"`asset` must be one of {', '.join(known)}, was {asset[:80]!r}.")
        keys = self._all_keys(asset)
        if not keys:
            raise ValueError(f"`asset` must have partitions, {asset} has none yet: its first week has not begun.")
        for name, key in zip(named, (first, last), strict=True):
            parse_key(key)
            if key not in keys:
                remedy = self._near(asset, keys, key)
                raise ValueError(
                    f"`{name}` must be a partition of {asset} from {keys[0]} to {keys[-1]}, was {key}{remedy}."
                )
        return [key for key in keys if first <= key <= last]

    def _near(self, asset: str, keys: Sequence[str], key: str) -> str:
        """What a day within the range of an asset's keys is instead, and the key before it; before the range that of a `start`, if it is."""
        if not keys[0] < key < keys[-1]:
            plan = next((each for each in self.strategies() if each.name == asset.partition("/")[0]), None)
            if plan is None or plan.start is None or key > keys[-1] or not plan.market.partitions.has_week(key):
                return ""
            return f"; `start` of {plan.name} is {plan.start}, write an earlier one in its YAML"
        if (week := week_key(parse_key(key))) in keys and shift_week(week, 1) == keys[keys.index(week) + 1]:
            return f", a {parse_key(key):%A}; weeks are named by their Sundays, take {week}"
        for plan in self.strategies():
            if plan.name == asset.partition("/")[0]:
                is_session = plan.market.partitions.is_session
                before = [each for each in keys if each < key and is_session(parse_key(each))]
                return f", no session; take {before[-1]}, the one before" if before else ", no session"
        return ""

    def holes(self, asset: str, stored: Sequence[str]) -> list[str]:
        """Partitions between the first and the last of those stored, in their order, of which nothing is stored.

        What can never be made is none: days that are no session (signals have partitions on Sundays), weeks without one, and
        what a market's `known_gaps` leave out.
        """
        there, first, last = set(stored), min(stored, default=""), max(stored, default="")
        holes = [key for key in self._all_keys(asset) if first < key < last and key not in there]
        watched = self._watched()
        for market in watched.markets:
            if asset in (market.bars_asset, *map(market.features_asset, market.feature_groups)):
                due = [key for key in holes if market.partitions.sessions_of_week(key)]
                return [key for key in due if key not in market.known_gaps]
        for strategy in watched.strategies:
            if asset == f"{strategy.name}/signals":
                due = [key for key in holes if strategy.market.partitions.is_session(parse_key(key))]
                return [key for key in due if week_key(parse_key(key)) not in strategy.market.known_gaps]
        return holes

    def judged(self, asset: str) -> dict[str, Currency]:
        """Whether each stored partition of an asset is current, and why not.

        Raises
        ------
        ValueError
            If the asset is unknown.
        """
        if asset not in (known := self.assets()):
            raise ValueError(f"`asset` must be one of {', '.join(known)}, was {asset[:80]!r}.")
        checker, found = self.checker(), {}
        keys = self.store.partitions(asset)
        with progress(f"looking at {asset}", len(keys)) as shown:
            for key in keys:
                found[key] = checker.is_current(asset, key)
                shown.advance(key)
        return found

    def current_lines(self, asset: str) -> tuple[list[str], int]:
        """What of an asset is out of date and why, for a person, and how many partitions that are.

        Raises
        ------
        ValueError
            If the asset is unknown.
        """
        judged = self.judged(asset)
        keys = [*judged]
        lines = [f"{asset} {key}: {found.reason}" for key, found in judged.items() if found.reason]
        if holes := self.holes(asset, keys):
            # No fault: a strategy may be trained for some weeks alone.
            lines.append(
                f"{asset}: nothing is stored for {some_of(holes)}, between {keys[0]} and {keys[-1]}; where it should be: "
                f"hfp {self._making(asset)} {holes[0]} --to {holes[-1]}"
            )
        strays = self.store.strays(asset).items()
        lines += [printable(f"{self.store.objects.address(key)} is left alone: it is {what}") for key, what in strays]
        stale = [key for key, found in judged.items() if not found.is_current]
        lines += self._remaking_lines(asset, stale)
        n_stale = len(stale)
        return [*lines, f"{asset}: {len(keys) - n_stale} of {len(keys)} stored partitions are current"], n_stale

    def _remaking_lines(self, asset: str, stale: Sequence[str]) -> list[str]:
        """Commands that make partitions again, with what they are made from; one for keys that follow each other."""
        stretches: list[list[str]] = []
        wanted = {*stale}
        for before, key in pairwise(["", *(each for each in self._all_keys(asset))]):
            if key in wanted:
                stretches = [*stretches[:-1], [*stretches[-1], key]] if before in wanted else [*stretches, [key]]
        lines = [
            f"{asset}: make {some_of(keys)} again: hfp {self._making(asset)} {keys[0]} --to {keys[-1]} --with-inputs"
            for keys in stretches
        ]
        more = len(lines) - STRETCHES_SHOWN
        return lines if more <= 0 else [*lines[:STRETCHES_SHOWN], f"{asset}: and {more} stretches more"]

    def _making(self, asset: str) -> str:
        """The command that makes an asset, up to its first partition: what a model is made of is made with it."""
        owner, _, stage = asset.rpartition("/")
        return (
            f"retrain {owner} --week"
            if stage in (*RETRAINED, TUNING, LEADERBOARD, SWEEP)
            else f"materialise {asset} --from"
        )

    def _all_keys(self, asset: str) -> Sequence[str]:
        definition = self.definitions.resolve_asset_graph().get(dg.AssetKey(asset.split("/"))).partitions_def
        return definition.get_partition_keys() if definition else []

    def materialise(
        self, assets: Sequence[str], first: str, last: str, *, tags: Mapping[str, str] = MappingProxyType({})
    ) -> float:
        """Materialise assets over a range of partitions in one run, with some run tags; returns its seconds.

        Failing checks go to stderr.

        Raises
        ------
        RunFailedError
            With the message of the first failed step.
        """
        began = perf_counter()
        run_id = str(uuid4())
        of_run = {**tags, **in_process_tags(run_id)}
        if first != last:
            of_run |= {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        n_partitions = sum(first <= key <= last for key in self._all_keys(assets[0]))
        with progress(f"run of {some_of(assets)}", len(assets) * n_partitions) as shown:
            self.instance.add_event_listener(run_id, partial(_show, shown))
            result = self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
                instance=self.instance,
                asset_selection=[dg.AssetKey(asset.split("/")) for asset in assets],
                partition_key=first if first == last else None,
                tags=of_run,
                run_id=run_id,
                raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
        # Printed for a failed run too: its other partitions are published, and may have faults of their own.
        for each in result.get_asset_check_evaluations():
            if not each.passed:
                asset, text = "/".join(each.asset_key.path), (each.description or "it failed").replace("\n", "\n    ")
                print(f"{each.severity.value}: check {each.check_name} of {asset}: {text}", file=sys.stderr)
        if not result.success:
            raise RunFailedError(first_failure(result.all_events)[1])
        for line in _kept_beside(result.all_events):
            print(line, file=sys.stderr)
        if not result.get_asset_materialization_events():
            print(f"{some_of(assets)}: nothing was stored, there was nothing to make", file=sys.stderr)
        return perf_counter() - began


def _kept_beside(events: Iterable[dg.DagsterEvent]) -> Iterator[str]:
    """A line for each asset whose issues stay as they are though others come out now: success alone would say that they are new."""
    found: dict[str, list[str]] = {}
    for event in events:
        if event.is_step_materialization:
            made = event.step_materialization_data.materialization
            if (outcome := made.metadata.get("outcome")) is not None and outcome.value == SHADOW:
                found.setdefault("/".join(made.asset_key.path), []).append(str(made.partition))
    for asset, keys in found.items():
        yield (
            f"{asset} {some_of(sorted(keys))}: the issue stays as it was issued; what comes out now is another one and is kept "
            f"beside it: hfp versions {asset} {min(keys)}"
        )
