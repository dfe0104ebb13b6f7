"""`start` of a strategy: its weeks and days begin there, nothing else changes, and nothing that is stored may lie before it."""

import re
from datetime import UTC, date, datetime

import dagster as dg
import pytest

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.scaffolding import add_entry
from hf_pipelines.components.automation.run_intents import RunHistory
from hf_pipelines.components.automation.strategy_sensor import StrategySensor
from hf_pipelines.components.component_tree import read_components
from hf_pipelines.components.scaffolders import TRAINING_WEEKS, first_week_of_training
from hf_pipelines.components.strategy_stages import build_stages
from hf_pipelines.components.yaml_lines import LOADING_ERRORS, fault_of
from hf_pipelines.resources.project import ProjectRoot
from hf_pipelines_tests.pipeline import RETRAINED, Project, ridge_strategy

# The market has sessions from 2012-01-03 to 2012-05-04, a model is trained on ten weeks: the first is that of 2012-03-11.
FIRST, NEXT, LATER = "2012-03-11", "2012-03-18", "2012-03-25"


@pytest.fixture
def project(small_project: Project, tmp_path) -> Project:
    return small_project.copy(tmp_path / "project")


def begun(project: Project, start: str | None, **attributes) -> Project:
    project.rewrite(strategies=[ridge_strategy(**({} if start is None else {"start": start}), **attributes)])
    return project


def keys(project: Project, asset: str) -> list[str]:
    return Pipeline(project.definitions, project.instance, project.store)._all_keys(asset)


def refusal(project: Project) -> str:
    """What the YAML is refused with."""
    try:
        _ = project.definitions
    except LOADING_ERRORS as e:
        return fault_of(e, project.folder / project.package / "defs")
    raise AssertionError("it was not refused")


def project_status(project: Project) -> tuple[str | None, str | None]:
    """What `hfp status` says of the best start, for people and for programs."""
    with dg.instance_for_test() as instance:
        status = Pipeline(project.definitions, instance, project.store).status()
    lines = [each for each in status.lines() if "without a later `start`" in each]
    return lines[0].partition(": ")[2].rstrip(".") if lines else None, status.to_json()["strategies"][0]["best_start"]


def plan_of(project: Project):
    (plan,) = project.pipeline.strategies()
    return plan


def test_weeks_and_days_begin_with_the_week_of_the_start_and_those_of_the_market_do_not(project):
    # A Wednesday: its whole week belongs to it.
    begun(project, "2012-03-14")
    assert keys(project, "ranking/fitted_model") == [
        *(FIRST, NEXT, LATER, "2012-04-01", "2012-04-08", "2012-04-15", "2012-04-22", "2012-04-29"),
    ]
    # Saturdays have no partition, nor has Good Friday.
    days = keys(project, "ranking/signals")
    assert days[:8] == [*(f"2012-03-{day}" for day in (11, 12, 13, 14, 15, 16, 18, 19))]
    assert "2012-04-06" not in days and "2012-04-05" in days
    assert keys(project, "small/bars")[0] == "2012-01-01"


def test_what_is_made_is_the_same_with_and_without_a_start(project, tmp_path):
    """The weeks before it are read as ever: none of the market's is cut off."""
    other = begun(project.copy(tmp_path / "other"), FIRST)
    for each in (project, other):
        each.retrain("ranking", FIRST)
        each.make("ranking/signals", "2012-03-12", "2012-03-13")
        each.make("ranking/track_record", NEXT)
    assert other.code_versions == project.code_versions
    for stage in (*RETRAINED, "signals", "track_record"):
        assert other.hashes(f"ranking/{stage}") == project.hashes(f"ranking/{stage}") != {}, stage
    assert other.out_of_date() == project.out_of_date() == {}


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("2011-12-30", "`start` must lie in a week of market small, 2012-01-01 to 2012-04-29, was 2011-12-30"),
        ("2012-05-06", "`start` must lie in a week of market small, 2012-01-01 to 2012-04-29, was 2012-05-06"),
        ("2012-02-30", "`start` must be a date YYYY-MM-DD, was '2012-02-30'"),
        ("soon", "`start` must be a date YYYY-MM-DD, was 'soon'"),
    ],
)
def test_a_start_outside_of_the_market_is_refused_at_its_line(project, start, message):
    begun(project, start)
    assert re.match(rf"{project.folder}/.*/strategies/ranking/defs.yaml:23: {message}", refusal(project))


def test_a_market_that_goes_on_has_no_start_in_the_future(project):
    project.rewrite({name: value for name, value in project.market.items() if name != "end"})
    tomorrow = date.today().replace(year=date.today().year + 1)
    begun(project, tomorrow.isoformat())
    assert "`start` must lie in a week of market small" in refusal(project)


def test_a_start_after_what_is_stored_is_refused_when_it_is_loaded_and_nothing_is_lost(project, monkeypatch):
    project.retrain("ranking", FIRST, NEXT)
    project.make("ranking/signals", "2012-03-12", "2012-03-23")
    before = project.hashes("ranking/signals"), project.hashes("ranking/fitted_model")
    monkeypatch.setenv("HF_STORAGE_URI", str(project.folder / "storage"))
    begun(project, NEXT)
    told = refusal(project)
    assert (
        "ranking/defs.yaml:23: `start` must not lie after what is stored of ranking" in told
        and f"ranking/fitted_model {FIRST};" in told
    )
    assert "ranking/signals 2012-03-12, 2012-03-13, 2012-03-14, 2012-03-15, 2012-03-16" in told
    assert f'Write start: "{FIRST}", or an earlier date' in told
    # What it says cures it, and a week that a longer window of training cannot make stays a week of its own.
    begun(project, FIRST, training={"weeks": 12, "minimum_rows": 40})
    assert keys(project, "ranking/signals")[0] == FIRST
    assert before == (project.hashes("ranking/signals"), project.hashes("ranking/fitted_model"))


