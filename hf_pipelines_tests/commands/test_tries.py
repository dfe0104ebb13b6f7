"""`hfp try`: one configuration beside what is current, which stays byte for byte what it was."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from hf_pipelines.commands.accepting import accept_lines
from hf_pipelines.commands.tries import candidate, make_try, settings_shown, try_json, try_lines, weeks_of
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.retention import Holdings, Policy
from hf_pipelines.resources.retention import tries as tries_collector
from hf_pipelines.resources.trial_ledger import TrialLedger, n_trials
from hf_pipelines.resources.tries import find_try, list_tries, store_of_try
from hf_pipelines.resources.verification import verify
from hf_pipelines_tests.commands.try_script import MODULE
from hf_pipelines_tests.forked import popen
from hf_pipelines_tests.pipeline import Project, ridge_strategy, trees_strategy

SPLITS = {"n_splits": 3, "test_sessions": 8, "min_train_sessions": 10}
RIDGE = ridge_strategy("ranking", cross_validation=SPLITS)
TREES = trees_strategy("direction", cross_validation=SPLITS)
STAMP = Stamp("code-1", "run-1", "2012-04-01T07:00:00+00:00")
STAGES = ("training_matrix", "cv_results", "backtest")
NOW = datetime(2012, 7, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def trained(small_project: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    project = small_project.copy(tmp_path_factory.mktemp("tries") / "project")
    project.rewrite(project.market, [RIDGE, TREES])
    week = project.weeks[10]
    project.make(["small/bars", "small/features/quick"], project.weeks[0], week)
    for name in ("ranking", "direction"):
        project.make([f"{name}/{each}" for each in STAGES], week)
    return project, week


def made(project, strategy, *sets, weeks=()):
    chosen = candidate(project.pipeline, strategy, sets)
    return chosen, make_try(project.pipeline, chosen, weeks_of(project.pipeline, chosen, weeks))


def everything_current(project):
    """Bytes of all that is stored, but for the ledger and the tries."""
    root = project.folder / "storage"
    files = (each for each in root.rglob("*") if each.is_file())
    return {
        str(each): hashlib.sha256(each.read_bytes()).hexdigest()
        for each in files
        if each.relative_to(root).parts[0] not in ("_tries", "_trials")
    }


def n_counted(project, strategy):
    return n_trials(TrialLedger(project.store.objects, "test").known().filter(strategy=strategy))


@pytest.mark.parametrize("strategy", ["ranking", "direction"])
def test_a_try_of_what_the_strategy_is_has_its_bits_and_is_no_further_trial(trained, strategy):
    """Fitted anew: the tests answer no trial by what is stored."""
    project, week = trained
    before, counted = everything_current(project), n_counted(project, strategy)
    _, tried = made(project, strategy)
    of_week = tried.record.weeks[week]
    assert of_week.contents == {
        stage: project.store.footer(f"{strategy}/{stage}", week).content_hash for stage in ("cv_results", "backtest")
    }
    assert of_week.matrix == project.store.footer(f"{strategy}/training_matrix", week).content_hash
    assert of_week.trial == project.store.footer(f"{strategy}/cv_results", week).facts["trial"]
    assert (everything_current(project), n_counted(project, strategy)) == (before, counted)
    assert not tried.read and not tried.record.differs


def test_a_try_is_a_trial_of_its_strategy_once_and_touches_nothing_that_is_current(trained):
    project, week = trained
    before, counted = everything_current(project), n_counted(project, "ranking")
    of_another = n_counted(project, "direction")
    chosen, tried = made(project, "ranking", "learner.params.alpha=2.25", "signal.params.n_long=2")
    _, again = made(project, "ranking", "learner.params.alpha=2.25", "signal.params.n_long=2")
    assert again.record.id == tried.record.id and again.record.weeks[week].trial == tried.record.weeks[week].trial
    assert everything_current(project) == before and n_counted(project, "ranking") == counted + 1
    assert n_counted(project, "direction") == of_another
    record = find_try(project.store, tried.record.name[: len("ranking~") + 4])
    assert record.differs == {"learner.params.alpha": (1.0, 2.25), "signal.params.n_long": (1, 2)}
    known = TrialLedger(project.store.objects, "test").known().filter(trial=record.weeks[week].trial).row(0, named=True)
    assert (known["strategy"], known["source"], known["outcome"], known["n_begun"]) == (
        "ranking",
        "try",
        "completed",
        2,
    )
    # What it predicts is what the strategy would predict if its YAML had been written so.
    written = {**RIDGE, "learner": {"type": "ridge", "params": {"alpha": 2.25}}}
    written["signal"] = {"type": "rank_long_short", "params": {"n_long": 2, "n_short": 1}}
    other = project.copy(project.folder.parent / "written")
    other.rewrite(other.market, [written, TREES])
    other.make([f"ranking/{each}" for each in STAGES], week)
    for stage in ("cv_results", "backtest"):
        assert other.store.footer(f"ranking/{stage}", week).content_hash == record.weeks[week].contents[stage]
    text = "\n".join(try_lines(project.pipeline, chosen, tried))
    assert "learner.params.alpha: 1 -> 2.25" in text and f"ranking~{record.id}" in text
    assert "nothing that is current was touched" in text


def mismatches(project):
    return [found for looked in verify(project.store, now=NOW) for found in looked.mismatches]


def test_a_try_is_verified_where_it_lies_and_damage_of_it_is_found_as_any_other(trained, tmp_path):
    project, week = trained[0].copy(tmp_path / "project"), trained[1]
    _, tried = made(project, "ranking", "signal.params.n_long=2")
    looked = [*verify(project.store, now=NOW)]
    assert [found for each in looked for found in each.mismatches] == []
    folder = f"_tries/ranking/{tried.record.id}"
    of_try = [key for key in project.store.objects.keys(folder) if not key.endswith(".json")]
    others = [key for key in project.store.objects.all_keys() if not key.startswith("_") and key.endswith(".parquet")]
    assert looked[-1].of >= len(of_try) + len(others)
    # One byte of a partition and of an attachment, and an attachment that is gone.
    partition = f"{folder}/ranking/backtest/{week}.parquet"
    scores, other, *_ = sorted(key for key in of_try if f"/_attached/ranking/backtest/{week}/" in key)
    for key in (partition, scores):
        path = Path(project.store.objects.address(key))
        payload = bytearray(path.read_bytes())
        payload[len(payload) // 2] ^= 1
        path.write_bytes(payload)
    found = {each.path: each for each in mismatches(project)}
    assert {*found} == {project.store.objects.address(key) for key in (partition, scores)}
    damaged = found[project.store.objects.address(partition)]
    assert (damaged.asset, damaged.partition) == (f"{folder}/ranking/backtest", week)
    remedy = f"remove the folder {project.store.objects.address(folder)}, and try it again if you want: hfp try"
    assert damaged.remedy == remedy
    # The remedy cures.
    shutil.rmtree(project.store.objects.address(folder))
    assert mismatches(project) == []
    _, again = made(project, "ranking", "signal.params.n_long=2")
    assert again.record.id == tried.record.id
    Path(project.store.objects.address(other)).unlink()
    (gone,) = mismatches(project)
    assert (gone.what, gone.path, gone.remedy) == ("attachment", project.store.objects.address(other), remedy)


def test_programs_read_a_try_and_what_it_is_beside_its_strategy(trained, monkeypatch):
    project, week = trained
    chosen, tried = made(project, "ranking", "learner.params.alpha=2.5", "signal.params.n_long=2")
    found = json.loads(json.dumps(try_json(project.pipeline, chosen, tried)))
    assert found["try"]["name"] == tried.record.name and found["try"]["differs"]["signal.params.n_long"] == [1, 2]
    # 24 sessions are too few for a test.
    assert list(found["compared"]) == [week] and list(found["compared"][week]) == ["not_compared"]
    assert found["compared"][week]["not_compared"] in "\n".join(try_lines(project.pipeline, chosen, tried))
    chosen, tried = made(project, "ranking", weeks=[project.weeks[11]])
    assert try_json(project.pipeline, chosen, tried)["compared"] == {
        project.weeks[11]: {"not_compared": f"nothing is stored of ranking {project.weeks[11]}"}
    }


def test_what_is_the_same_is_read_and_a_rule_alone_fits_nothing(trained, monkeypatch):
    project, week = trained
    monkeypatch.setenv("HF_ANSWER_TRIALS", "1")
    _, tried = made(project, "direction", "signal.params.threshold=0.45")
    assert [line.split()[0] for line in tried.read] == ["direction/training_matrix", "direction/cv_results"]
    stored = project.store.footer("direction/cv_results", week)
    of_week = tried.record.weeks[week]
    assert of_week.contents["cv_results"] == stored.content_hash and of_week.trial != stored.facts["trial"]
    assert of_week.contents["backtest"] != project.store.footer("direction/backtest", week).content_hash


def test_features_that_the_market_does_not_store_are_computed_as_it_would_store_them(trained, tmp_path):
    project, week = trained
    _, tried = made(project, "ranking", "features=[quick, temporal/day_of_week]")
    assert any(line.startswith("1 features of temporal computed in 10 weeks: day_of_week") for line in tried.read)
    other = project.copy(tmp_path / "project")
    market = {**other.market, "features": [*other.market["features"], "temporal/day_of_week"]}
    other.rewrite(market, [{**RIDGE, "features": ["quick", "temporal"]}])
    other.make(["small/features/temporal"], project.weeks[0], week)
    other.make([f"ranking/{each}" for each in STAGES], week)
    assert (
        other.store.footer("ranking/cv_results", week).content_hash == tried.record.weeks[week].contents["cv_results"]
    )
    assert not project.store.partitions("small/features/temporal")


@pytest.mark.parametrize(
    "point", [*(pytest.param(each, marks=pytest.mark.long) for each in ("cv_results of", "backtest of")), "record"]
)
def test_a_try_that_is_killed_is_none_and_counts_once_when_it_is_made_again(trained, tmp_path, monkeypatch, point):
    project, week = trained
    project = project.copy(tmp_path / "project")
    before, counted = everything_current(project), n_counted(project, "ranking")
    known = [*list_tries(project.store)]
    sets = ["learner.params.alpha=7.0"]
    order = {
        "market": project.market,
        "strategies": project.strategies,
        "strategy": "ranking",
        "sets": sets,
        "week": week,
    }
    (project.folder / "try.json").write_text(json.dumps(order, default=str))
    env = {**os.environ, "HF_DATA_DIR": str(project.folder), "PYTHONPATH": os.getcwd(), "TMPDIR": str(tmp_path)}
    child = popen([sys.executable, "-m", MODULE, str(project.folder), point], env=env)
    assert child.wait(timeout=120) == -signal.SIGKILL
    assert [*list_tries(project.store)] == known and everything_current(project) == before
    # What it worked in is removed by the next try, once it is a minute old.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = [*tmp_path.glob("hfp_try_*")]
    assert len(left) == (point != "record")
    for each in left:
        os.utime(each, (time.time() - 3_600, time.time() - 3_600))
    _, tried = made(project, "ranking", *sets)
    assert not [*tmp_path.glob("hfp_try_*")]
    assert [each for each in list_tries(project.store) if each not in known] == [tried.record]
    assert n_counted(project, "ranking") == counted + 1
    kept = store_of_try(project.store, "ranking", tried.record.id)
    assert kept.read("ranking/cv_results", week).footer.content_hash == tried.record.weeks[week].contents["cv_results"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("lerner.params.alpha=1", "`lerner` must be a field .* did you mean learner"),
        ("learner.parms.alpha=1", "`learner.parms` must be a field .* did you mean params"),
        (
            "learner.params.alfa=1",
            "--set learner.params.alfa=1: `params` of 'ridge' must be among .* did you mean alpha",
        ),
        ("learner.params.alpha=many", "`alpha` of 'ridge' must be a number, was 'many'"),
        ("learner.params.alpha='4'", "`alpha` of 'ridge' must be a number, was '4'"),
        ("target.horizon_bars=2.5", "`target.horizon_bars` must be a whole number"),
        ("market=smal", "--set market=smal: `market` must be one of small, was 'smal'"),
        ("learner.params.alpha.x=1", "`alpha` of 'ridge' must be a number, was {'x': 1}"),
        ("name=other", "`--set` must set another field than `name`"),
        ("learner", "`--set` must be FIELD=VALUE"),
        ("=4", "`--set` must be FIELD=VALUE"),
        ("../x=4", "must be"),
        ("learner.type.x=1", "`learner.type` must be a mapping for 'x' to be set in it, was 'ridge'"),
        ("learner.params.alpha=", "must be given a value on one line"),
        ("learner.params.alpha=1\n  seed: 4", "must be given a value on one line"),
        ("learner.params=!!python/object:os.system {}", "must be a plain value"),
        ("learner.params=&a [*a]", "must be a plain value"),
        ("description='{{ env.HOME }}{% for x in y %}'", "other templates are not evaluated"),
        ("learner.params={alpha: 1, alpha: 2}", "must give each name once, was with alpha twice"),
    ],
)
def test_a_value_is_checked_as_the_yaml_is(trained, given, message):
    project, _ = trained
    with pytest.raises(ValueError, match=message):
        candidate(project.pipeline, "ranking", [given])


@pytest.mark.parametrize("name", ["nothing", "../ranking", "ranking~", "ranking~zz", "/dev/zero", "", "."])
def test_hostile_names_are_refused(trained, name):
    project, _ = trained
    with pytest.raises(ValueError, match="must be"):
        candidate(project.pipeline, name, [])
    with pytest.raises(ValueError, match="`try` must be"):
        find_try(project.store, name)


def test_another_type_says_how_the_parameters_of_the_one_before_go(trained):
    pipeline = trained[0].pipeline
    with pytest.raises(
        ValueError,
        match="`params` of 'logistic' must be among .* those of the former type go with --set learner.params={}$",
    ):
        candidate(pipeline, "direction", ["learner.type=logistic"])
    assert (
        candidate(pipeline, "direction", ["learner.type=logistic", "learner.params={}"]).plan.learner.choice.name
        == "logistic"
    )


COMMENTED = """\
type: hf_pipelines.components.Strategy

