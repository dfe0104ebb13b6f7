"""Modules of one's own: an entry of each kind, used by a strategy from bars to signals, and what is refused."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import CodeType, FunctionType

import polars as pl
import pytest
import yaml

from hf_pipelines.components import Strategy, modules
from hf_pipelines.components.market_stages import build_stages as build_market_stages
from hf_pipelines.components.modules import REGISTRIES, TABLES, register_modules
from hf_pipelines.components.stage import Stage
from hf_pipelines.components.strategy_stages import build_stages
from hf_pipelines.components.strategy_stages.fitted_model import load_model
from hf_pipelines.research.features import FEATURES
from hf_pipelines.research.learners import predict_frame
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines_tests import desk_entries
from hf_pipelines_tests.pipeline import Project, market_of, ridge_strategy
from hf_pipelines_tests.tracing import traced, unseen

MODULE = "hf_pipelines_tests.desk_entries"
# A vote of a learner that reads the symbol, one that reads earlier bars, one with a step that reads the time.
VOTE = {
    "type": "voting",
    "params": {
        "members": [
            "symbol_mean",
            {"type": "trailing_mean", "params": {"bars": 7}},
            {"type": "ridge", "preprocessing": ["session_rank"]},
        ],
        "weights": [1.0, 2.0, 3.0],
    },
    "preprocessing": ["standard_scaling"],
}
DESK_STRATEGY = ridge_strategy(
    "desk",
    modules=[MODULE],
    features=["quick", "desk"],
    target={"type": "desk_next"},
    cross_validation={"type": "last_sessions", "params": {"sessions": 9}},
    training={"weeks": 6, "minimum_rows": 40},
    learner=VOTE,
    signal={
        "type": "desk_rank",
        "params": {"n_long": 1, "n_short": 1},
        "sizing": ["desk_share"],
        "limits": [{"type": "desk_longs", "params": {"most": 0.1}}],
    },
    backtest={"engine": "desk_account"},
)


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """The registries, put back as they were."""
    held = [(each.entries, dict(each.entries)) for each in REGISTRIES.values()]
    held += [(each, dict(each)) for each in (FEATURES, modules._origins, modules._feature_origins)]
    yield
    for entries, before in held:
        entries.clear()
        entries.update(before)


@pytest.fixture(scope="module")
def desk_project(small_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("desk")
    project = small_project.copy(folder / "project")
    files = sorted(Path(str(project.market["source"]["uri"])).glob("*.parquet"))
    pl.concat([pl.read_parquet(each) for each in files]).write_parquet(folder / "bars.parquet")
    market = {
        **project.market,
        "modules": [MODULE],
        "source": {"type": "desk", "table": str(folder / "bars.parquet")},
        "features": ["quick", "desk"],
    }
    project.rewrite(market, [DESK_STRATEGY])
    return project


def desk_stages(project: Project) -> dict[str, Stage]:
    plan = Strategy.resolve_from_yaml(yaml.safe_dump(dict(DESK_STRATEGY))).plan(market_of(project.market))
    return {stage.asset: stage for stage in build_stages(plan)}


def test_a_strategy_of_own_entries_of_every_kind_trains_and_issues_signals(desk_project: Project, tmp_path: Path):
    project = desk_project
    week = project.weeks[7]
    assets = ["small/bars", "small/features/quick", "small/features/desk"]
    run = project.make(assets, project.weeks[0], week)
    assert run.checks["small/features/desk", "replay"].passed
    day = project.partitions.sessions_of_week(week)[1]
    with traced() as called:
        project.retrain("desk", week)
        issued = project.make("desk/signals", str(day))
    stages = desk_stages(project)
    assert unseen(called, {asset: stages[asset] for asset in called}) == {}
    assert issued.checks["desk/signals", "replay"].passed

    signals = project.store.read("desk/signals", str(day))
    assert signals.frame["prediction"].is_finite().all() and sorted(signals.frame["weight"]) == [-0.25, 0.0, 0.0, 0.1]
    # The issue depends on the sessions whose features its sequence learner reads, and on no others.
    read = signals.footer.inputs["small/features/desk"]
    expected = [each for key in project.weeks[:8] for each in project.partitions.sessions_of_week(key) if each <= day]
    assert sorted(name.split("#")[1] for name in read) == [str(each) for each in expected[-8:]]
    # What was stored predicts what was issued.
    model = project.store.read("desk/fitted_model", week)
    assert model.footer.facts["learner"]["params"]["members"][1] == {"type": "trailing_mean", "params": {"bars": 7}}
    pipeline = load_model(Loaded("desk/fitted_model", {week: model}, project.store), model)
    rows = [
        pl.concat(project.store.read(f"small/features/{group}", key).frame for key in project.weeks[:8])
        for group in ("quick", "desk")
    ]
    frame = rows[0].join(rows[1], on=["symbol", "session", "ts"]).filter(pl.col("session") <= day).sort("ts", "symbol")
    names = model.frame["features"][0].split(",")
    assert names[-1] == "day_share"
    wanted = (frame["session"] == day).to_numpy()
    again = predict_frame(pipeline, frame, features=names, classes=(), wanted=wanted)
    assert again["prediction"].to_list() == signals.frame["prediction"].to_list()
    # A model without its bytes' learner says so.
    with pytest.raises(ValueError, match="`learner.type` must be among .*, was gone"):
        facts = {**model.footer.facts, "learner": {"type": "gone", "params": {}}}
        load_model(
            Loaded("desk/fitted_model", {week: model}, project.store),
            replace(model, footer=replace(model.footer, facts=facts)),
        )


def test_a_target_of_several_horizons_runs_to_signals_by_the_learners_first(desk_project: Project, tmp_path: Path):
    project = desk_project.copy(tmp_path / "horizons")
    horizons = ridge_strategy(
        "horizons",
        modules=[MODULE],
        target={"type": "forward_returns", "params": {"horizons": [1, 5]}},
        learner={"type": "spread", "params": {"horizons": [5, 1]}},
        training={"weeks": 7, "minimum_rows": 40},
        cross_validation={"n_splits": 1, "min_train_sessions": 5},
    )
    project.rewrite(strategies=[horizons])
    week = project.weeks[7]
    project.make(["small/bars", "small/features/quick"], project.weeks[0], week)
    project.retrain("horizons", week)
    predicted = project.store.read("horizons/cv_results", week).frame
    assert predicted.group_by("horizon").agg(pl.col("prediction").unique().first()).sort("horizon").rows() == [
        (1, 2.0),
        (5, 1.0),
    ]
    # One label a row: what is predicted first is what it says.
    alone = {**horizons, "target": {"type": "forward_return", "horizon_bars": 5}}
    assert Strategy.resolve_from_yaml(yaml.safe_dump(alone)).learner.choice().horizons("regression") == (5, 1)
    with pytest.raises(
        ValueError, match=r"as the first horizon of learner 'spread', which is its `prediction` \(5\), was 2"
    ):
        Strategy.resolve_from_yaml(
            yaml.safe_dump({**horizons, "target": {"type": "forward_return", "horizon_bars": 2}})
        )
    day = str(project.partitions.sessions_of_week(week)[1])
    project.make("horizons/signals", day)
    assert project.store.read("horizons/signals", day).frame["prediction"].unique().to_list() == [1.0]


def test_the_code_of_own_entries_is_in_the_versions_of_the_stages_that_run_it(desk_project: Project):
    versions = {asset: stage.code_version.codes for asset, stage in desk_stages(desk_project).items()}

    def seen_in(*functions: FunctionType) -> set[str]:
        wanted: set[CodeType] = {each.__code__ for each in functions}
        return {asset.split("/")[1] for asset, codes in versions.items() if wanted <= codes}

    learned = (desk_entries.SymbolMean.fit, desk_entries.TrailingMean.fit, desk_entries._bars)
    assert seen_in(*learned) >= {"cv_results", "fitted_model"}
    assert seen_in(desk_entries.SymbolMean.predict, desk_entries.load_values) >= {"cv_results", "signals"}
    assert seen_in(desk_entries.SessionRank.transform) >= {"cv_results", "fitted_model", "signals"}
    assert seen_in(desk_entries.label_next) == {"training_matrix", "drift"}
    assert seen_in(desk_entries.LastSessions.split) == {"cv_results", "validation", "full_validation"}
    ruled = {"backtest", "validation", "full_validation", "report", "signals"}
    assert seen_in(desk_entries.weigh_as_shipped) == ruled
    assert seen_in(desk_entries.size_by_share) == seen_in(desk_entries.bounds_of_longs) == ruled
    assert seen_in(desk_entries.run_as_shipped) == {"backtest", "report", "track_record", "drift"}
    market = market_of(desk_project.market)
    of_features = {each.asset: each.code_version.codes for each in build_market_stages(market)}
    assert desk_entries.day_share.__code__ in of_features["small/features/desk"]


def test_a_module_is_registered_twice_without_harm_and_brings_every_table():
    register_modules([MODULE, MODULE], "modules")
    for table in TABLES[1:]:
        own = getattr(desk_entries, table)
        assert own and {name: REGISTRIES[table].entries[name] for name in own} == own
    assert "day_share" in FEATURES


STEP = """
from hf_pipelines.research.learners import PREPROCESSING as SHIPPED
from dataclasses import replace
PREPROCESSING = {"mine": replace(SHIPPED["standard_scaling"], name="mine")}
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a module that can be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
        return name

    return write


