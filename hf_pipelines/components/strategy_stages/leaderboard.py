"""`<strategy>/leaderboard`: candidates of a week on the same outer folds, ranked and held to the baselines.

What it chooses is selected by the outer folds, and is not out of sample: no other stage reads it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import in_a_window, markdown_table, picture
from hf_pipelines.components.modules import CHOSEN_FROM, registering
from hf_pipelines.components.stage import Stage
from hf_pipelines.components.stage_run import StageRun, each_partition
from hf_pipelines.components.strategy_stages.leaderboard_plan import LeaderboardPlan, compared
from hf_pipelines.components.strategy_stages.leaderboard_records import RecordedCandidates, candidate_plan
from hf_pipelines.components.strategy_stages.model_tracking import track_leaderboard
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, holdout_fields, learner_fields, single
from hf_pipelines.research.baselines import predict_baselines
from hf_pipelines.research.cross_validation import cross_validate, fit_final
from hf_pipelines.research.leaderboard import (
    METRICS,
    Candidate,
    CandidateEvaluation,
    Entry,
    Leaderboard,
    Metric,
    TunedBy,
    rank_entries,
    run_candidates,
)
from hf_pipelines.research.leaderboard.entries import COMPLETED
from hf_pipelines.research.leaderboard.relabelling import folds_of_labels, relabel
from hf_pipelines.research.leaderboard.scoring import baseline_entries, root_of
from hf_pipelines.research.metrics.direction import is_better_higher
from hf_pipelines.research.score_table import label_sessions
from hf_pipelines.research.splitters import SPLITTERS, build_splitter
from hf_pipelines.research.targets import TARGETS, Target
from hf_pipelines.research.tuning import run_study
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content

# Facts in the footer.
VERDICT, CHOSEN, NOTES, METRIC = "verdict", "chosen", "notes", "metric"

SELECTED = (
    "Selected, not out of sample: these folds chose it among {n} candidates, and its scores flatter it. Write it into the strategy to "
    "use it"
)

# What a page shows of the table, in this order.
SHOWN = (
    *("rank", "candidate", "state", "value", "low", "high", "behind", "p_best", "may_be_best"),
    *("fit_seconds", "predict_seconds", "artifact_bytes", "is_chosen", "reason"),
)


def leaderboard(plan: StrategyPlan) -> Stage:
    """`<strategy>/leaderboard`: a row for each candidate and baseline."""
    assert plan.leaderboard is not None
    asked = plan.leaderboard
    # Labels of other targets are made of bars.
    others = asked.other_targets
    history_weeks = max(
        (candidate_plan(plan, each).history_weeks for each in asked.listed if each.target is not None), default=0
    )
    bars = (plan.bars_input(-plan.training.weeks - history_weeks, -1),) if others else ()
    matrix_input = plan.matrix_input("training_matrix")

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        began = perf_counter()
        matrix = single(inputs["training_matrix"], key).frame
        of_inputs = dict(inputs["training_matrix"].hashes([key]))
        relabelled = {}
        if bars:
            weeks = plan.selection_window(bars[0], key)
            inputs["bars"].require(weeks)
            of_inputs |= inputs["bars"].hashes(weeks)
            known, sectors = inputs["bars"].frame(weeks), plan.market.universe.sectors
            for name, target in others.items():
                relabelled[name] = relabel(matrix, target, bars=known, cutoff=plan.cutoff(key), sectors=sectors)
        candidates = _of_week(plan, asked, n_rows=matrix.height)
        splitter = plan.splitter.build()
        evaluation = CandidateEvaluation(
            matrix=matrix,
            splitter=splitter,
            target=plan.target,
            weightings=plan.training.weightings,
            seed=plan.learner.seed,
            missing=plan.training.missing,
            validation_share=plan.learner.validation_share,
            times=_times(plan, candidates, matrix),
            tuned_by=TunedBy(
                splitter=build_splitter(asked.tuned.splitter, asked.tuned.splitter_params),
                trials=asked.tuned.trials,
                sampler=asked.tuned.sampler,
                seed=plan.learner.seed,
            ),
            timer=perf_counter,
            others=relabelled,
        )
        entries = _run(plan, asked, run, key, of_inputs, candidates, evaluation, began)
        baselines = baseline_entries(entries, matrix, splitter=splitter, target=plan.target, seed=plan.learner.seed)
        found = rank_entries(
            [*entries, *baselines],
            METRICS[asked.metric],
            label_sessions=label_sessions(matrix),
            choice=asked.choice,
        )
        facts = {
            VERDICT: found.verdict,
            METRIC: asked.metric,
            CHOSEN: found.chosen,
            NOTES: list(found.notes),
            "selected": True,
            "p": found.p,
            "best_baseline": found.best_baseline,
            "choice": asked.choice,
            "deadline_s": asked.deadline_s,
            "n_candidates": len(candidates),
        }
        content = Content(found.table, inputs=of_inputs, facts=facts)
        return content, {**_metadata(plan, key, found), "leaderboard_s": perf_counter() - began}

    return Stage(
        asset=plan.asset("leaderboard"),
        kind="leaderboard",
        description=(
            f"Candidates on the outer folds, ranked by {asked.metric}, beside the baselines: one row each, with what its model costs; those "
            "that failed, or that the deadline left out, with the reason. Selected, not out of sample: nothing is made of it."
        ),
        kinds=frozenset({"parquet"}),
        partitions=plan.weekly,
        inputs=(matrix_input, *bars),
        compute=each_partition(compute),
        is_range_run=False,
        code_version=code_version(
            run_candidates,
            CandidateEvaluation,
            rank_entries,
            baseline_entries,
            Metric,
            root_of,
            is_better_higher,
            predict_baselines,
            cross_validate,
            fit_final,
            label_sessions,
            build_splitter,
            SPLITTERS[plan.splitter.name].build,
            Target,
            *(function for each in _possible(plan, asked) for function in each.learner.fitting_functions()),
            *plan.training.weighting_functions,
            *(
                [run_study, SPLITTERS[asked.tuned.splitter].build]
                if any(each.is_tuned for each in asked.listed)
                else []
            ),
            *([relabel, folds_of_labels, *(TARGETS[each.name].label for each in others.values())] if others else []),
            fields={
                **learner_fields(plan),
                "leaderboard": asked.fields(),
                "compared": [[each.name, each.learner.settings()] for each in _possible(plan, asked)],
                "splitter": [plan.splitter.name, dict(plan.splitter.params)],
                "weighting": plan.training.weighting_fields,
                "missing": plan.training.missing,
                **holdout_fields(plan),
            },
            chosen_from=CHOSEN_FROM,
        ),
        keeps_fits=True,
        track=partial(track_leaderboard, plan),
    )


def _of_week(plan: StrategyPlan, asked: LeaderboardPlan, *, n_rows: int | None) -> list[Candidate]:
    return compared(asked, plan.target, plan.training.weightings, plan.training.missing, n_rows=n_rows)


def _possible(plan: StrategyPlan, asked: LeaderboardPlan) -> Sequence[Candidate]:
    return _of_week(plan, asked, n_rows=None)


def _run(
    plan: StrategyPlan,
    asked: LeaderboardPlan,
    run: StageRun,
    key: str,
    of_inputs: Mapping[str, Mapping[str, str]],
    candidates: Sequence[Candidate],
    evaluation: Callable[[Candidate], Entry],
    began: float,
) -> list[Entry]:
    data = {name: hashes for name, hashes in of_inputs.items() if name == plan.asset("training_matrix")}
    record = RecordedCandidates(plan, run, key, data, run.progress(key, inputs=of_inputs, place="leaderboard"))
    ended: list[Entry] = []

    def tell(entry: Entry) -> None:
        ended.append(entry)
        how = "" if entry.state == COMPLETED else f" {entry.state}: {entry.reason}"
        run.log.info(
            f"{key}: {len(ended)} of {len(candidates)} candidates in {perf_counter() - began:.0f} s, {entry.name}{how}"
        )

    # Imported for a strategy that has one.
    from hf_pipelines.resources.fan_out import open_fan_out

    deadline = asked.deadline_s
    left = None if deadline is None else partial(_left, began + deadline)
    with open_fan_out(run.log.info, prepare=registering(), n_threads=1, can_end=left is not None) as fan_out:
        return run_candidates(
            candidates, evaluation, map_in_time=fan_out.in_time, record=record, seconds_left=left, on_end=tell
        )


def _left(until: float) -> float:
    return until - perf_counter()


def _times(plan: StrategyPlan, candidates: Sequence[Candidate], matrix: pl.DataFrame) -> pl.Series | None:
    """When bars should have ended, if a candidate looks back on them."""
    found = (candidate_plan(plan, each).bar_times(matrix["session"]) for each in candidates)
    return next((each for each in found if each is not None), None)


def _metadata(plan: StrategyPlan, key: str, found: Leaderboard) -> dict[str, Any]:
    from hf_pipelines.research.leaderboard.plots import leaderboard_png

    table = found.table
    counts = dict(table.group_by("state").agg(pl.len()).iter_rows())
    failed = table.filter(state="failed")
    n = table.filter(pl.col("state") != "baseline").height
    return {
        "verdict": found.verdict,
        "chosen": found.chosen,
        "selected": SELECTED.format(n=n),
        "leaderboard": in_a_window(markdown_table(shown_table(table))),
        "picture": picture(leaderboard_png, found, heading=f"{plan.name}, week {key}"),
        "notes": "\n".join(found.notes),
        **{f"candidates_{state.replace(' ', '_')}": counts[state] for state in counts if state != "baseline"},
        **({"first_failure": f"{failed['candidate'][0]}: {failed['reason'][0]}"} if failed.height else {}),
    }


def shown_table(table: pl.DataFrame) -> pl.DataFrame:
    """What a page shows; columns that say nothing are left out."""
    kept = [name for name in SHOWN if table[name].null_count() < table.height]
    return table.select(pl.col(kept)).with_columns(
        pl.col(pl.Boolean).replace_strict({True: "yes", False: ""}, default="")
    )
