"""Cards of stored models, and models made again from what their cards name: the same bytes, or what is missing or has changed."""

import hashlib
import json

import pytest

from hf_pipelines.commands.cards import card_lines, card_of, reproduced, reproduction_lines, stored_model
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines_tests.pipeline import Project, ridge_strategy, trees_strategy

MODEL = ("training_matrix", "cv_results", "fitted_model")
SPLITS = {"n_splits": 3, "test_sessions": 8, "min_train_sessions": 10}
TREES = trees_strategy(
    "trees",
    learner={
        "type": "xgboost_classifier",
        "params": {"n_estimators": 12, "max_depth": 2},
        "calibration": {"type": "sigmoid", "params": {"min_rows": 10, "fitted_on": "folds"}},
    },
    cross_validation=SPLITS,
    intervals={"method": "aps", "coverage": 0.8},
)
VOTING = ridge_strategy(
    "voting",
    learner={"type": "voting", "params": {"members": [{"type": "ridge", "params": {"alpha": 2.0}}, "lasso"]}},
    cross_validation=SPLITS,
)


@pytest.fixture(scope="module")
def trained(small_project: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    project = small_project.copy(tmp_path_factory.mktemp("cards") / "project")
    project.rewrite(project.market, [TREES, VOTING])
    week = project.weeks[10]
    project.make(["small/bars", "small/features/quick"], project.weeks[0], week)
    for name in ("trees", "voting"):
        project.make([f"{name}/{each}" for each in MODEL], week)
    return project, week


def pipeline_of(project: Project) -> Pipeline:
    return Pipeline(project.definitions, project.instance, project.store)


def told(pipeline: Pipeline, word: str) -> tuple[str, list[bool]]:
    lines = list(reproduction_lines(*reproduced(pipeline, word)))
    return "\n".join(line for line, _ in lines), [is_sound for _, is_sound in lines]


def everything_stored(project: Project) -> dict[str, str]:
    files = (each for each in (project.folder / "storage").rglob("*") if each.is_file())
    return {str(each): hashlib.sha256(each.read_bytes()).hexdigest() for each in files}


@pytest.mark.parametrize("name", ["trees", "voting"])
def test_a_model_is_made_again_byte_for_byte_and_nothing_is_stored(trained, name):
    project, week = trained
    before = everything_stored(project)
    said, sound = told(pipeline_of(project), f"{name}@{week}")
    assert said.splitlines()[-1] == "The model was made again, byte for byte." and all(sound)
    # Intervals that are served are artifacts, too.
    n_artifacts = len(stored_model(pipeline_of(project), name).footer.attachments)
    assert said.count("the same bytes") == n_artifacts == (2 if name == "trees" else 1)
    assert everything_stored(project) == before


def test_a_card_holds_what_the_stored_files_hold(trained):
    project, week = trained
    card = card_of(pipeline_of(project), "voting")
    matrix = project.store.read("voting/training_matrix", week)
    model = project.store.read("voting/fitted_model", week)
    assert json.loads(json.dumps(card))["week"] == week and card["n_rows"] == matrix.frame.height
    assert card["inputs"]["voting/training_matrix"] == {week: matrix.footer.content_hash}
    ((name, digest),) = card["artifacts"].items()
    assert digest == hashlib.sha256(project.store.read_attachment(model.footer, name)).hexdigest()
    assert card["trial"] == project.store.footer("voting/cv_results", week).facts["trial"]
    results = project.store.footer("voting/cv_results", week).facts
    text = "\n".join(card_lines(card))
    assert card["verdict"] == results["verdict"] and card["verdict"].splitlines()[0] in text
    # Ten weeks of bars and features before it, and one configuration that was tried.
    weeks = project.weeks[:10]
    assert {asset: (of["first"], of["last"], of["weeks"]) for asset, of in card["data"].items()} == dict.fromkeys(
        ("small/bars", "small/features/quick"), (weeks[0], weeks[-1], 10)
    )
    assert card["trials_that_count"] == 1 and "Trials: 1 of voting count now" in text
    # Members of an ensemble with their parameters, one below the other.
    assert "    type: ridge" in text and "      alpha: 2.0" in text and "    type: lasso" in text
    assert f"voting/cv_results {week} " in text and f"{matrix.frame.height:,} rows" in text and digest in text


def test_an_earlier_content_comes_out_by_the_yaml_that_made_it_alone(trained, tmp_path):
    project, week = trained
    project = project.copy(tmp_path / "project")
    first = stored_model(pipeline_of(project), "voting").footer.content_hash
    changed = json.loads(json.dumps(VOTING))
    changed["learner"]["params"]["members"][0]["params"]["alpha"] = 50.0
    project.rewrite(strategies=[TREES, changed])
    project.make([f"voting/{each}" for each in MODEL], week)
    pipeline = pipeline_of(project)
    assert stored_model(pipeline, "voting").footer.content_hash != first
    assert told(pipeline, "voting")[0].endswith("The model was made again, byte for byte.")
    said, sound = told(pipeline, f"voting@{week}:{first[:8]}")
    assert "learner.params.members.0.params.alpha was 2.0, is 50.0 in the YAML" in said and not all(sound)
    assert "OTHER bytes" in said and said.endswith("check out the version of the project that made it, and try again.")
    project.rewrite(strategies=[TREES, VOTING])
    assert all(told(pipeline_of(project), f"voting@{week}:{first[:8]}")[1])


def test_what_a_model_was_made_from_and_is_gone_is_named(trained, tmp_path):
    project, week = trained
    project = project.copy(tmp_path / "project")
    path = next((project.folder / "storage").rglob(f"trees/training_matrix/{week}*"))
    digest = project.store.footer("trees/training_matrix", week).content_hash
    whole = path.read_bytes()
    for damage in (lambda: path.write_bytes(whole[:-100]), path.unlink):
        damage()
        said, sound = told(pipeline_of(project), "trees")
        assert f"MISSING trees/training_matrix {week} {digest[:12]}: " in said and not all(sound)
        assert said.endswith("Nothing was made again: contents that it was made from are missing.")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("nothing", "`strategy` must be one of trees, voting, was 'nothing'"),
        ("trees@2012-13-01", "`partition` must be a stored one of trees/fitted_model"),
        ("trees@{week}:ffff", "`hash` must begin exactly one content of trees/fitted_model"),
    ],
)
def test_a_model_that_is_none_is_refused(trained, word, said):
    project, week = trained
    with pytest.raises(ValueError, match="`") as caught:
        stored_model(pipeline_of(project), word.replace("{week}", week))
    assert said in str(caught.value)