def test_a_start_after_what_is_stored_is_refused_by_every_run(project):
    """Of a store that is not looked at when the YAML is loaded."""
    project.retrain("ranking", FIRST)
    begun(project, LATER)
    for asset, key in (("ranking/training_matrix", LATER), ("ranking/signals", "2012-03-26")):
        run = project.run(asset, key)
        assert not run.success and f'Write start: "{FIRST}"' in run.message, asset
    begun(project, FIRST)
    project.make("ranking/training_matrix", LATER)


def test_a_week_before_the_start_is_refused_with_the_start(project):
    pipeline = begun(project, NEXT).pipeline
    with pytest.raises(
        ValueError,
        match=f"`week` must be a partition of ranking/fitted_model from {NEXT} to 2012-04-29, was {FIRST}; `start` of ranking is {NEXT}, "
        "write an earlier one in its YAML",
    ):
        pipeline.partition_keys("ranking/fitted_model", FIRST, FIRST, named=("week", "to"))
    with pytest.raises(ValueError, match=r"was 2012-05-06\.$"):
        pipeline.partition_keys("ranking/fitted_model", "2012-05-06", "2012-05-06")


def test_the_sensor_asks_for_no_model_before_the_start(project):
    now = datetime(2012, 5, 5, 12, tzinfo=UTC)
    for start, told in (
        (LATER, f"no model of week {NEXT} yet: `start` of ranking is {LATER}"),
        (NEXT, f"model of week {NEXT} is due"),
    ):
        plan = plan_of(begun(project, start))
        _, requests, note = StrategySensor(plan, project.store, RunHistory(project.instance, now), now)._request_model(
            NEXT
        )
        assert note == told and [each.partition_key for each in requests] == [NEXT] * (start == NEXT)


def test_a_rule_that_remembers_looks_back_to_the_start_and_no_further(project):
    buffer = {"type": "rank_buffer", "params": {"n_long": 1, "n_short": 1, "buffer": 1, "sessions": 5}}
    plan = plan_of(begun(project, NEXT, signal=buffer))
    assert plan.decided_sessions(date(2012, 3, 20)) == [date(2012, 3, 19), date(2012, 3, 20)]
    versions = {each.asset: each.code_version for each in build_stages(plan)}
    without = plan_of(begun(project, None, signal=buffer))
    assert without.decided_sessions(date(2012, 3, 20)) == [date(2012, 3, day) for day in (14, 15, 16, 19, 20)]
    others = {each.asset: each.code_version for each in build_stages(without)}
    # The weights of its first sessions are others.
    assert [asset for asset in versions if versions[asset] != others[asset]] == ["ranking/signals"]


def test_status_and_assets_say_which_start_leaves_no_week_missing_for_ever(project):
    graph = begun(project, None).definitions.resolve_asset_graph()
    (key,) = [each for each in graph.materializable_asset_keys if each.path == ["ranking", "signals"]]
    assert f'write start: "{FIRST}" or later' in graph.get(key).metadata["first_trainable_week"]
    for start, best in ((None, FIRST), (FIRST, None), ("2012-03-04", FIRST), (LATER, None)):
        # A start that is too early is shown, too.
        assert project_status(begun(project, start)) == (f'ranking (start: "{best}")' if best else None, best)


def test_a_new_strategy_begins_with_the_first_week_that_it_can_be_trained_for(tmp_path):
    """104 weeks after the Sunday before 2020-01-08, a Wednesday: 2022-01-02."""
    assert TRAINING_WEEKS == 104
    market = tmp_path / "fund" / "defs" / "markets" / "asia" / "defs.yaml"
    market.parent.mkdir(parents=True)
    root = ProjectRoot(tmp_path, "fund", "fund.definitions", "fund")
    for end, told in ((None, ["2022-01-02"]), ("2022-01-01", []), ("2022-01-05", ["2022-01-02"])):
        ends = "" if end is None else f'\n  end: "{end}"'
        market.write_text(
            f'type: hf_pipelines.components.Market\nattributes:\n  name: asia\n  start: "2020-01-08"{ends}\n'
        )
        assert first_week_of_training(root.defs, "asia") == "".join(told)
        add_entry("strategy", "momentum", root)
        written = root.defs / "strategies" / "momentum" / "defs.yaml"
        lines = written.read_text().splitlines()
        assert [each.split('"')[1] for each in lines if each.startswith("  start:")] == told
        assert ("first week with all weeks" in written.read_text()) == bool(told)
        written.unlink()


def test_the_environment_and_the_shipped_strategies_may_set_it(project, monkeypatch):
    monkeypatch.setenv("HF_SET__RANKING__START", NEXT)
    found, faults = read_components(begun(project, None).folder / project.package / "defs")
    assert not faults and [each.start for each in found.values() if each.name == "ranking"] == [NEXT]
