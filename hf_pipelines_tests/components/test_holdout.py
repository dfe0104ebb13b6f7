"""The hold-out of a strategy: what ends before it, who is kept out of it, and the final refit that reads it.

The small market has 18 weeks from 2012-01-01 on; a model is trained on ten weeks. `early` holds out the week of Tuesday 20 March
and all later ones, `late` the last four weeks of the data, `free` none.
"""

import io
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from hf_pipelines.commands.cards import reproduced
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components import Strategy, strategy_stages
from hf_pipelines.components.automation.strategy_sensor import retrain_intent
from hf_pipelines.components.operations.activity import Activity
from hf_pipelines.components.operations.inventory import Watched
from hf_pipelines.components.operations.status import Status
from hf_pipelines.components.stage import Stage
from hf_pipelines.components.stage_run import Computed
from hf_pipelines.components.strategy_fields import HoldoutSpec
from hf_pipelines.research.bars import SOURCE_SCHEMA
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.holdout import FINAL_REFIT_TAG, Holdout, HoldoutGuard, final_refit_of
from hf_pipelines.resources.incidents import Book
from hf_pipelines.resources.partition_codec import Content, Stored, pending_footer
from hf_pipelines_tests.pipeline import RETRAINED, Project, market_of, ridge_strategy, write_sessions

BEGIN, BEFORE = "2012-03-18", "2012-03-11"
# A week whose ten weeks of training reach two weeks into the hold-out of `early`.
STRADDLING = "2012-04-01"
# The close of Friday 16 March: the last label of two bars, that of Wednesday, ends here.
LAST_CLOSE = datetime(2012, 3, 16, 20, 0, tzinfo=UTC)
UNFITTED = ("training_matrix", "cv_results", "backtest")
REFIT = {FINAL_REFIT_TAG: "early-1.0"}


def _strategies() -> list[dict[str, Any]]:
    return [
        ridge_strategy("early", holdout={"from": "2012-03-20"}),
        ridge_strategy("late", holdout={"weeks": 4}),
        ridge_strategy("free"),
    ]