def test_a_module_that_was_edited_and_imported_anew_takes_the_place_of_what_it_had_registered(written):
    register_modules([written("desk_one", STEP)], "modules")
    before = REGISTRIES["PREPROCESSING"].entries["mine"]
    register_modules([written("desk_one", STEP + "# edited\n")], "modules")
    assert REGISTRIES["PREPROCESSING"].entries["mine"] is not before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (STEP, "'mine', which desk_first has too; choose another name"),
        (STEP.replace('"mine"', '"standard_scaling"'), "'standard_scaling', which the project has too"),
        (
            "from hf_pipelines.research.learners import LEARNERS as SHIPPED\nfrom dataclasses import replace\n"
            'LEARNERS = {"xgboost_classifier": replace(SHIPPED["xgboost"], name="xgboost_classifier")}',
            "'xgboost_classifier', which the project has too",
        ),
        (STEP.replace('{"mine"', '{"other"'), "must map the name of each Step to it, was 'other'"),
        ("PREPROCESSING = {'a': 1}", "must map the name of each Step to it, was 'a': 1"),
        ("LEARNERS = [1]", "`LEARNERS` of desk_second must map names to entries, was"),
        ("learners = {}", "it must have a table named FEATURES, SOURCES, .* or ENGINES, had none"),
        ("raise RuntimeError('boom')", r"importable modules, was 'desk_second' \(boom\)"),
    ],
    ids=["another module's", "the project's", "an alias", "other key", "no entry", "no table", "nothing", "raises"],
)
def test_a_module_that_clashes_or_holds_something_else_is_refused_and_adds_nothing(written, text, told):
    register_modules([written("desk_first", STEP)], "modules")
    before = {table: dict(each.entries) for table, each in REGISTRIES.items()}
    with pytest.raises(ValueError, match=f"(?s)`modules` must name .*{told}"):
        register_modules([written("desk_second", text)], "modules")
    assert {table: dict(each.entries) for table, each in REGISTRIES.items()} == before


