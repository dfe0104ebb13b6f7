"""A project of its own in a temporary folder: the real components, store, tracker and Dagster instance.

Lives here: what a test needs to write a market and strategies as YAML, lay session files out, run assets and look at
what was recorded. Nothing is replaced: definitions are loaded as `hf_pipelines.definitions` loads them.
"""

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import yaml

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.market import Market
from hf_pipelines.components.market_stages import MarketPlan, manifests
from hf_pipelines.partitions import MarketPartitions
from hf_pipelines.research.bars import SOURCE_SCHEMA
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.currency import CurrencyChecker
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.parquet_io_manager import ParquetIOManager, Storage
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.fault_injection import kept_storage
from hf_pipelines_tests.sample_bars import REFERENCE, random_bars

TIMEZONE = "America/New_York"
US_TECH = Path(__file__).resolve().parents[1] / "hf_pipelines" / "defs" / "markets" / "us_tech" / "defs.yaml"
RETRAINED = ("training_matrix", "cv_results", "fitted_model", "backtest", "validation")


def shipped_features(*groups: str) -> list[str]:
    """What the market `us_tech` stores of some feature groups: no window is longer than 120 bars."""
    stored = yaml.safe_load(US_TECH.read_text())["attributes"]["features"]
    return [each for each in stored if each.split("/")[0] in groups]


PROJECT_FILE = """\
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "{package}"
registry_modules = ["hf_pipelines.components.*"]
"""


@dataclass(frozen=True)
class Run:
    """What one Dagster run did.

    Attributes
    ----------
    message : str
        What the failed steps said, "" for a run that succeeded.
    checks : mapping of (asset path, check name) to evaluation
    materialised : mapping of asset path to (partition to metadata)
        As recorded in the instance by this run.
    """

    result: dg.ExecuteInProcessResult
    message: str

    @property
    def success(self) -> bool:
        return self.result.success

    @cached_property
    def checks(self) -> dict[tuple[str, str], Any]:
        return {("/".join(e.asset_key.path), e.check_name): e for e in self.result.get_asset_check_evaluations()}

    @cached_property
    def materialised(self) -> dict[str, dict[str, dict[str, Any]]]:
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for event in self.result.get_asset_materialization_events():
            made = event.materialization
            values = {name: each.value for name, each in made.metadata.items()}
            found.setdefault("/".join(made.asset_key.path), {})[made.partition or ""] = values
        return found


