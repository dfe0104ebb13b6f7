"""Model tracking: what a strategy leaves in the experiment tracker.

Lives here: what is logged of a week's model, cross-validation and backtest. Does not live here: the tracker's runs and limits
(`resources.mlflow_runs`, `resources.mlflow_values`).

| run | holds |
|---|---|
| of (strategy, week) | settings, metrics of cross-validation, backtest and leaderboard with its table, dataset, commit, user, source, description, pictures of the account |
| below it, of each model fitted for that week | settings of the learner, metrics by fold as steps, losses, dataset, features, code version, environment, seconds, memory, pictures, the pointer to its artifact; of a fit that failed why |
"""

import base64
import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.resources.mlflow_errors import TrackingUnavailableError
from hf_pipelines.resources.mlflow_runs import PartitionRuns
from hf_pipelines.resources.mlflow_values import DatasetNote, ModelNote, RunNotes
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.run_environment import (
    described_machine,
    git_commit,
    in_words,
    library_versions,
    peak_memory_mb,
    project_folder,
    user_name,
)
from hf_pipelines.resources.storage_errors import ObjectMissingError

_PICTURE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")


class ModelTracker:
    """Logs a fitted model to its open tracker run, and to that of its strategy and week."""

    def __init__(self, runs: PartitionRuns, plan: StrategyPlan, store: PartitionStore, code_version: str) -> None:
        self.partition_runs = runs
        self.runs: Mapping[str, str] = runs.runs
        self.plan = plan
        self.store = store
        self.code_version = code_version

    def log_step(self, partition: str, step: int, numbers: Mapping[str, float]) -> None:
        """Log numbers of a fit that goes on."""
        self.partition_runs.log_step(partition, step, numbers)

    def log(self, partition: str, content: Content, metadata: Mapping[str, Any]) -> None:
        """Log a model that was published."""
        folds = _fold_metrics(self.plan, self.store, content, partition)
        self.partition_runs.note(partition, self._of_model(partition, content, metadata, folds))
        self.partition_runs.note_week(partition, self._of_week(partition, content, folds))

    def _of_model(
        self, partition: str, content: Content, metadata: Mapping[str, Any], folds: pl.DataFrame | None
    ) -> RunNotes:
        row, facts, learner = content.frame.row(0, named=True), content.facts, self.plan.learner.choice
        digest = content.content_hash()
        # Beside the model there may be intervals.
        name = next(each for each in content.attachments if each.startswith("model."))
        digest_of_file = sha256(content.attachments[name]).hexdigest()
        report: Any = facts.get("report", {})
        address = self.store.objects.address(
            f"_attached/{self.plan.asset('fitted_model')}/{partition}/{digest_of_file}.{name}"
        )
        tags = {
            **searched_by(self.plan, partition),
            "hf.content_hash": digest,
            "hf.artifact": name,
            "hf.sha256": digest_of_file,
            "hf.as_of": row["as_of"].isoformat(),
            "hf.issued": row["created_at"].isoformat(),
            "hf.inputs": ",".join(each for hashes in content.inputs.values() for each in hashes.values()),
            **({"hf.final_refit": str(refit)} if (refit := facts.get("final_refit")) else {}),
            "hf.code_version": self.code_version,
            "hf.packages": in_words(library_versions(learner.entry.family)),
            **described_machine(),
            **made_by(),
        }
        told = {name: metadata[name] for name in ("fit_s", "compute_s", "artifact_kb") if name in metadata}
        return RunNotes(
            params={
                **_flat(facts["learner"]),
                "learner": learner.name,
                "seed": self.plan.learner.seed,
                "n_features": len(_features(row)),
                "features": ", ".join(_features(row)),
            },
            metrics={
                **_numbers(facts["metrics"]),
                **{f"{each}econds" if each.endswith("_s") else each: value for each, value in told.items()},
                "n_train_rows": row["n_rows"],
                "peak_memory_mb": peak_memory_mb(),
            },
            tags=tags,
            steps={**_losses(report), **_by_fold(folds)},
            dataset=_dataset(self.plan, self.store, content, row, partition),
            model=ModelNote(
                f"{self.plan.name}-{partition}-{digest[:8]}",
                address,
                digest_of_file,
                {each: tags[each] for each in ("hf.strategy", "hf.week", "hf.learner", "hf.content_hash")},
            ),
            files={**pictures_of(metadata), "features.txt": "\n".join(_features(row)).encode()},
        )

    def _of_week(self, partition: str, content: Content, folds: pl.DataFrame | None) -> RunNotes:
        row = content.frame.row(0, named=True)
        plan = self.plan
        return RunNotes(
            params={
                **_week_params(plan),
                "n_features": len(_features(row)),
                "features": ", ".join(_features(row)),
            },
            metrics={
                **{f"cv/{name}": value for name, value in _numbers(content.facts["metrics"]).items()},
                "n_train_rows": row["n_rows"],
                **({} if folds is None else {"cv/folds": folds.height}),
            },
            tags={
                **searched_by(plan, partition),
                "hf.content_hash": content.content_hash(),
                **made_by(),
                **_note(plan),
            },
            dataset=_dataset(plan, self.store, content, row, partition),
        )


