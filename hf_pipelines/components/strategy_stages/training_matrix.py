"""`<strategy>/training_matrix`: what a model may learn from, every label ended before the week it serves."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import markdown_table
from hf_pipelines.components.modules import CHOSEN_FROM
from hf_pipelines.components.stage import Stage, window
from hf_pipelines.components.stage_checks import Finding, StageCheck, check_from_facts, replay_guard
from hf_pipelines.components.stage_run import StageRun, each_partition
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, feature_frames, holdout_fields
from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.matrix import (
    constant_features,
    join_features,
    label_features,
    rows_without_label,
    select_rows,
    unknown_counts,
    usable_rows,
)
from hf_pipelines.research.targets import TARGETS, unconfirmed_labels
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.holdout import FINAL_REFIT_TAG, MADE_WITHOUT, Holdout
from hf_pipelines.resources.parquet_io_manager import Loaded, inputs_first
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.requirements import require_all
from hf_pipelines.resources.storage_errors import StoredPartitionError

# Features listed in the metadata, the most unknown first; the footer has all.
UNKNOWN_SHOWN = 20

# Times at which labels are computed anew from what was known then.
N_LABEL_ENDS = 2


def require_window(plan: StrategyPlan, key: str) -> None:
    """Refuse a week before which the market has not as many weeks as a model is trained on.

    Raises
    ------
    ValueError
        With the first week that has them.
    """
    partitions = plan.market.partitions
    if len(partitions.weeks_around(key, first=-plan.training.weeks, last=-1)) < plan.training.weeks:
        raise ValueError(
            f"`training.weeks` must lie inside the data of {plan.market.name}, which begin in week "
            f"{partitions.first_week}, was {plan.training.weeks} weeks before {key}; "
            f"{_first_whole_week(plan)}."
        )


def training_matrix(plan: StrategyPlan) -> Stage:
    """`<strategy>/training_matrix`: X, y, label interval and weight of the trailing weeks."""
    partitions = plan.market.partitions
    # More weeks than the rows are of, where a label looks back.
    bars = plan.bars_input(-plan.training.weeks - plan.history_weeks, -1)
    sectors = plan.market.universe.sectors
    features = plan.feature_inputs(-plan.training.weeks, -1)

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        require_window(plan, key)
        weeks = {each.name: plan.selection_window(each, key) for each in (bars, *features)}
        n_held_out = len(window(partitions, features[0], key)) - len(weeks[features[0].name])
        if plan.holdout is not None and not weeks[features[0].name]:
            raise ValueError(f"`holdout` must begin after the first of {_all_held_out(plan, plan.holdout, key)}")
        try:
            require_all(*(partial(inputs[name].require, of_input) for name, of_input in weeks.items()))
        except ValueError as e:
            # Commands of groups and bars are many, and must be run in an order that no line says.
            raise ValueError(inputs_first(str(e), f"retrain {plan.name} --week {key}")) from e
        labelled = label_features(
            feature_frames(plan, inputs, weeks[features[0].name]),
            bars=inputs["bars"].frame(weeks["bars"]),
            target=plan.target,
            cutoff=plan.cutoff(key),
            sectors=sectors,
        )
        try:
            matrix = select_rows(
                labelled,
                target=plan.target,
                minimum_rows=plan.training.minimum_rows,
                weightings=plan.training.weightings,
                missing=plan.training.missing,
            )
        except ValueError as e:
            taken = f" The hold-out takes {n_held_out} of the {plan.training.weeks} weeks; it may begin later."
            raise ValueError(f"{e}{taken if n_held_out else ''}") from e
        unknown = unknown_counts(labelled)
        constant = constant_features(matrix)
        hashes: dict[str, dict[str, str]] = {}
        for name, of_input in weeks.items():
            hashes |= inputs[name].hashes(of_input)
        metadata = {
            "symbols": matrix["symbol"].n_unique(),
            "features": len(plan.all_features),
            "first_session": str(matrix["session"].min()),
            "last_label_end": str(matrix["label_end"].max()),
            "members_per_session": matrix.height / matrix["session"].n_unique(),
            "mean_target": float(matrix["target"].to_numpy().mean()),
            "labelled_rows": labelled.height,
            "dropped_rows": labelled.height - matrix.height,
            "symbols_without_rows": ", ".join(
                sorted({*labelled.labels["symbol"].unique()} - {*matrix["symbol"].unique()})
            ),
        }
        if plan.holdout is not None:
            metadata["held_out_weeks"] = n_held_out
        if unknown.height:
            metadata["unknown_features"] = dg.MetadataValue.md(markdown_table(unknown.head(UNKNOWN_SHOWN)))
        facts = {
            "features": len(plan.all_features),
            "constant": constant,
            "labelled": labelled.height,
            "unknown": {name: [n, n_alone] for name, n, n_alone in unknown.rows()},
            **({} if plan.holdout is None else {"held_out_weeks": n_held_out}),
        }
        if labelled.height > matrix.height:
            run.log.info(
                f"{key}: {labelled.height - matrix.height} of {labelled.height} labelled rows dropped for unknown features: "
                + some_of([f"{name} in {n} rows, alone in {n_alone}" for name, n, n_alone in unknown.rows()])
            )
        return Content(matrix, inputs=hashes, facts=facts), metadata

    def recompute_features(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> pl.DataFrame:
        joined = join_features(feature_frames(plan, inputs, plan.selection_window(features[0], key)))
        return usable_rows(joined, plan.all_features, missing=plan.training.missing)

    def rightly_absent(inputs: Mapping[str, Loaded], key: str) -> pl.DataFrame:
        weeks = plan.selection_window(features[0], key)
        rows = (
            join_features(feature_frames(plan, inputs, weeks))
            if plan.target.needs.features
            else inputs[features[0].name].frame(weeks, columns=[*KEY_COLUMNS])
        )
        return rows_without_label(
            rows,
            bars=inputs["bars"].frame(plan.selection_window(bars, key)),
            target=plan.target,
            cutoff=plan.cutoff(key),
            sectors=sectors,
        )

    def labels_are_known_at_their_end(
        run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content
    ) -> Finding:
        frame = inputs["bars"].frame(plan.selection_window(bars, key))
        if not plan.target.needs.references:
            frame = frame.filter(pl.col("role") == "member")
        ends = content.frame["label_end"].unique().sort()
        rng = np.random.default_rng(content.frame.height)
        at = sorted({*rng.integers(0, len(ends), size=N_LABEL_ENDS).tolist()})
        faults: list[str] = []
        for end in ends.gather(at).to_list():
            faults += unconfirmed_labels(
                content.frame, frame, plan.target, at=end, sectors=sectors, features=content.frame
            )
        n_compared = content.frame.filter(pl.col("label_end").is_in(ends.gather(at).implode())).height
        return Finding(not faults, n_compared, tuple(faults[:5]))

    def labels_end_before_week(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        late = content.frame.filter(pl.col("label_end") >= plan.cutoff(key))
        shown = tuple(
            f"{row['symbol']} {row['session']} has label_end {row['label_end']}" for row in late.head(5).to_dicts()
        )
        return Finding(late.is_empty(), content.frame.height, shown)

    def holdout_has_not_moved(run: StageRun, inputs: Mapping[str, Loaded], key: str, content: Content) -> Finding:
        before = _stored_holdout(run, plan.asset("training_matrix"))
        is_spent = plan.holdout is not None and before is not None and before < plan.holdout.week
        told = f"week {before} was held out when the newest matrix was stored, now it is trained on; no score of it is out of sample"
        return Finding(not is_spent, 1, (told,) if is_spent else ())

    return Stage(
        asset=plan.asset("training_matrix"),
        kind="training_matrix",
        description=(
            f"Training rows of the {plan.training.weeks} weeks before the week: features known at `ts`, "
            f"{plan.target.name} of at most {plan.target.horizon_bars} bars, `label_end` strictly before the week"
            f"{'' if plan.holdout is None else f' and before the hold-out, which begins with week {plan.holdout.week}'}."
        ),
        kinds=frozenset({"polars", "parquet"}),
        partitions=plan.weekly,
        inputs=(bars, *features),
        compute=each_partition(compute),
        is_range_run=False,
        code_version=code_version(
            join_features,
            label_features,
            select_rows,
            usable_rows,
            rows_without_label,
            unknown_counts,
            constant_features,
            type(plan.target),
            unconfirmed_labels,
            TARGETS[plan.target.name].label,
            *plan.training.weighting_functions,
            fields={
                "features": plan.feature_names,
                "target": [plan.target.name, dict(plan.target.params), plan.target.classes, str(plan.target.needs)],
                "training": [
                    plan.training.weeks,
                    plan.training.minimum_rows,
                    plan.training.weighting_fields,
                    plan.training.missing,
                ],
                "timezone": plan.market.partitions.timezone,
                **holdout_fields(plan),
            },
            chosen_from=CHOSEN_FROM,
        ),
        checks=(
            replay_guard(
                recompute_features,
                # Of several labels of a row the features are the same.
                compared=lambda content: content.frame.select(*KEY_COLUMNS, *plan.all_features).unique(
                    KEY_COLUMNS, maintain_order=True
                ),
                absent=rightly_absent,
            ),
            StageCheck(
                "labels_end_before_week",
                "Every training row's label ended before the week that the model serves, and before a hold-out.",
                labels_end_before_week,
                is_guard=True,
            ),
            StageCheck(
                "labels_known_at_end",
                "Labels computed from the bars until their own end are the same bits; a sample of ends is looked at.",
                labels_are_known_at_their_end,
                is_guard=True,
            ),
            StageCheck(
                "features_vary",
                "No feature takes one value, or none, over all training rows.",
                check_from_facts("constant", total="features", unit="features"),
                severity=dg.AssetCheckSeverity.WARN,
            ),
            *(
                []
                if plan.holdout is None
                else [
                    StageCheck(
                        "holdout_stays",
                        "No week that was held out before is trained on: the hold-out has not been moved to a later week.",
                        holdout_has_not_moved,
                        severity=dg.AssetCheckSeverity.WARN,
                    )
                ]
            ),
        ),
    )


def refit_matrix(plan: StrategyPlan) -> Stage:
    """`<strategy>/refit_matrix`: what the final refit of a promoted configuration is trained on, its hold-out included.

    A strategy without a hold-out has none: its training matrix holds all weeks.
    """
    whole = training_matrix(replace(plan, holdout=None))
    return replace(
        whole,
        asset=plan.asset("refit_matrix"),
        kind="refit_matrix",
        description=(
            f"Training rows of all {plan.training.weeks} weeks before the week, those of the hold-out too: made in the final refit "
            f"of a promoted configuration alone (run tag {FINAL_REFIT_TAG}), read by fitted_model in such a run alone."
        ),
        reads_holdout="final_refit",
    )


def _stored_holdout(run: StageRun, asset: str) -> str | None:
    """First week of the hold-out that the newest stored matrix was made without; None where it had none, or cannot be read."""
    if run.store is None or not (stored := run.store.partitions(asset)):
        return None
    try:
        footer = run.store.footer(asset, stored[-1])
    except StoredPartitionError:
        # Whoever reads it is told so.
        return None
    noted = footer.facts.get(MADE_WITHOUT) if footer is not None else None
    return noted if isinstance(noted, str) else None


def _all_held_out(plan: StrategyPlan, holdout: Holdout, key: str) -> str:
    return (
        f"the {plan.training.weeks} weeks before {key}, was {holdout.week}: nothing is left to train on; move it, or take a model "
        f"of the final refit of a promoted configuration (run tag {FINAL_REFIT_TAG})."
    )


def _first_whole_week(plan: StrategyPlan) -> str:
    partitions = plan.market.partitions
    keys = partitions.weeks_between(partitions.first_week, partitions.end or date.today())
    if len(keys) <= plan.training.weeks:
        return f"of the market's {len(keys)} weeks none has so many before it; take fewer weeks, or a longer history"
    first = keys[plan.training.weeks]
    return (
        f"the first week with a whole window is {first}, take it or a later one"
        + f'; `start: "{first}"` in the YAML leaves out those before it' * plan.begins_too_early
    )