# Why there is such a strategy.
attributes:
  name: ranking  # by its folder
  market: small
  features: [quick]   # all three
  target:
    type: forward_return
    horizon_bars: 2  # two sessions
  training: {weeks: 10, minimum_rows: 40}
  cross_validation:
    n_splits: 3
    test_sessions: 8
    min_train_sessions: 10
  learner:
    type: ridge
    # alpha is left as it is
  signal:
    type: rank_long_short
    params: {n_long: 1, n_short: 1}
"""


@pytest.fixture
def commented(trained, tmp_path):
    project = trained[0].copy(tmp_path / "project")
    path = project.folder / project.package / "defs/strategies/ranking/defs.yaml"
    path.write_text(COMMENTED)
    return project, path


def test_fields_that_are_shown_are_those_that_set_takes(commented):
    project, path = commented
    steps = "    sizing: [{type: fixed_fraction, params: {fraction: 0.1}}]\n    limits: [{type: holding, params: {sessions: 3}}]\n"
    path.write_text(COMMENTED + steps)
    shown = settings_shown(candidate(project.pipeline, "ranking", []).plan)
    assert shown["cross_validation.n_splits"] == 3 and shown["signal.limits.0.params.sessions"] == 3
    own = {name: value for name, value in shown.items() if not name.startswith(("features", "own_code"))}
    same = candidate(project.pipeline, "ranking", [f"{name}={json.dumps(value)}" for name, value in own.items()])
    assert same.differs() == {}
    # A parameter of the splitter may stand beside its `type` or below `params`, and is set where it stands.
    two = candidate(project.pipeline, "ranking", ["cross_validation.params.n_splits=2"])
    assert two.differs() == {"cross_validation.n_splits": (3, 2)} and "    n_splits: 2\n" in two.edited.text
    path.write_text(path.read_text().replace("    n_splits: 3\n", "    params: {n_splits: 3}\n"))
    assert "{n_splits: 2}" in candidate(project.pipeline, "ranking", ["cross_validation.n_splits=2"]).edited.text


def test_accept_writes_the_yaml_that_was_tried_and_nothing_else_of_it(commented):
    project, path = commented
    chosen = candidate(
        project.pipeline, "ranking", ["learner.params.alpha=3", "signal.params.n_long=2", "target.horizon_bars=3"]
    )
    tried = make_try(project.pipeline, chosen, [project.weeks[10]])
    path.chmod(0o640)
    text = "\n".join(accept_lines(project.pipeline, tried.record.name))
    assert path.read_text() == COMMENTED.replace("n_long: 1", "n_long: 2").replace(
        "horizon_bars: 2", "horizon_bars: 3"
    ).replace("    type: ridge\n", "    type: ridge\n    params: {alpha: 3}\n")
    assert path.stat().st_mode & 0o777 == 0o640 and [*path.parent.iterdir()] == [path]
    assert f"out of date: ranking/training_matrix, {project.weeks[10]}" in text and "hfp retrain ranking --week" in text
    # What the strategy is now has the trial of the try: it is no further one.
    project.reload()
    counted = n_counted(project, "ranking")
    project.make([f"ranking/{each}" for each in STAGES], project.weeks[10])
    assert (
        project.store.footer("ranking/cv_results", project.weeks[10]).facts["trial"]
        == tried.record.weeks[project.weeks[10]].trial
    )
    assert n_counted(project, "ranking") == counted
    assert [*accept_lines(project.pipeline, tried.record.name)][0].endswith("already: nothing was written")


def test_of_two_that_accept_at_once_the_second_is_refused_and_loses_nothing(commented, tmp_path):
    project, path = commented
    names = [made(project, "ranking", f"learner.params.alpha={alpha}")[1].record.name for alpha in (3, 4)]
    order = {"market": project.market, "strategies": project.strategies, "strategy": "ranking", "yaml": COMMENTED}
    (project.folder / "try.json").write_text(json.dumps(order, default=str))
    env = {**os.environ, "HF_DATA_DIR": str(project.folder), "PYTHONPATH": os.getcwd(), "TMPDIR": str(tmp_path)}
    gate, children = tmp_path / "gate", []
    for name in names:
        command = [sys.executable, "-m", MODULE, str(project.folder), str(gate), name]
        children.append(popen(command, env=env, stdout=subprocess.PIPE, text=True))
        # Each writes the project anew as it begins.
        assert children[-1].stdout.readline() == "ready\n"
    gate.touch()
    told = [each.communicate(timeout=120)[0] for each in children]
    (winner,) = [at for at, each in enumerate(told) if "was written as" in each]
    assert "refused: `" in told[1 - winner] and "has changed since" in told[1 - winner]
    (written,) = {
        each.read_text() for each in project.folder.glob("project_*/defs/strategies/ranking/defs.yaml") if each != path
    }
    assert written == COMMENTED.replace("    type: ridge\n", f"    type: ridge\n    params: {{alpha: {winner + 3}}}\n")


def test_accept_refuses_a_yaml_that_has_changed_and_what_the_project_cannot_load(commented):
    project, path = commented
    _, tried = made(project, "ranking", "learner.params.alpha=3")
    changed = COMMENTED.replace("n_splits: 3", "n_splits: 2")
    path.write_text(changed)
    with pytest.raises(
        ValueError,
        match=r"must be as it was when .* has changed since .*hfp try ranking --set 'learner.params.alpha=3'",
    ):
        [*accept_lines(project.pipeline, tried.record.name)]
    path.write_text(COMMENTED)
    _, wide = made(project, "ranking", "features=[quick, temporal/day_of_week]")
    with pytest.raises(
        ValueError, match="cannot be taken, nothing was written: .*`features` must be among the groups of market small"
    ):
        [*accept_lines(project.pipeline, wide.record.name)]
    assert path.read_text() == COMMENTED


def test_a_file_is_tried_and_becomes_a_strategy(commented, tmp_path):
    project, path = commented
    file = tmp_path / "idea.yaml"
    file.write_text(COMMENTED.replace("name: ranking", "name: idea"))
    chosen, tried = made(project, str(file), "learner.params.alpha=9")
    assert tried.record.name.startswith("idea~") and n_counted(project, "idea") == 1
    assert "The project has no strategy idea" in "\n".join(try_lines(project.pipeline, chosen, tried))
    [*accept_lines(project.pipeline, tried.record.name)]
    project.reload()
    assert project.pipeline.strategy("idea").learner.choice.params["alpha"] == 9


def test_old_tries_go_but_the_newest_of_each_strategy_and_what_is_left_of_killed_ones_after_a_day(trained, tmp_path):
    project = trained[0].copy(tmp_path / "project")
    for each in [*project.store.objects.keys("_tries")]:
        project.store.objects.delete(each)
    names = [made(project, "ranking", f"learner.params.alpha={alpha}")[1].record.name for alpha in (3, 4, 5)]
    _, other = made(project, "direction", "signal.params.threshold=0.41")
    project.store.objects.put("_tries/ranking/0123abcd/ranking/cv_results/2012-01-01.parquet", b"half")
    root = project.folder / "storage" / "_tries"

    def aged(name, days):
        then = time.time() - days * 86_400
        for path in (root / name.replace("~", "/")).rglob("*"):
            os.utime(path, (then, then))

    def judged(**policy):
        now = datetime.now(UTC)
        found = tries_collector.judge(Holdings(project.store, project.instance, None, Policy(**policy), now))
        return {each.name: each for each in found}

    for days, name in zip((100, 95, 80), names, strict=True):
        aged(name, days)
    aged(other.record.name, 200)
    found = judged(days=90, versions=1)
    assert {name for name, each in found.items() if each.goes} == {names[0], names[1]}
    assert "newest 1" in found[names[2]].why and "newest 1" in found[other.record.name].why
    assert all(each.size > 1_000 for name, each in found.items() if name != "ranking~0123abcd")
    assert {name for name, each in judged(days=97, versions=0).items() if each.goes} == {names[0], other.record.name}
    aged("ranking~0123abcd", 2)
    assert judged(days=90, versions=9)["ranking~0123abcd"].goes
    holdings = Holdings(project.store, project.instance, None, Policy(days=90, versions=1), datetime.now(UTC))
    counted, current = n_counted(project, "ranking"), everything_current(project)
    for each in tries_collector.judge(holdings):
        if each.goes:
            tries_collector.remove(holdings, each)
            tries_collector.remove(holdings, each)
    assert {each.name for each in list_tries(project.store)} == {names[2], other.record.name}
    assert {key.split("/")[2] for key in project.store.objects.keys("_tries/ranking")} == {names[2].partition("~")[2]}
    assert n_counted(project, "ranking") == counted and everything_current(project) == current


def test_a_try_beside_a_run_that_publishes_says_what_it_read(trained, tmp_path):
    """Between matrix and backtest a run publishes other bars: the try goes on with those it has read."""
    project, week = trained[0].copy(tmp_path / "project"), trained[1]
    bars = project.store.read("small/bars", project.weeks[9])
    read = project.store.footer("ranking/training_matrix", week).inputs["small/bars"][project.weeks[9]]
    assert bars.footer.content_hash == read
    other = bars.frame.with_columns(close=pl.col("close") * 1.01)

    def publish(line):
        if line.startswith("cv_results of"):
            project.store.publish("small/bars", project.weeks[9], Content(other, has_session_hashes=True), STAMP)

    chosen = candidate(project.pipeline, "ranking", [])
    tried = make_try(project.pipeline, chosen, [week], publish)
    assert project.store.footer("small/bars", project.weeks[9]).content_hash != read
    of_week = tried.record.weeks[week]
    # The very account of the stored strategy, which was made from the bars of before.
    assert of_week.contents["backtest"] == project.store.footer("ranking/backtest", week).content_hash
    kept = store_of_try(project.store, "ranking", tried.record.id)
    assert kept.read("ranking/backtest", week).footer.inputs["small/bars"][project.weeks[9]] == read
    text = "\n".join(try_lines(project.pipeline, chosen, tried))
    assert f"matrix {of_week.matrix[:12]} of small/bars {of_week.data['small/bars']}" in text
    assert "Out of date: cv_results of ranking: input" in text


HELD = ridge_strategy(
    "held", cross_validation={**SPLITS, "n_splits": 2, "test_sessions": 6}, holdout={"weeks": 10}, max_model_age_weeks=9
)
TUNED = ridge_strategy(
    "tuned",
    cross_validation=SPLITS,
    tuning={
        "trials": 2,
        "batch": 2,
        "sampler": "random",
        "space": {"learner": {"alpha": {"type": "float", "low": 0.1, "high": 9.0}}},
    },
)


def test_tries_of_a_held_out_and_of_a_tuned_strategy_have_the_bits_of_theirs(trained, tmp_path, monkeypatch):
    project = trained[0].copy(tmp_path / "project")
    project.rewrite(strategies=[HELD, TUNED])
    week = project.weeks[10]
    project.make([f"held/{each}" for each in STAGES], week)
    project.make([f"tuned/{each}" for each in ("training_matrix", "tuning", *STAGES[1:])], week)
    for strategy in ("held", "tuned"):
        _, tried = made(project, strategy)
        assert tried.record.weeks[week].contents == {
            stage: project.store.footer(f"{strategy}/{stage}", week).content_hash for stage in STAGES[1:]
        }
    # A study of other settings is none of this configuration.
    with pytest.raises(
        ValueError, match="`tuning` must have a stored study of week .*there is one of other settings; .*tuning=null"
    ):
        made(project, "tuned", "learner.seed=3")
    _, plain = made(project, "tuned", "tuning=null")
    monkeypatch.setenv("HF_ANSWER_TRIALS", "1")
    assert made(project, "tuned", "tuning=null")[1].record.id == plain.record.id