@contextmanager
def track_model(plan: StrategyPlan, code_version: str, context: dg.AssetExecutionContext) -> Iterator[ModelTracker]:
    """Tracker of the fitted models of a run."""
    run = context.run
    with context.resources.mlflow.partition_runs(
        experiment=plan.name,
        asset=plan.asset("fitted_model"),
        partitions=list(context.partition_keys),
        root_run_id=run.root_run_id or run.run_id,
    ) as runs:
        yield ModelTracker(runs, plan, context.resources.io_manager.storage.store(), code_version)


class PublishedTracker:
    """Of a stage that is logged once it was published: no run of the tracker is open while it is computed."""

    def __init__(self, plan: StrategyPlan, context: dg.AssetExecutionContext) -> None:
        self.runs: Mapping[str, str] = {}
        self.plan = plan
        self.context = context

    def log_step(self, partition: str, step: int, numbers: Mapping[str, float]) -> None:
        """Nothing goes on."""

    def note_week(self, partition: str, notes: RunNotes, *, what: str) -> None:
        """Log to the run of the strategy and week; `what` was published is said where the tracker is away, and nothing fails."""
        try:
            runs = self.context.resources.mlflow.week_run(experiment=self.plan.name, partition=partition)
            runs.note_week(partition, notes)
        except TrackingUnavailableError as e:
            self.context.log.warning(f"{e} The {what} is stored all the same.")


class BacktestTracker(PublishedTracker):
    """Logs a backtest to the tracker run of its strategy and week; without the tracker nothing fails."""

    def log(self, partition: str, content: Content, metadata: Mapping[str, Any]) -> None:
        """Log an account that was published."""
        notes = RunNotes(
            params=_week_params(self.plan),
            metrics={f"backtest/{name}": value for name, value in _numbers(content.facts["metrics"]).items()},
            tags={**searched_by(self.plan, partition), **made_by(), **_note(self.plan)},
            files=pictures_of(metadata),
        )
        self.note_week(partition, notes, what="backtest")


class LeaderboardTracker(PublishedTracker):
    """Logs a leaderboard to the tracker run of its strategy and week: what its best candidate and baseline come to, the table, the picture."""

    def log(self, partition: str, content: Content, metadata: Mapping[str, Any]) -> None:
        """Log a table that was published."""
        facts: Mapping[str, Any] = content.facts
        table = content.frame
        ranked = table.filter(pl.col("rank").is_not_null()).sort("rank")
        metrics = {
            f"leaderboard/{name}_{facts['metric']}": rows["value"][0]
            for name, rows in (
                ("best", ranked.filter(pl.col("state") != "baseline")),
                ("best_baseline", ranked.filter(candidate=facts["best_baseline"])),
            )
            if rows.height
        }
        counts = {"candidates": facts["n_candidates"], "ranked": ranked.filter(pl.col("state") != "baseline").height}
        notes = RunNotes(
            params=_week_params(self.plan),
            metrics={
                **metrics,
                **{f"leaderboard/{name}": n for name, n in counts.items()},
                **({} if facts["p"] is None else {"leaderboard/p": facts["p"]}),
            },
            tags={
                **searched_by(self.plan, partition),
                **made_by(),
                **_note(self.plan),
                "hf.leaderboard": str(facts["verdict"]),
                "hf.leaderboard_chosen": str(facts["chosen"]),
            },
            files={
                **{name.replace("/picture.", "/leaderboard."): each for name, each in pictures_of(metadata).items()},
                "leaderboard.csv": table.write_csv().encode(),
            },
        )
        self.note_week(partition, notes, what="leaderboard")


@contextmanager
def track_leaderboard(plan: StrategyPlan, context: dg.AssetExecutionContext) -> Iterator[LeaderboardTracker]:
    """Tracker of the leaderboards of a run."""
    yield LeaderboardTracker(plan, context)


@contextmanager
def track_backtest(plan: StrategyPlan, context: dg.AssetExecutionContext) -> Iterator[BacktestTracker]:
    """Tracker of the backtests of a run."""
    yield BacktestTracker(plan, context)