@pytest.fixture(scope="module")
def held(small_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Every strategy made for the straddling week."""
    project = small_project.copy(tmp_path_factory.mktemp("held"))
    project.rewrite(strategies=_strategies())
    project.retrain("early", STRADDLING)
    project.retrain("free", STRADDLING)
    project.make([f"late/{stage}" for stage in UNFITTED], STRADDLING)
    return project


def _frame(project: Project, asset: str, key: str = STRADDLING) -> pl.DataFrame:
    return project.store.read(asset, key).frame


def test_matrix_of_a_straddling_week_ends_with_the_last_label_before_the_holdout(held):
    matrix = _frame(held, "early/training_matrix")
    assert matrix["label_end"].max() == LAST_CLOSE
    assert (matrix["session"].min(), matrix["session"].max()) == (date(2012, 1, 23), date(2012, 3, 14))
    # What a strategy without a hold-out trains on, less the rows whose label reaches into it.
    free = _frame(held, "free/training_matrix")
    assert free["label_end"].max() == datetime(2012, 3, 30, 20, 0, tzinfo=UTC)
    begins = datetime(2012, 3, 18, 4, 0, tzinfo=UTC)
    assert_frame_equal(matrix, free.filter(pl.col("label_end") < begins))
    facts = held.store.footer("early/training_matrix", STRADDLING).facts
    assert (facts["holdout"], facts["held_out_weeks"]) == (BEGIN, 2)
    assert "holdout" not in held.store.footer("free/training_matrix", STRADDLING).facts


def test_nothing_that_models_are_chosen_by_is_made_from_a_held_out_week(held):
    for stage in RETRAINED:
        footer = held.store.footer(f"early/{stage}", STRADDLING)
        for asset, keys in footer.inputs.items():
            assert asset.startswith("early/") or max(keys) == BEFORE, (stage, asset)
    assert _frame(held, "early/cv_results")["session"].max() == date(2012, 3, 14)
    backtest = held.store.read("early/backtest", STRADDLING)
    trades = pl.read_parquet(io.BytesIO(held.store.read_attachment(backtest.footer, "trades.parquet")))
    assert max(backtest.frame["session"].max(), trades["session"].max()) <= date(2012, 3, 16)
    assert _frame(held, "early/fitted_model")["trained_until"].item() == LAST_CLOSE
    assert _frame(held, "free/backtest")["session"].max() > date(2012, 3, 16)


def test_strategies_of_one_market_have_holdouts_of_their_own(held):
    """The last four weeks begin on 8 April: what is trained for the week before is that of a strategy without a hold-out."""
    for stage in UNFITTED:
        assert held.hashes(f"late/{stage}")[STRADDLING] == held.hashes(f"free/{stage}")[STRADDLING]
    held.make("late/training_matrix", "2012-04-15")
    matrix = _frame(held, "late/training_matrix", "2012-04-15")
    # Friday 6 April was Good Friday.
    assert matrix["label_end"].max() == datetime(2012, 4, 5, 20, 0, tzinfo=UTC)
    assert matrix["session"].max() == date(2012, 4, 3)


def test_the_first_week_of_the_holdout_loses_nothing(held):
    held.make(["early/training_matrix", "free/training_matrix"], BEGIN)
    assert held.hashes("early/training_matrix")[BEGIN] == held.hashes("free/training_matrix")[BEGIN]
    assert held.store.footer("early/training_matrix", BEGIN).facts["held_out_weeks"] == 0


def test_signals_are_made_in_the_holdout_by_a_model_from_before(held):
    held.make("early/signals", "2012-04-02", "2012-04-05")
    issue = _frame(held, "early/signals", "2012-04-05")
    assert issue["weight"].abs().sum() > 0.0
    assert issue["model_version"][0] == held.hashes("early/fitted_model")[STRADDLING]
    # They were issued afterwards, so their record is a look at the hold-out.
    assert "look at them: hfp holdout early --reason WHY" in held.run("early/track_record", "2012-04-08").message


def test_a_week_whose_training_is_all_held_out_is_refused(held, tmp_path):
    project = held.copy(tmp_path / "copy")
    short = ridge_strategy(
        "early",
        holdout={"from": "2012-03-20"},
        training={"weeks": 2, "minimum_rows": 10},
        cross_validation={"n_splits": 1, "min_train_sessions": 2},
    )
    project.rewrite(strategies=[short])
    message = project.run("early/training_matrix", STRADDLING).message
    assert "`holdout` must begin after the first of the 2 weeks before 2012-04-01, was 2012-03-18" in message
    # Of one that keeps a week of two: four symbols, five sessions, less two without a label.
    project.make("early/training_matrix", "2012-03-25")
    assert _frame(project, "early/training_matrix", "2012-03-25").height == 4 * 3
    project.rewrite(strategies=[{**short, "training": {"weeks": 2, "minimum_rows": 13}}])
    message = project.run("early/training_matrix", "2012-03-25").message
    assert "was 12 of 12 labelled" in message and "The hold-out takes 1 of the 2 weeks; it may begin later." in message


def _planted(stage: Any, seen: set[str], keys: list[str]) -> Any:
    """The builder of a stage that also reads the bars of the week it is made for and of the three before."""

    def build(plan: Any) -> Stage:
        made = stage(plan)

        def compute(run: Any, inputs: Mapping[str, Any]) -> Computed:
            seen.update(inputs["peeked"].parts)
            inputs["peeked"].frame(keys)
            return made.compute(run, inputs)

        peeked = replace(plan.bars_input(-3, 0), name="peeked")
        return replace(made, inputs=(*made.inputs, peeked), compute=compute)

    return build


def test_planted_reader_that_reaches_into_the_holdout_is_refused(held, tmp_path, monkeypatch):
    project = held.copy(tmp_path / "copy")
    seen: set[str] = set()
    monkeypatch.setattr(
        strategy_stages, "cv_results", _planted(strategy_stages.cv_results, seen, [BEFORE, "2012-03-25"])
    )
    run = project.run("early/cv_results", STRADDLING)
    assert (
        "`small/bars` must end before the hold-out of early, which begins with week 2012-03-18, for early/cv_results"
        in run.message
    )
    assert "reached into it in 2012-03-18, 2012-03-25, 2012-04-01" in run.message
    # Nor does it get them past the question.
    assert seen == {BEFORE}
    # A final refit opens it to who fits the model alone.
    assert not project.run("early/cv_results", STRADDLING, tags=REFIT).success and seen == {BEFORE}
    # Without a hold-out they are there.
    assert project.run("free/cv_results", STRADDLING).success and len(seen) == 4


def test_matrix_of_before_the_holdout_was_set_is_out_of_date_and_refused(held, tmp_path):
    project = held.copy(tmp_path / "copy")
    project.rewrite(strategies=[ridge_strategy("free", holdout={"from": "2012-03-20"})])
    stale = project.out_of_date()
    assert {f"free/{stage} {STRADDLING}" for stage in RETRAINED} <= {*stale}
    message = project.run("free/cv_results", STRADDLING).message
    assert "`free/training_matrix` must end before the hold-out of free" in message
    assert f"it was made without this hold-out, make it again: hfp retrain free --week {STRADDLING}" in message
    message = project.run("free/backtest", STRADDLING).message
    assert "`free/cv_results` must end before the hold-out of free" in message
    made = [f"free/{stage}" for stage in UNFITTED]
    project.make(made, STRADDLING)
    assert [project.hashes(each)[STRADDLING] for each in made] == [
        held.hashes(each.replace("free", "early"))[STRADDLING] for each in made
    ]
    assert not any(STRADDLING in each for each in project.out_of_date(*made))


def test_final_refit_is_fitted_on_all_weeks_and_recorded(held, tmp_path):
    project = held.copy(tmp_path / "copy")
    refused = project.run(["early/refit_matrix", "early/fitted_model"], STRADDLING)
    told = "for early/refit_matrix, reached into it in 2012-03-18, 2012-03-25; a final refit may read it: hfp retrain early"
    assert told in refused.message
    assert project.store.partitions("early/refit_matrix") == []

    project.make(["early/refit_matrix", "early/fitted_model"], STRADDLING, tags=REFIT)
    footer = project.store.footer("early/fitted_model", STRADDLING)
    # The rows and the bits of a strategy that has no hold-out; scores and folds stay those from before it.
    assert project.hashes("early/refit_matrix") == {STRADDLING: held.hashes("free/training_matrix")[STRADDLING]}
    assert footer.attachments == held.store.footer("free/fitted_model", STRADDLING).attachments
    assert footer.facts["final_refit"] == "early-1.0"
    # It comes out again by its card, from the matrix that holds the hold-out.
    pipeline = Pipeline(project.definitions, project.instance, project.store)
    assert reproduced(pipeline, "early")[1].agrees
    assert footer.facts["metrics"] == held.store.footer("early/fitted_model", STRADDLING).facts["metrics"]
    assert sorted(footer.inputs) == ["early/cv_results", "early/refit_matrix"]
    assert project.out_of_date("early/fitted_model", "early/refit_matrix") == {}
    tracked = project.definitions.resources["mlflow"].client().get_run(str(footer.facts["mlflow_run_id"]))
    assert tracked.data.tags["hf.final_refit"] == "early-1.0"

    # The next fit without the tag is kept out again, though the rows lie there.
    project.make("early/fitted_model", STRADDLING)
    again = project.store.footer("early/fitted_model", STRADDLING)
    assert again.content_hash == held.hashes("early/fitted_model")[STRADDLING] and "final_refit" not in again.facts
    # Of a strategy without a hold-out each fit is one.
    project.make("free/fitted_model", STRADDLING, tags={FINAL_REFIT_TAG: "free-1"})
    assert project.hashes("free/fitted_model") == held.hashes("free/fitted_model")
    unnamed = project.run(["early/refit_matrix", "early/fitted_model"], STRADDLING, tags={FINAL_REFIT_TAG: ""})
    assert f"`{FINAL_REFIT_TAG}` must name the promoted configuration" in unnamed.message


def test_a_holdout_that_is_moved_to_a_later_week_is_told_once(held, tmp_path):
    """What was held out is spent, by a changed date as by a changed `end` that weeks are counted from."""
    project = held.copy(tmp_path / "copy")
    matrix, checked = "early/training_matrix", ("early/training_matrix", "holdout_stays")
    assert project.make(matrix, STRADDLING).checks[checked].passed
    project.rewrite(strategies=[ridge_strategy("early", holdout={"weeks": 6})])
    told = project.make(matrix, STRADDLING).checks[checked]
    assert not told.passed and told.severity == dg.AssetCheckSeverity.WARN
    assert "week 2012-03-18 was held out when the newest matrix was stored, now it is trained on" in told.description
    assert _frame(project, matrix)["label_end"].max() == datetime(2012, 3, 23, 20, 0, tzinfo=UTC)
    assert project.make(matrix, STRADDLING).checks[checked].passed
    # A longer one takes nothing into training.
    project.rewrite(strategies=_strategies())
    assert project.make(matrix, STRADDLING).checks[checked].passed


def test_every_asset_says_whether_it_has_a_holdout(held):
    graph = held.definitions.resolve_asset_graph()
    told = {"early": "week 2012-03-18 and all later ones", "late": "week 2012-04-08 and all later ones"}
    for key in graph.materializable_asset_keys:
        name = key.path[0]
        if name != "small":
            expected = told.get(name, strategy_stages.NO_HOLDOUT)
            assert graph.get(key).metadata["holdout"] == expected
    assert not graph.has(dg.AssetKey(["free", "refit_matrix"]))
    assert "begins with week 2012-03-18" in graph.get(dg.AssetKey(["early", "training_matrix"])).description


def test_status_names_the_holdouts(held):
    now = datetime(2012, 5, 7, tzinfo=UTC)
    inventory = Watched.of(held.definitions.component_tree).read(held.store, now)
    status = Status(inventory, [], Book().open, Activity.read(held.instance, now), timedelta(hours=6), now)
    lines = status.lines()
    assert "Hold-out: early (week 2012-03-18 and later), late (week 2012-04-08 and later)." in lines
    assert "No hold-out, CV sees every week: free." in lines
    told = {each["strategy"]: each["holdout"] for each in status.to_json()["strategies"]}
    assert told == {"early": BEGIN, "late": "2012-04-08", "free": None}


def test_a_held_out_week_that_changes_asks_for_no_retraining(held):
    """The sensor's question names what a model is made from; weeks before the hold-out count, later ones do not."""
    market = market_of(held.market)
    plan = Strategy.resolve_from_yaml(yaml.safe_dump(_strategies()[0])).plan(market)
    assets = (market.bars_asset, market.features_asset("quick"))

    def state(**changed: str) -> str:
        tags = {week: "as it was" for week in held.weeks} | {
            "2012-" + name[1:].replace("_", "-"): tag for name, tag in changed.items()
        }
        return retrain_intent(plan, dict.fromkeys(assets, tags), STRADDLING).state

    assert state() == state(_03_25="changed") and state() != state(_03_11="changed")
    (watched,) = (each for each in Watched.of(held.definitions.component_tree).strategies if each.name == "early")
    assert watched.holdout == plan.holdout


def test_around_the_clock_the_saturday_bar_before_the_holdout_is_read_and_no_label_ends_with_it(
    tmp_path, quick, mlflow_template
):
    """Daily bars close as the next day begins: Saturday's at the very instant at which the hold-out does."""
    days = pl.date_range(date(2012, 1, 1), date(2012, 2, 25), eager=True)
    rng = np.random.default_rng(5)
    frames = []
    for symbol in ("BTC", "ETH", "XRP"):
        close = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, len(days))))
        frames.append(
            pl.DataFrame(
                {"session": days, "open": close, "high": close * 1.001, "low": close * 0.999, "close": close}
            ).with_columns(
                symbol=pl.lit(symbol),
                ts=(pl.col("session") + pl.duration(days=1)).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
                volume=1000.0,
                split_ratio=1.0,
                dividend=0.0,
            )
        )
    write_sessions(tmp_path / "source", pl.concat(frames).select(*SOURCE_SCHEMA).sort("symbol", "ts"))
    market = {
        "name": "small",
        "universe": [{"symbol": symbol} for symbol in ("BTC", "ETH")],
        "benchmark": "XRP",
        "calendar": "24/7",
        "timezone": "UTC",
        "source": {"type": "files", "uri": str(tmp_path / "source")},
        "start": "2012-01-01",
        "end": "2012-02-25",
        "features": ["quick"],
    }
    strategy = ridge_strategy(
        "held",
        training={"weeks": 4, "minimum_rows": 10},
        cross_validation={"n_splits": 1, "min_train_sessions": 5},
        holdout={"from": "2012-02-05"},
    )
    project = Project(tmp_path / "project", market, [strategy], mlflow_template=mlflow_template)
    project.make("small/bars", "2012-01-01", "2012-02-12")
    project.make("small/features/quick", "2012-01-08", "2012-02-12")
    project.make("held/training_matrix", "2012-02-12")
    assert max(project.store.footer("held/training_matrix", "2012-02-12").inputs["small/bars"]) == "2012-01-29"
    saturday = _frame(project, "small/bars", "2012-01-29")
    assert saturday["ts"].max() == datetime(2012, 2, 5, tzinfo=UTC)
    matrix = _frame(project, "held/training_matrix", "2012-02-12")
    # The label of Wednesday's bar ends with Friday's; that of Thursday's would end as the hold-out begins.
    assert matrix["label_end"].max() == datetime(2012, 2, 4, tzinfo=UTC)
    assert matrix["session"].max() == date(2012, 2, 1)


