"""Champions beside faults of data: a quarantined row takes one symbol out of an issue, of the champion's and of the shadow's."""

from io import BytesIO
from pathlib import Path

import polars as pl
import pytest

from hf_pipelines.commands.candidates import candidate_of
from hf_pipelines.components.strategy_stages.trial_records import settings_of
from hf_pipelines.research.promotion.lifecycle import OVERRIDDEN
from hf_pipelines.research.signals import Reason
from hf_pipelines.resources.promotions.history import record_decision
from hf_pipelines_tests.components.test_champion_signals import BROADER, MODEL, MONDAY, SIGNALS, TUESDAY, WEEK, gated
from hf_pipelines_tests.pipeline import Project
from hf_pipelines_tests.resources.promotions.deciding import draft


@pytest.mark.pipeline
def test_a_quarantined_row_takes_its_symbol_out_of_the_champions_issue_and_of_the_shadow(
    small_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ACTOR", "bob")
    project = small_project.copy(tmp_path / "project")
    source = project.take_source()
    project.rewrite(strategies=[gated()])
    project.make([f"ranking/{each}" for each in ("training_matrix", "cv_results", "fitted_model")], WEEK)
    found = candidate_of(project.pipeline, "ranking")
    told = {"settings": settings_of(found.plan), "yaml": found.yaml, "override": "Ann"}
    record_decision(project.store.objects, "ranking", draft(OVERRIDDEN, week=WEEK, **told))
    # A challenger by its rule: it holds all four symbols, the champion two.
    project.rewrite(strategies=[gated(signal=BROADER, gates={**gated()["gates"], "refit_margin": 1.0})])
    bars = pl.read_parquet(source / f"{MONDAY}.parquet")
    is_bad = pl.col("symbol") == "S001"
    bars.with_columns(volume=pl.when(is_bad).then(-1.0).otherwise("volume")).write_parquet(source / f"{MONDAY}.parquet")
    project.make(["small/bars", "small/features/quick"], WEEK)
    assert project.store.footer("small/bars", WEEK).facts["quarantined"] == [f"S001 {MONDAY} negative volume"]

    project.make(SIGNALS, MONDAY, now=f"{MONDAY}T20:05:00+00:00")
    issue = project.store.read(SIGNALS, MONDAY)
    promotion = issue.footer.facts["promotion"]
    assert (promotion["champion"], promotion["model_week"], promotion["held_back"]) == ("v1.0.0", WEEK, {})
    shadow = pl.read_parquet(BytesIO(project.store.read_attachment(issue.footer, "shadow.parquet")))
    # Of three predictions the shadow's rule can choose no two and two: it holds nothing, and not what it would of four.
    for rows, n_held in ((issue.frame, 2), (shadow, 0)):
        # Every member has its row; the one without a bar is out of it, with the reason, and the others are decided.
        (bad,) = rows.filter(is_bad).iter_rows(named=True)
        assert rows.height == 4 and (bad["weight"], bad["reason"]) == (0.0, Reason.NO_BAR)
        assert (rows["weight"] != 0.0).sum() == n_held and rows["weight"].sum() == 0.0
    # The next session has all four again, by the same model.
    project.make(SIGNALS, TUESDAY, now=f"{TUESDAY}T20:05:00+00:00")
    after = project.store.read(SIGNALS, TUESDAY)
    assert after.footer.inputs[MODEL] == issue.footer.inputs[MODEL]
    # The mended file comes later: what was issued stays.
    bars.write_parquet(source / f"{MONDAY}.parquet")
    project.make(["small/bars", "small/features/quick"], WEEK)
    assert project.store.footer("small/bars", WEEK).facts["quarantined"] == []
    assert project.store.read(SIGNALS, MONDAY).footer == issue.footer