FEATURE = """
from hf_pipelines.research.features import Feature
FEATURES = (Feature("NAME", "GROUP", lambda panel: panel.close / panel.open, 1, ("open", "close"), "close / open"),)
"""


@pytest.mark.parametrize(
    ("name", "group", "told"),
    [
        ("body", "second", "features of its own, was 'body', which desk_first has too; choose another name"),
        ("other", "first", "groups of its own, was 'first', which desk_first has too; choose another `group`"),
    ],
    ids=["name", "group"],
)
def test_a_feature_or_group_of_another_module_is_refused_and_the_first_stays(written, name, group, told):
    text = FEATURE.replace("NAME", "body").replace("GROUP", "first")
    for _ in range(2):
        # Two markets that name the same module are no clash.
        register_modules([written("desk_first", text)], "modules")
    kept = dict(FEATURES)
    with pytest.raises(ValueError, match=told):
        register_modules([written("desk_second", FEATURE.replace("NAME", name).replace("GROUP", group))], "modules")
    assert kept == FEATURES


def test_the_old_name_of_modules_works_and_says_so(small_project: Project):
    with pytest.warns(FutureWarning, match="`feature_modules` is the old name of `modules`"):
        market = market_of({**small_project.market, "feature_modules": [MODULE], "features": ["quick", "desk"]})
    assert market.feature_modules == (MODULE,)
    assert market_of({**small_project.market, "modules": [MODULE]}).feature_modules == (MODULE,)