def searched_by(plan: StrategyPlan, partition: str) -> dict[str, str]:
    """What runs are searched by."""
    learner = plan.learner.choice
    return {
        "hf.strategy": plan.name,
        "hf.week": partition,
        "hf.learner": learner.name,
        "hf.family": learner.entry.family,
        "hf.market": plan.market.name,
        "hf.target": plan.target.name,
    }


def made_by() -> dict[str, str]:
    """In MLflow's own words: its pages show them."""
    folder = project_folder()
    commit, user = git_commit(folder), user_name()
    return {
        "mlflow.source.type": "PROJECT",
        "mlflow.source.name": folder.name,
        **({"mlflow.source.git.commit": commit} if commit else {}),
        **({"mlflow.user": user} if user else {}),
    }


def _note(plan: StrategyPlan) -> dict[str, str]:
    return {"mlflow.note.content": plan.description} if plan.description else {}


def _week_params(plan: StrategyPlan) -> dict[str, Any]:
    """The settings of a strategy, the same for every asset of a week: MLflow refuses another value of a parameter."""
    splitter, learner = plan.splitter, plan.learner
    return {
        "market": plan.market.name,
        "target": plan.target.name,
        "horizon_bars": plan.target.horizon_bars,
        **({"target.params": json.dumps(dict(plan.target.params), default=str)} if plan.target.params else {}),
        "training.weeks": plan.training.weeks,
        "training.missing": plan.training.missing,
        "training.weighting": json.dumps(plan.training.weighting_fields, default=str),
        "cv": splitter.name,
        **{f"cv.{name}": value for name, value in splitter.params.items()},
        "learner": learner.choice.name,
        "seed": learner.seed,
        **{f"learner.{name}": value for name, value in _flat(learner.choice.settings()).items()},
        "rule": plan.rule.name,
        **{f"rule.{name}": value for name, value in plan.rule.params.items()},
        "engine": plan.backtest.engine,
        "costs": str(plan.backtest.costs),
    }


def _flat(settings: Any) -> dict[str, Any]:
    """Settings of a learner as the tracker keeps them: parameters by their names, those with parts as JSON."""
    parts = {name: settings[name] for name in ("preprocessing", "calibration") if name in settings}
    found = {**settings["params"], **parts}
    return {name: json.dumps(each) if isinstance(each, list | dict) else each for name, each in found.items()}


def _numbers(metrics: Any) -> dict[str, float]:
    """As stored; what is not finite is left out by the tracker, which says so."""
    return {name: float(value) for name, value in metrics.items()}


def _features(row: Mapping[str, Any]) -> list[str]:
    return str(row["features"]).split(",")


def _fold_metrics(plan: StrategyPlan, store: PartitionStore, content: Content, partition: str) -> pl.DataFrame | None:
    """Metrics by fold of the results that the model was published with; None if they were made anew since."""
    asset = plan.asset("cv_results")
    footer = store.footer(asset, partition)
    if footer is None or content.inputs.get(asset, {}).get(partition) != footer.content_hash:
        return None
    try:
        return pl.read_parquet(io.BytesIO(store.read_attachment(footer, "fold_metrics.parquet")))
    except ObjectMissingError:
        return None


def _by_fold(folds: pl.DataFrame | None) -> dict[str, list[float | None]]:
    if folds is None:
        return {}
    names = [name for name, kind in folds.schema.items() if kind.is_float()]
    return {f"fold/{name}": folds.sort("fold")[name].to_list() for name in names}


def _losses(report: Any) -> dict[str, list[float]]:
    """Losses of training by step, as they were logged while it ran: of what got lost then."""
    found = {"training_loss": report.get("training_losses"), "validation_loss": report.get("validation_losses")}
    return {name: [float(each) for each in values] for name, values in found.items() if values}


def pictures_of(metadata: Mapping[str, Any]) -> dict[str, bytes]:
    """Pictures of an asset's metadata by their names."""
    found = {}
    for name, value in metadata.items():
        text = value.value if isinstance(value, dg.MarkdownMetadataValue) else ""
        if matched := _PICTURE.search(text or ""):
            found[f"pictures/{name}.png"] = base64.b64decode(matched.group(1))
    return found


def _dataset(
    plan: StrategyPlan, store: PartitionStore, content: Content, row: Mapping[str, Any], partition: str
) -> DatasetNote | None:
    """The training matrix that was fitted."""
    (asset, hashes) = next(
        ((name, each) for name, each in content.inputs.items() if name.endswith("_matrix") and partition in each),
        ("", {}),
    )
    if not asset:
        return None
    address = store.objects.address(f"{asset}/{partition}.parquet")
    return DatasetNote(asset, address, hashes[partition], _features(row), row["n_rows"])
