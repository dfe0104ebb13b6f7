"""The walk of stored weekly models: which weeks it has, what they promised and earned, and what it lacks."""

from datetime import date

import numpy as np
import pytest

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.walking import walk_command, walk_lines, walked
from hf_pipelines_tests.pipeline import Project, ridge_strategy

pytestmark = pytest.mark.pipeline


def test_a_walk_is_made_of_the_weeks_that_are_stored(small_project: Project, tmp_path):
    project = small_project.copy(tmp_path / "project")

    def walk() -> list:
        pipeline = Pipeline(project.definitions, project.instance, project.store)
        return walked(pipeline, pipeline.strategy("ranking"))

    for week in ("2012-04-01", "2012-04-15"):
        project.retrain("ranking", week)
    command = walk_command(project.pipeline.strategy("ranking"), project.store)
    assert command == "hfp materialise ranking/signals --from 2012-04-16 --to 2012-04-20 --with-inputs"
    assert list(walk_lines(walk(), command)) == [
        f"walk-forward: no stored week has a backtest and issues of its own; {command} makes these"
    ]
    # Friday 6 April was Good Friday.
    project.make("ranking/signals", "2012-04-02", "2012-04-05")
    project.make("ranking/signals", "2012-04-16", "2012-04-20")
    rolling, anchored = walk()
    assert (rolling["kind"], anchored["kind"], rolling["issued"]) == ("rolling", "anchored", "backfill")
    # Of the first issue no return is known before the next session; the week between has none.
    assert (rolling["n_weeks"], rolling["n_sessions"], rolling["missing_weeks"]) == (2, 3 + 5, 1)
    project.make("ranking/track_record", "2012-04-22")
    own = project.store.read("ranking/track_record", "2012-04-22").frame
    by_day = dict(
        zip(
            own["session"].to_list()[1:], np.diff(own["equity"].to_numpy()) / own["equity"].to_numpy()[:-1], strict=True
        )
    )
    earned = [value for day, value in by_day.items() if day <= date(2012, 4, 5) or day >= date(2012, 4, 15)]
    assert len(earned) == 8
    assert rolling["earned"] == pytest.approx(np.prod(1.0 + np.array(earned)) - 1.0, rel=1e-6)
    # Eight sessions have no annual figure.
    assert [rolling[name] for name in ("return_in", "return_out", "efficiency", "sharpe_out")] == [None] * 4
    (line, _) = walk_lines([rolling, anchored], "")
    assert (
        "2 weeks, 8 sessions" in line
        and "fewer than 60 sessions have no annual figure and no efficiency; weeks between them that are not stored: 1"
        in line
    )
    assert rolling["weeks_of_another_model"] == 0
    # A model that is made again is not the one that issued.
    project.rewrite(strategies=[ridge_strategy(learner={"type": "ridge", "params": {"alpha": 50.0}})])
    project.make(["ranking/cv_results", "ranking/fitted_model"], "2012-04-15")
    again = walk()[0]
    assert again["weeks_of_another_model"] == 1
    assert "weeks whose stored model is not the one that issued: 1" in next(walk_lines([again], ""))
