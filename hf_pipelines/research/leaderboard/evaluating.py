"""Evaluating: one candidate, cross-validated on the outer folds, with what its model costs.

Lives here: what is computed of a candidate; it can be sent to another process. Does not live here: which candidates (`candidates`), when
they run (`running`), ranks (`ranking`).

A tuned candidate is a procedure: on the training rows of each outer fold a study of its own chooses the parameters, and the fold is
predicted with these. Its scores are outer scores, as those of all others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from hf_pipelines.research.cross_validation import CrossValidation, cross_validate, fit_final
from hf_pipelines.research.fold_by_fold import folds_of, join_folds
from hf_pipelines.research.leaderboard.candidates import Candidate, target_key
from hf_pipelines.research.leaderboard.entries import COMPLETED, FAILED, Entry
from hf_pipelines.research.leaderboard.relabelling import Relabelled, folds_of_labels, judged_by
from hf_pipelines.research.learners import LearnerChoice
from hf_pipelines.research.learners.fit_faults import placed
from hf_pipelines.research.learners.prediction import predict_frame
from hf_pipelines.research.matrix import feature_names
from hf_pipelines.research.splitters.splitter import Splitter
from hf_pipelines.research.targets import Target
from hf_pipelines.research.tuning import Budget, Design, default_space, run_study
from hf_pipelines.research.tuning.evaluation import Evaluation, on_rows
from hf_pipelines.research.tuning.objectives import Wanted
from hf_pipelines.research.tuning.points import Configuration
from hf_pipelines.research.weights import Weightings


@dataclass(frozen=True, kw_only=True)
class TunedBy:
    """How the parameters of a tuned candidate are chosen within a fold: the best log loss of classes, the best rmse of values.

    Attributes
    ----------
    splitter : Splitter
        Of the inner folds, on the training rows of an outer one.
    trials : int
    sampler : str
        A key of `SAMPLERS`.
    seed : int
    """

    splitter: Splitter
    trials: int
    sampler: str
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class CandidateEvaluation:
    """Evaluates candidates on one matrix; call it with a candidate.

    Attributes
    ----------
    matrix : DataFrame
    splitter : Splitter
        Of the outer folds, the same for all candidates.
    target, weightings, seed, missing, validation_share
        As in `cross_validate`.
    times : Series or None
        When bars should have ended, for learners of sequences.
    tuned_by : TunedBy or None
        Needed for candidates that are tuned.
    timer : callable
        Seconds that only grow.
    others : mapping of str to Relabelled
        The matrix with the labels of every other target of a candidate, by its `target_key`.
    fitted_rows : array of bool, optional
        Rows that the model of all rows is fitted on; left out: all.
    """

    matrix: pl.DataFrame
    splitter: Splitter
    target: Target
    weightings: Weightings
    seed: int
    missing: str
    validation_share: float
    timer: Callable[[], float]
    times: pl.Series | None = None
    tuned_by: TunedBy | None = None
    others: Mapping[str, Relabelled] = field(default_factory=dict)
    fitted_rows: np.ndarray | None = None

    def __call__(self, candidate: Candidate) -> Entry:
        """Evaluate a candidate: one that cannot be fitted or scored has failed, with the reason."""
        try:
            return self._evaluate(candidate)
        except ValueError as e:
            return Entry(candidate.name, FAILED, reason=str(e) or type(e).__name__)

    def _evaluate(self, candidate: Candidate) -> Entry:
        if candidate.target is not None:
            return self._of_other_target(candidate, self.others[target_key(candidate.target)])
        if candidate.is_tuned:
            result, learner = self._tune(candidate.learner)
        else:
            result, learner = self._validate(candidate.learner, self.splitter), candidate.learner
        began = self.timer()
        pipeline = fit_final(
            self.matrix if self.fitted_rows is None else self.matrix.filter(pl.Series(self.fitted_rows)),
            learner=learner,
            target=self.target,
            seed=self.seed,
            validation_share=self.validation_share,
            times=self.times,
            out_of_fold=result.predictions if learner.calibrates_on_folds else None,
        )
        fitted = self.timer()
        names = feature_names(self.matrix)
        with placed("the matrix", f"learner {learner.name}"):
            predict_frame(
                pipeline,
                self.matrix,
                features=names,
                classes=self.target.classes,
                missing=self.missing,
                times=self.times,
            )
            predicted = self.timer()
            n_bytes = len(pipeline.save())
        return Entry(
            candidate.name,
            COMPLETED,
            result.predictions,
            artifact_bytes=n_bytes,
            fit_seconds=fitted - began,
            predict_seconds=predicted - fitted,
            scores=result.metrics,
        )

    def _of_other_target(self, candidate: Candidate, other: Relabelled) -> Entry:
        """A candidate that learns another target, judged by the strategy's own; its model is of the rows that have both labels."""
        found = replace(
            self,
            matrix=other.matrix,
            splitter=folds_of_labels(self.splitter, self.matrix, other),
            target=other.target,
            others={},
            fitted_rows=other.is_labelled,
        )._evaluate(replace(candidate, target=None))
        assert found.predictions is not None
        return replace(found, predictions=judged_by(found.predictions, self.matrix))

    def _validate(self, learner: LearnerChoice, splitter: Splitter) -> CrossValidation:
        return cross_validate(
            self.matrix,
            learner=learner,
            splitter=splitter,
            target=self.target,
            weightings=self.weightings,
            seed=self.seed,
            missing=self.missing,
            validation_share=self.validation_share,
            times=self.times,
        )

    def _tune(self, learner: LearnerChoice) -> tuple[CrossValidation, LearnerChoice]:
        """Outer folds with the parameters that their own training rows have chosen, and those of the last one."""
        assert self.tuned_by is not None
        asked = self.tuned_by
        wanted = Wanted("log_loss" if self.target.is_classification else "rmse")
        design = Design(
            space=default_space(learner.entry.params, prefix="learner."),
            goals=(wanted.goal,),
            budget=Budget(trials=asked.trials),
            sampler=asked.sampler,
            seed=asked.seed,
        )
        base = Configuration(learner, {"": tuple(feature_names(self.matrix))}, {})
        whole = Evaluation(
            matrix=self.matrix,
            base=base,
            splitter=asked.splitter,
            target=self.target,
            weightings=self.weightings,
            seed=self.seed,
            missing=self.missing,
            validation_share=self.validation_share,
            wanted=(wanted,),
            n_trials=design.n_trials,
            times=self.times,
        )
        parts = []
        folds = folds_of(self.splitter, self.matrix)
        for fold in folds:
            study = run_study(design, on_rows(whole, fold.train, asked.splitter))
            learner = base.at(study.best.point).learner
            parts.append(self._validate(learner, fold))
        return join_folds(parts, folds, self.matrix, target=self.target), learner