def _rows(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame({name: [each] for name, each in columns.items()})


BEFORE_IT = {"session": date(2012, 3, 1), "label_end": LAST_CLOSE}


@pytest.mark.parametrize(
    ("asset", "partition", "rows", "facts", "is_reached"),
    [
        ("small/bars", BEFORE, {"session": date(2012, 3, 17)}, {}, False),
        ("small/bars", BEFORE, {"session": date(2012, 3, 18)}, {}, True),
        # Nothing says when its rows are of.
        ("small/notes", BEFORE, {"value": 1.0}, {}, False),
        ("small/notes", BEGIN, {"value": 1.0}, {}, True),
        # Named by the week that they serve; what they are of and from is before it.
        ("early/training_matrix", BEGIN, BEFORE_IT, {}, False),
        ("early/training_matrix", STRADDLING, BEFORE_IT, {"holdout": BEGIN}, False),
        ("early/training_matrix", STRADDLING, BEFORE_IT, {"holdout": BEFORE}, False),
        ("early/cv_results", BEGIN, {**BEFORE_IT, "label_end": datetime(2012, 3, 18, 4, tzinfo=UTC)}, {"holdout": BEGIN}, True),
        # Scores by labels of the hold-out are in no row: made without one, or with a later one.
        ("early/cv_results", STRADDLING, {"session": date(2012, 3, 1)}, {}, True),
        ("early/cv_results", STRADDLING, {"session": date(2012, 3, 1)}, {"holdout": "2012-03-25"}, True),
    ],
)  # fmt: skip
def test_what_reaches_into_a_holdout_is_told_by_rows_and_footer(asset, partition, rows, facts, is_reached):
    guard = HoldoutGuard(Holdout("early", BEGIN, datetime(2012, 3, 18, 4, tzinfo=UTC)), "early/backtest")
    content = Content(pl.DataFrame({name: [each] for name, each in rows.items()}), facts=facts)
    footer = pending_footer(asset, partition, content, Stamp("", "", ""), None, None)
    parts = {partition: Stored(content.frame, footer)}
    assert list(guard.refused(asset, parts, REFIT)) == [partition] * is_reached
    assert replace(guard, opens_to_final_refit=True).refused(asset, parts, REFIT) == {}


def test_weeks_of_a_market_without_an_end_are_refused_with_the_date_to_write(held):
    """Counted back from today they would move with every week; the date in the message stays."""
    live = market_of({**{name: each for name, each in held.market.items() if name != "end"}, "start": "2012-01-03"})
    with pytest.raises(
        ValueError, match="`weeks` must be counted back from the `end` of market small, was 26"
    ) as caught:
        HoldoutSpec(weeks=26).build("early", live)
    fixed = str(caught.value).rpartition("{from: ")[2].rstrip("}")
    assert HoldoutSpec.model_validate({"from": fixed}).build("early", live).week == fixed
    assert final_refit_of({}) is None
