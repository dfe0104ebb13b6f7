"""`<strategy>/tuning`: a study of a week, whose best the later stages take."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from time import perf_counter
from typing import Any

import dagster as dg
import polars as pl

from hf_pipelines.components.code_version import code_version
from hf_pipelines.components.display import in_a_window, markdown_table, picture
from hf_pipelines.components.modules import CHOSEN_FROM, registering
from hf_pipelines.components.stage import Stage, StageInput
from hf_pipelines.components.stage_run import StageRun, each_partition
from hf_pipelines.components.strategy_stages.accounts import (
    PlanTrade,
    decided_on,
    middle_of,
    simulate,
    with_cost_columns,
)
from hf_pipelines.components.strategy_stages.plan import (
    StrategyPlan,
    feature_frames,
    holdout_fields,
    learner_fields,
    single,
    trading_fields,
)
from hf_pipelines.components.strategy_stages.study_tracking import IMPORTANCES, track_study
from hf_pipelines.components.strategy_stages.trial_records import recording_study
from hf_pipelines.components.strategy_stages.tuned import BEST, BEST_BY_FOLD, STUDY, TRIALS, VALUES, point_in_words
from hf_pipelines.research.cross_validation import cross_validate, fit_final
from hf_pipelines.research.fan_out import FanOut
from hf_pipelines.research.fold_by_fold import folds_of
from hf_pipelines.research.predictions import split_by_path
from hf_pipelines.research.splitters import SPLITTERS, build_splitter
from hf_pipelines.research.targets import Target
from hf_pipelines.research.tuning import Design, KeptJournal, Study, Trial, read_space, run_study
from hf_pipelines.research.tuning.evaluation import Evaluation, on_rows
from hf_pipelines.research.tuning.narrowing import narrow
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.requirements import require_all

# Trials on the asset's page, the best ones; all are in the partition.
TRIALS_SHOWN = 20


def tuning(plan: StrategyPlan) -> Stage:
    """`<strategy>/tuning`: every trial of a week's study."""
    assert plan.tuning is not None
    asked = plan.tuning
    bars = (plan.bars_input(-plan.training.weeks - plan.rule_weeks, -1),) if asked.needs_account else ()
    is_reading = asked.needs_account and (plan.rule.needs.features or plan.backtest.features)
    features = plan.feature_inputs(-plan.training.weeks, -1) if is_reading else ()
    week_before = StageInput("past", plan.asset("tuning"), first_week=-1, last_week=-1, is_optional=True)
    past = (week_before,) if asked.is_adaptive else ()

    def compute(run: StageRun, inputs: Mapping[str, Loaded], key: str) -> tuple[Content, Mapping[str, Any]]:
        began = perf_counter()
        weeks = {each.name: plan.selection_window(each, key) for each in (*bars, *features)}
        require_all(*(partial(inputs[name].require, of_input) for name, of_input in weeks.items()))
        matrix = single(inputs["training_matrix"], key).frame
        trade = None
        if bars:
            read = feature_frames(plan, inputs, weeks[features[0].name]) if features else []
            traded = with_cost_columns(plan, inputs["bars"].frame(weeks["bars"]), read)
            trade = PlanTrade(plan, traded, tuple(read))
        evaluation = Evaluation(
            matrix=matrix,
            base=plan.base,
            splitter=asked.splitter.build(),
            target=plan.target,
            weightings=plan.training.weightings,
            seed=plan.learner.seed,
            missing=plan.training.missing,
            validation_share=plan.learner.validation_share,
            wanted=asked.wanted,
            n_trials=asked.design.n_trials,
            bounds=asked.bounds,
            times=plan.bar_times(matrix["session"]),
            trade=trade,
            timer=perf_counter,
        )
        of_inputs = dict(inputs["training_matrix"].hashes([key]))
        for name, of_input in weeks.items():
            of_inputs |= inputs[name].hashes(of_input)
        design = asked.design
        for before in (each for of_past in past for each in inputs[of_past.name].parts.values()):
            design = _after(design, before.footer.facts)
            of_inputs |= inputs["past"].hashes([before.footer.partition])
        by_fold: dict[int | None, Study] = {}
        # Imported for a strategy that tunes alone.
        from hf_pipelines.resources.fan_out import open_fan_out

        # One fit a thread: see `cv_results`.
        with open_fan_out(run.log.info, prepare=registering(), n_threads=1) as fan_out:
            week = _Week(plan, run, key, of_inputs, fan_out)
            if asked.is_nested:
                for fold in folds_of(plan.splitter.build(), matrix):
                    inner = on_rows(evaluation, fold.train, asked.splitter.build())
                    # Never narrowed: the week before has seen the test rows of the outer folds.
                    by_fold[fold.number] = week.study(asked.design, inner, place=f"fold {fold.number}")
            whole = week.study(design, evaluation, place="")
        studies = {**by_fold, None: whole}
        content = Content(
            pl.concat([_of_fold(each, fold) for fold, each in studies.items()]),
            inputs=of_inputs,
            facts={
                STUDY: _hash_of(studies),
                TRIALS: len(whole.trials),
                BEST: dict(whole.best.point),
                BEST_BY_FOLD: {str(fold): dict(each.best.point) for fold, each in by_fold.items()},
                VALUES: _values(whole),
                "ended_by": whole.ended_by,
                "tuning": asked.fields(),
                "searched": design.space.to_json(),
            },
        )
        return content, {**_metadata(studies), "tuning_s": perf_counter() - began}

    learner = plan.learner.choice
    return Stage(
        asset=plan.asset("tuning"),
        kind="tuning",
        description=(
            f"A study of {asked.design.n_trials} trials at most ({asked.design.sampler}) for "
            f"{', '.join(each.name for each in asked.design.goals)}: one row a trial, pruned and failed ones among them. "
            + ("Each outer fold has a study of its own. " if asked.is_nested else "")
            + "The same for any number of workers; what was killed goes on where it was."
        ),
        kinds=frozenset({"optuna", "parquet"}),
        partitions=plan.weekly,
        inputs=(plan.matrix_input("training_matrix"), *bars, *features, *past),
        compute=each_partition(compute),
        is_range_run=False,
        code_version=code_version(
            run_study,
            *([narrow, read_space] if asked.is_adaptive else []),
            Evaluation,
            on_rows,
            cross_validate,
            fit_final,
            folds_of,
            build_splitter,
            SPLITTERS[asked.splitter.name].build,
            SPLITTERS[plan.splitter.name].build,
            Target,
            *learner.fitting_functions(),
            *plan.history_functions,
            *plan.training.weighting_functions,
            *(
                [
                    decided_on,
                    split_by_path,
                    simulate,
                    middle_of,
                    *plan.backtest.functions,
                    *plan.rule.functions,
                ]
                if bars
                else []
            ),
            fields={
                **learner_fields(plan),
                "tuning": asked.fields(),
                "splitter": [plan.splitter.name, dict(plan.splitter.params)],
                "weighting": plan.training.weighting_fields,
                "missing": plan.training.missing,
                "features": {group: list(names) for group, names in plan.feature_names.items()},
                **({**trading_fields(plan), "rule": [plan.rule.name, dict(plan.rule.params)]} if bars else {}),
                **holdout_fields(plan),
            },
            chosen_from=CHOSEN_FROM,
        ),
        keeps_fits=True,
        track=partial(track_study, plan),
    )