def test_a_strategy_without_a_model_says_how_to_make_one(small_project, tmp_path):
    project = small_project.copy(tmp_path / "project")
    project.rewrite(project.market, [ridge_strategy("untrained")])
    with pytest.raises(
        ValueError, match=r"`model` must be of a strategy with one, untrained has none; hfp retrain untrained"
    ):
        stored_model(pipeline_of(project), "untrained")


def test_the_card_of_an_earlier_model_has_the_trial_and_the_verdict_of_its_own_results(trained, tmp_path):
    project, week = trained
    project = project.copy(tmp_path / "project")
    old, own = project.store.footer("voting/fitted_model", week), project.store.footer("voting/cv_results", week).facts
    project.rewrite(project.market, [TREES, {**VOTING, "learner": {"type": "ridge", "params": {"alpha": 9.0}}}])
    project.make(["voting/cv_results", "voting/fitted_model"], week)
    now = project.store.footer("voting/cv_results", week).facts
    pipeline = pipeline_of(project)
    earlier, current = card_of(pipeline, f"voting@{week}:{old.content_hash[:12]}"), card_of(pipeline, "voting")
    assert (earlier["trial"], earlier["verdict"]) == (own["trial"], own["verdict"])
    assert (current["trial"], current["verdict"]) == (now["trial"], now["verdict"]) and now["trial"] != own["trial"]
    assert earlier["trials_that_count"] == current["trials_that_count"] == 2