@dataclass
class Project:
    """A market, its strategies and everything they stored, below one folder.

    Attributes
    ----------
    market : mapping
        Attributes of its YAML.
    strategies : sequence of mapping
        Attributes of theirs.
    mlflow_template : Path
        Tracking database to begin with; None for one that is there already.
    uri : str
        Of its store; None for a folder below its own.
    """

    folder: Path
    market: Mapping[str, Any]
    strategies: Sequence[Mapping[str, Any]] = ()
    mlflow_template: Path | None = None
    uri: str | None = None
    _loaded: dg.Definitions | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _keep_migrations()
        # Dagster's own storage in memory: a run of one partition takes a third of the time it takes on disk.
        self.instance = dg.DagsterInstance.ephemeral()
        self.rewrite()
        if self.mlflow_template is not None:
            shutil.copy(self.mlflow_template, self.folder / "mlflow.db")

    @property
    def store(self) -> PartitionStore:
        return self._storage.store()

    @property
    def _storage(self) -> Storage:
        return Storage(uri=self.uri or str(self.folder / "storage"))

    @property
    def package(self) -> str:
        # Module names are global to the process: each project has its own.
        return f"project_{abs(hash(str(self.folder)))}"

    def rewrite(
        self, market: Mapping[str, Any] | None = None, strategies: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        """Write the YAML anew, from changed attributes where given, and load it at the next run."""
        self.market = self.market if market is None else market
        self.strategies = self.strategies if strategies is None else strategies
        root = self.folder / self.package
        shutil.rmtree(root / "defs", ignore_errors=True)
        for kind, entry in [("Market", self.market), *(("Strategy", each) for each in self.strategies)]:
            place = root / "defs" / ("markets" if kind == "Market" else "strategies") / str(entry["name"])
            place.mkdir(parents=True)
            text = yaml.safe_dump(
                {"type": f"hf_pipelines.components.{kind}", "attributes": dict(entry)}, sort_keys=False
            )
            (place / "defs.yaml").write_text(text)
        (root / "__init__.py").touch()
        (root / "defs" / "__init__.py").touch()
        (self.folder / "pyproject.toml").write_text(PROJECT_FILE.format(package=self.package))
        self._loaded = None

    def reload(self) -> None:
        """Load the definitions anew: a registry has changed."""
        self._loaded = None

    @property
    def definitions(self) -> dg.Definitions:
        if self._loaded is None:
            if str(self.folder) not in sys.path:
                sys.path.insert(0, str(self.folder))
            storage = self._storage
            resources = {
                "storage": storage,
                "io_manager": ParquetIOManager(storage=storage),
                "mlflow": MLflowTracking(uri=f"sqlite:///{self.folder / 'mlflow.db'}"),
                # The instant is given with each run.
                "clock": Clock.configure_at_launch(),
            }
            tree = dg.ComponentTree.for_project(self.folder / self.package)
            self._loaded = dg.Definitions.merge(
                tree.build_defs(tree.defs_module_path),
                dg.Definitions(component_tree=tree),
                dg.Definitions(resources=resources, executor=dg.in_process_executor),
            )
        return self._loaded

    @property
    def pipeline(self) -> Pipeline:
        """What `hfp` works on."""
        return Pipeline(self.definitions, self.instance, self.store)

    @property
    def code_versions(self) -> dict[str, str]:
        graph = self.definitions.resolve_asset_graph()
        return {"/".join(key.path): graph.get(key).code_version or "" for key in graph.materializable_asset_keys}

    @property
    def partitions(self) -> MarketPartitions:
        return market_of(self.market).partitions

    @property
    def weeks(self) -> list[str]:
        """Keys of every week that has sessions."""
        partitions = self.partitions
        return partitions.weeks_between(partitions.start, partitions.end or partitions.start)

    def checker(self) -> CurrencyChecker:
        now = Clock().now()
        manifests_now = {asset: partial(each, now=now) for asset, each in manifests(market_of(self.market)).items()}
        return CurrencyChecker(self.store, self.code_versions, manifests_now)

    def run(
        self,
        assets: str | Iterable[str],
        first: str,
        last: str | None = None,
        *,
        now: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Run:
        """Materialise assets for one partition, or over a range of them in one run, with some more run tags."""
        names = [assets] if isinstance(assets, str) else list(assets)
        span = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
        result = self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(name.split("/")) for name in names],
            partition_key=first if last is None else None,
            tags={**(tags or {}), **({} if last is None else span)},
            run_config={"resources": {"clock": {"config": {"fixed": now}}}} | QUIET if now else QUIET,
            raise_on_error=False,
        )
        messages = [
            "\n".join(_messages(event.step_failure_data.error)) for event in result.all_events if event.is_step_failure
        ]
        return Run(result, "\n".join(messages))

    def make(
        self,
        assets: str | Iterable[str],
        first: str,
        last: str | None = None,
        *,
        now: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Run:
        """Run that must succeed."""
        made = self.run(assets, first, last, now=now, tags=tags)
        assert made.success, made.message
        return made

    def retrain(self, strategy: str, first: str, last: str | None = None, *, now: str | None = None) -> Run:
        return self.make([f"{strategy}/{stage}" for stage in RETRAINED], first, last, now=now)

    def hashes(self, asset: str) -> dict[str, str]:
        """Content hash of every stored partition of an asset."""
        return {key: self.store.footer(asset, key).content_hash for key in self.store.partitions(asset)}

    def out_of_date(self, *assets: str) -> dict[str, str]:
        """`<asset> <partition>` to the reason, of everything stored that is not current."""
        checker = self.checker()
        judged = {
            f"{asset} {key}": checker.is_current(asset, key)
            for asset in assets or self.code_versions
            for key in self.store.partitions(asset)
        }
        return {name: found.reason for name, found in judged.items() if not found.is_current}

    def copy(self, folder: Path) -> "Project":
        """The same project with all that it stored, in another folder; its instance starts empty."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.folder / "storage", folder / "storage")
        shutil.copy(self.folder / "mlflow.db", folder / "mlflow.db")
        return Project(folder, self.market, self.strategies)

    def take_source(self) -> Path:
        """Read from a copy of the source's files from now on, that this project may change; return its folder."""
        folder = self.folder / "source"
        shutil.copytree(self.market["source"]["uri"], folder)
        self.rewrite({**self.market, "source": {"type": "files", "uri": str(folder)}})
        return folder


@cache
def _keep_migrations() -> None:
    """Each project has an instance of its own, which would read all migrations anew."""
    kept_storage.keep_migrations()


QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def _messages(error: Any) -> list[str]:
    found = []
    while error is not None:
        found.append(error.message.strip())
        error = error.cause
    return found


def market_of(attributes: Mapping[str, Any]) -> MarketPlan:
    return Market.resolve_from_yaml(yaml.safe_dump(dict(attributes))).plan


def prepare_mlflow(path: Path) -> Path:
    """An empty tracking database; copying it is faster than making its tables."""
    MLflowTracking(uri=f"sqlite:///{path}").client()
    return path


def session_bars(
    sessions: Sequence[date], *, symbols: int = 4, seed: int = 0, late_bars: int = 0, **options: Any
) -> pl.DataFrame:
    """Random bars on the sessions of XNYS, each closing when its session closes."""
    hours = MarketPartitions("XNYS", TIMEZONE, sessions[0], sessions[-1]).hours
    bars = random_bars(symbols=symbols, sessions=len(sessions), seed=seed, late_bars=late_bars, **options)
    days = bars["session"].unique().sort()
    calendar = pl.DataFrame(
        {"session": days, "day": sessions, "close_ts": [hours[day][1] for day in sessions]},
        schema_overrides={"close_ts": pl.Datetime("us", "UTC")},
    )
    return (
        bars.join(calendar, on="session", how="left")
        .with_columns(session=pl.col("day"), ts=pl.col("close_ts"))
        .select(*SOURCE_SCHEMA)
        .sort("symbol", "ts")
    )


def write_sessions(folder: Path, bars: pl.DataFrame) -> None:
    """One Parquet file a session, as a source of type `files` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for (day,), of_day in bars.partition_by("session", as_dict=True).items():
        of_day.write_parquet(folder / f"{day}.parquet")


def sessions_from(start: date, weeks: int) -> list[date]:
    """Sessions of XNYS in the `weeks` weeks from the one of `start` on."""
    partitions = MarketPartitions("XNYS", TIMEZONE, start, date.fromordinal(start.toordinal() + 7 * weeks))
    keys = partitions.weeks_between(start, partitions.end)[:weeks]
    return [day for key in keys for day in partitions.sessions_of_week(key) if day >= start]


def files_market(
    folder: Path, bars: pl.DataFrame, *, features: Sequence[str], name: str = "small", **attributes: Any
) -> dict[str, Any]:
    """Write `bars` as session files; return the YAML attributes of a market that reads them."""
    write_sessions(folder, bars)
    members = bars.filter(pl.col("symbol") != REFERENCE).group_by("symbol").agg(pl.col("session").min()).sort("symbol")
    return {
        "name": name,
        "universe": [{"symbol": symbol, "since": str(day)} for symbol, day in members.iter_rows()],
        "benchmark": REFERENCE,
        "calendar": "XNYS",
        "timezone": TIMEZONE,
        "source": {"type": "files", "uri": str(folder)},
        "start": str(bars["session"].min()),
        "end": str(bars["session"].max()),
        "features": list(features),
        **attributes,
    }


def trees_strategy(name: str = "direction", **attributes: Any) -> dict[str, Any]:
    """A small classifier on the `quick` features."""
    return {
        **ridge_strategy(name),
        "target": {"type": "direction", "horizon_bars": 2, "params": {"upper": 0.004, "lower": -0.004}},
        "training": {"weeks": 10, "minimum_rows": 40, "weighting": "class_balance"},
        "learner": {"type": "xgboost_classifier", "params": {"n_estimators": 12, "max_depth": 2}, "seed": 7},
        "signal": {"type": "probability_threshold", "params": {"threshold": 0.4}},
        **attributes,
    }


def ridge_strategy(name: str = "ranking", **attributes: Any) -> dict[str, Any]:
    """A small, fast strategy on the `quick` features."""
    return {
        "name": name,
        "market": "small",
        "features": ["quick"],
        "target": {"type": "forward_return", "horizon_bars": 2},
        "training": {"weeks": 10, "minimum_rows": 40},
        "cross_validation": {"n_splits": 2, "min_train_sessions": 10},
        "learner": {"type": "ridge"},
        "signal": {"type": "rank_long_short", "params": {"n_long": 1, "n_short": 1}},
        **attributes,
    }