@dataclass(frozen=True)
class _Week:
    """The studies of a week: each with a journal of its own, each trial in the ledger before it runs."""

    plan: StrategyPlan
    run: StageRun
    key: str
    inputs: Mapping[str, Mapping[str, str]]
    fan_out: FanOut

    def study(self, design: Design, evaluation: Evaluation, *, place: str) -> Study:
        progress = self.run.progress(self.key, inputs=self.inputs, place=f"study {place}".strip())
        journal = KeptJournal(progress, design.n_trials, design.batch)
        data = {name: hashes for name, hashes in self.inputs.items() if name == self.plan.asset("training_matrix")}
        # Imported for a strategy that tunes alone.
        from hf_pipelines.resources.shown_studies import showing

        # A study that is begun anew, on other data or by another design, is shown beside the one before.
        about = json.dumps([design.to_json(), self.inputs], sort_keys=True, default=str)
        with showing(
            recording_study(self.plan, self.run, self.key, data, journal, place=place),
            design,
            strategy=self.plan.name,
            week=self.key,
            digest=sha256(about.encode()).hexdigest(),
            place=place,
            tell=self.run.log.warning,
        ) as shown:
            return run_study(
                design,
                evaluation,
                map_trials=self.fan_out,
                journal=shown,
                clock=perf_counter,
                on_round=_Log(self.run, self.key, design, place).round,
            )


@dataclass
class _Log:
    """Tells how far a study is."""

    run: StageRun
    key: str
    design: Design
    place: str
    began: float = field(default_factory=perf_counter)
    n_known: int = 0

    def round(self, trials: Sequence[Trial]) -> None:
        design = self.design
        done, n_all = len(trials), design.n_trials
        took = perf_counter() - self.began
        so_far = Study(design, tuple(trials), "")
        best = (
            ", ".join(f"{name} {value:.6g}" for name, value in _values(so_far).items()) if so_far.front else "none yet"
        )
        left = took / done * (n_all - done)
        self.run.log.info(
            f"{self.key}{f' {self.place}' if self.place else ''}: {done} of {n_all} trials in {took:.0f} s, best so far {best}; "
            f"at most {left:.0f} s left"
        )


def _after(design: Design, before: Mapping[str, Any]) -> Design:
    """The study that follows one of the week before: narrowed around its best, which is tried first."""
    if before.get("tuning", {}).get("design", {}).get("space") != design.space.to_json():
        # Another space was searched then: its best says little here.
        return design
    best = before[BEST]
    return replace(design, space=narrow(design.space, read_space(before["searched"]), best), first=(best,))


def _values(study: Study) -> dict[str, float]:
    return dict(zip((each.name for each in study.design.goals), study.best.outcome.values, strict=True))


def _of_fold(study: Study, fold: int | None) -> pl.DataFrame:
    return study.table().select(pl.lit(fold, dtype=pl.Int32).alias("fold"), pl.all())


def _hash_of(studies: Mapping[int | None, Study]) -> str:
    text = json.dumps([[fold, each.hash] for fold, each in studies.items()])
    return sha256(text.encode()).hexdigest()


def _metadata(studies: Mapping[int | None, Study]) -> dict[str, Any]:
    from hf_pipelines.research.tuning.plots import parameter_importances, study_pictures

    whole = studies[None]
    importances = parameter_importances(whole)
    goal = whole.design.goals[0]
    table = whole.table()
    shown = table.sort(f"value_{goal.name}", descending=goal.is_better_higher, nulls_last=True).head(TRIALS_SHOWN)
    counts = {state: sum(each.count(state) for each in studies.values()) for state in ("completed", "pruned", "failed")}
    failed = table.filter(pl.col("error") != "")
    return {
        "best": point_in_words(whole.best.point),
        **{f"best_{name}": value for name, value in _values(whole).items()},
        "trials": in_a_window(markdown_table(shown.drop("scores"))),
        **{f"trials_{state}": n for state, n in counts.items()},
        "folds_fitted": int(table["n_folds"].sum()),
        "trials_on_front": len(whole.front),
        "ended_by": whole.ended_by,
        "study": _hash_of(studies),
        IMPORTANCES: dg.MetadataValue.json(importances),
        **{name: picture(draw) for name, draw in study_pictures(whole, importances).items()},
        **({"first_failure": failed["error"][0]} if failed.height else {}),
    }
