"""Trial records: every way of making a trial leaves a record, and nothing else does."""

import getpass
import inspect
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import yaml

from hf_pipelines.components import Market, Strategy
from hf_pipelines.components.automation import retraining
from hf_pipelines.components.code_version import CodeVersion
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.components.strategy_stages import RETRAINED, trials_check
from hf_pipelines.components.strategy_stages.trial_records import recording_cross_validation
from hf_pipelines.research.cross_validation import cross_validate
from hf_pipelines.research.metrics import returns_of
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.trial_ledger import TrialLedger, actor_of, n_trials
from hf_pipelines.resources.trial_ledger.heads import LEDGER_HEAD, TRIAL, kept_heads, verify_ledger
from hf_pipelines.resources.trial_ledger.records import RECORDS
from hf_pipelines.resources.trial_ledger.returns import read_returns
from hf_pipelines.resources.trial_ledger.trials import ancestors_of, select
from hf_pipelines_tests.pipeline import Project, ridge_strategy
from hf_pipelines_tests.resources.trial_ledger.trying import new_process

WEEK, NEXT = "2012-04-01", "2012-04-08"
CV, MATRIX, BACKTEST = "ranking/cv_results", "ranking/training_matrix", "ranking/backtest"


@pytest.fixture(scope="module")
def matrices(small_project: Project, tmp_path_factory) -> Project:
    """The small project with the matrices of two weeks."""
    project = small_project.copy(tmp_path_factory.mktemp("matrices") / "project")
    project.make(MATRIX, WEEK, NEXT)
    return project


@pytest.fixture
def project(matrices: Project, tmp_path: Path, monkeypatch) -> Iterator[Project]:
    monkeypatch.setenv("HF_ACTOR", "ada")
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path / "data"))
    new_process()
    yield matrices.copy(tmp_path / "project")
    new_process()


def known(project: Project) -> pl.DataFrame:
    return TrialLedger(project.store.objects, "reader").known()


@pytest.mark.pictures
def test_week_of_a_strategy_is_one_trial_with_its_account(project):
    run = project.make([CV, "ranking/fitted_model", BACKTEST], WEEK)
    (trial,) = known(project).to_dicts()
    assert {name: trial[name] for name in ("strategy", "week", "market", "actor", "kind", "source", "outcome", "n_begun")} == {
        "strategy": "ranking", "week": WEEK, "market": "small", "actor": "ada", "kind": "selection",
        "source": "cross_validation", "outcome": "completed", "n_begun": 1,
    }  # fmt: skip
    assert trial["code_version"] == project.code_versions[CV]
    equity = project.store.read(BACKTEST, WEEK).frame
    daily = equity.group_by("session", maintain_order=True).agg(pl.col("equity").last())
    days, returns = read_returns(project.store.objects, trial["returns"])
    assert returns.tolist() == returns_of(daily["equity"].to_numpy()).tolist()
    assert days.tolist() == daily["session"].to_physical()[1:].to_list()
    assert trial["estimate"]["sharpe"] == pytest.approx(returns.mean() / returns.std(ddof=1))
    # Heads in the footers and in Dagster's own storage, of this very chain.
    footer = project.store.footer(CV, WEEK)
    assert footer.facts[TRIAL] == trial["trial"] == run.materialised[BACKTEST][WEEK][TRIAL]
    # The page shows digests in groups.
    assert run.materialised[CV][WEEK][LEDGER_HEAD].replace(" ", "") == footer.facts[LEDGER_HEAD].replace(" ", "")
    told = {
        each.noted_in.split(" ")[0] + each.noted_in.split(" ")[1]
        for each in kept_heads(project.store, project.instance)
    }
    assert told == {"thefooter", "thematerialisation", "thismachine"}
    assert verify_ledger(project.store, project.instance)[0] == []
    # The check sees the account of the same run, beside the one trial that there is: nothing is deflated.
    check = run.checks[CV, "trials"]
    shown = {name: each.value for name, each in check.metadata.items()}
    assert check.passed and (shown["trials"], shown["independent_trials"]) == (1, 1)
    assert shown["sharpe_ratio"] == pytest.approx(trial["estimate"]["sharpe"] * 252**0.5)
    assert shown["expected_maximum_of_noise"] == 0.0
    assert shown["deflated_sharpe_ratio"] == shown["probabilistic_sharpe_ratio"]
    assert shown["best_of_trials"].startswith("![picture]") and "after 1 trial, 1 of them" in check.description
    # A parent whose name is mistyped passes on nothing: the count would be too small, and nobody would know.
    plan = project.pipeline.strategy("ranking")
    for parent, is_known in (("ranking", True), ("rankin", False)):
        found = trials_check._judge(replace(plan, descends_from=(parent,)), project.store, {WEEK})
        assert found.passed == is_known and ("was rankin, of which it has none" in found.description) != is_known
    project.store.objects.put(f"{RECORDS}/{'a' * 16}/00000000", b"no record")
    check = project.make(CV, WEEK).checks[CV, "trials"]
    assert not check.passed and "no JSON that begins" in check.metadata["damaged"].value
    # A ledger that was emptied: nothing counts, and the check says why.
    project.store.objects.delete_each(project.store.objects.keys(RECORDS))
    found = trials_check._judge(project.pipeline.strategy("ranking"), project.store, {WEEK})
    assert not found.passed and "0 trial(s) so far" in found.description
    assert "is a chain without" in found.metadata["damaged"].value


def test_actor_is_who_asked_for_the_run(monkeypatch):
    assert actor_of({"dagster/sensor_name": "follow"}) == "sensor"
    monkeypatch.setenv("HF_ACTOR", "ada")
    assert actor_of({}) == "ada"
    monkeypatch.delenv("HF_ACTOR")
    assert actor_of({}) == getpass.getuser()


def test_tail_that_was_dropped_shows_by_the_footer_alone(project, tmp_path):
    project.make(CV, WEEK, tags={"dagster/schedule_name": "ranking_weekly_retrain"})
    assert known(project)["actor"].to_list() == ["schedule"]
    new_process()
    # Neither this machine's head nor Dagster's is left.
    for path in sorted((tmp_path / "data").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    objects = project.store.objects
    objects.delete_each(objects.keys(RECORDS)[-1:])
    (fault,) = verify_ledger(project.store)[0]
    assert fault.n == 1 and f"the footer of {CV} {WEEK} has noted record 1" in fault.what


def test_refit_and_retry_count_once_and_what_is_changed_counts(project):
    project.make(CV, WEEK)
    project.make(CV, WEEK)
    project.make(CV, NEXT)
    found = known(project)
    assert found.select("week", "kind", "n_begun").rows() == [(WEEK, "selection", 2), (NEXT, "diagnostic", 1)]
    assert n_trials(found) == 1
    # The rule alone is changed: cv_results stay, the account is another.
    project.make(BACKTEST, WEEK)
    project.rewrite(
        strategies=[ridge_strategy(signal={"type": "rank_long_short", "params": {"n_long": 2, "n_short": 2}})]
    )
    project.make(BACKTEST, WEEK)
    project.rewrite(strategies=[ridge_strategy(learner={"type": "ridge", "seed": 5})])
    project.make(CV, WEEK)
    found = known(project)
    assert found["source"].to_list() == ["cross_validation", "cross_validation", "backtest", "cross_validation"]
    assert n_trials(found) == 3
    assert found["seed"].unique().to_list() != [found["seed"][0]]


def test_curves_are_diagnostic_until_one_of_their_values_is_taken(project):
    asked = {
        "permutations": 19,
        "learning_curve": [0.5],
        "validation_curve": {"parameter": "alpha", "values": [0.1, 1000.0]},
    }
    project.rewrite(strategies=[ridge_strategy(diagnostics=asked)])
    project.make(CV, WEEK)
    found = known(project)
    assert sorted(found.filter(kind="diagnostic")["source"]) == [
        "learning_curve", "permuted_labels", "validation_curve", "validation_curve",
    ]  # fmt: skip
    parent = found.filter(kind="selection")["trial"].item()
    assert found.filter(kind="diagnostic")["parent"].unique().to_list() == [parent]
    assert found["outcome"].unique().to_list() == ["completed"] and n_trials(found) == 1
    ends = [
        each.fields
        for each in TrialLedger(project.store.objects, "").contents().records
        if each.fields["event"] == "ended"
    ]
    assert all("information_coefficient" in each["scores"] for each in ends)
    project.rewrite(strategies=[ridge_strategy(learner={"type": "ridge", "params": {"alpha": 1000.0}})])
    project.make(CV, WEEK)
    assert n_trials(known(project)) == 3


def test_what_was_tried_is_answered_and_not_fitted_again(project, monkeypatch):
    monkeypatch.setenv("HF_ANSWER_TRIALS", "1")
    first = project.make(CV, WEEK).materialised[CV][WEEK]
    before, records = project.store.footer(CV, WEEK), project.store.objects.keys(RECORDS)
    again = project.make(CV, WEEK).materialised[CV][WEEK]
    assert "answered_by" not in first and again["answered_by"].startswith(f"trial {first[TRIAL]}, made ")
    # Nothing was evaluated: there is no new record, and what is shown of the scores is the same.
    assert project.store.objects.keys(RECORDS) == records and project.store.footer(CV, WEEK) == before
    assert {name: again[name] for name in ("verdict", "score_intervals", "folds", "rmse")} == {
        name: first[name] for name in ("verdict", "score_intervals", "folds", "rmse")
    }
    # What is damaged is fitted again, and so is what is wanted again.
    path = Path(project.store.objects.address(project.store.key(CV, WEEK)))
    path.write_bytes(path.read_bytes()[:-20])
    assert "answered_by" not in project.make(CV, WEEK).materialised[CV][WEEK]
    assert project.store.footer(CV, WEEK).content_hash == before.content_hash
    monkeypatch.setenv("HF_ANSWER_TRIALS", "0")
    assert "answered_by" not in project.make(CV, WEEK).materialised[CV][WEEK]
    assert known(project)["n_begun"].to_list() == [3] and n_trials(known(project)) == 1


def test_copied_strategy_shows_what_it_inherits(project):
    project.make(CV, WEEK)
    project.rewrite(strategies=[ridge_strategy(), ridge_strategy("renamed", descends_from=["gone"])])
    project.make(["renamed/training_matrix", "renamed/cv_results"], WEEK)
    found = known(project)
    assert ancestors_of("renamed", found) == ["gone", "ranking"] and ancestors_of("ranking", found) == []
    assert n_trials(select(found, strategy="renamed")) == 1


def test_trial_whose_fit_fails_is_recorded_as_failed(project):
    def failing(run, inputs, key):
        raise ValueError("`n_splits` must be smaller.")

    tree = project.definitions.component_tree
    (strategy,), (market,) = (tree.get_all_components(of_type=each) for each in (Strategy, Market))
    plan = strategy.plan(market.plan)
    ledger = TrialLedger(project.store.objects, "ada")
    run = StageRun((WEEK,), datetime.now(UTC), logging.getLogger(), trials=ledger)
    inputs = {"training_matrix": Loaded(MATRIX, {WEEK: project.store.read(MATRIX, WEEK)}, project.store)}
    with pytest.raises(ValueError, match="`n_splits`"):
        recording_cross_validation(plan, failing)(run, inputs, WEEK)
    (trial,) = ledger.known().to_dicts()
    assert trial["outcome"] == "failed" and n_trials(ledger.known()) == 1
    assert ledger.contents().records[-1].fields["error"] == "ValueError: `n_splits` must be smaller."


def test_without_a_ledger_that_can_be_written_nothing_is_published(project):
    # A file lies where the ledger's folder belongs.
    (project.folder / "storage" / "_trials").write_text("")
    run = project.run(CV, WEEK)
    assert not run.success and "`_trials/records/" in run.message and "must be written" in run.message
    assert project.store.partitions(CV) == []


def test_results_of_before_the_ledger_are_taken_in_once(project):
    project.make(CV, WEEK, NEXT)
    project.make(BACKTEST, WEEK)
    objects = project.store.objects
    objects.delete_each(objects.keys("_trials"))
    new_process()
    for key in (WEEK, NEXT):
        stored = project.store.read(CV, key)
        facts = {name: each for name, each in stored.footer.facts.items() if name not in (TRIAL, LEDGER_HEAD)}
        rewrite_facts(project, stored, facts)
    project.make(CV, NEXT)
    found = known(project)
    assert found.select("week", "source", "n_begun").rows() == [(WEEK, "imported", 1), (NEXT, "imported", 2)]
    # The same code made them of the same configuration: they are refits of one trial.
    assert n_trials(found) == 1 and found["kind"].to_list() == ["selection", "diagnostic"]
    # With the returns of the account that was stored.
    assert found["returns"].is_not_null().to_list() == [True, False]
    project.make(CV, WEEK)
    assert known(project).height == 2


def rewrite_facts(project: Project, stored, facts) -> None:
    from dataclasses import replace

    key = project.store.key(stored.footer.asset, stored.footer.partition)
    project.store._put(key, stored.frame, replace(stored.footer, facts=facts))


def stages_that_fit(project: Project) -> set[str]:
    """Assets whose code fits the folds of a cross-validation."""
    graph = project.definitions.resolve_asset_graph()
    found = set()
    for key in graph.materializable_asset_keys:
        version = graph.get(key).code_version
        assert isinstance(version, CodeVersion)
        if cross_validate.__code__ in version.codes:
            found.add("/".join(key.path))
    return found


def test_every_stage_that_evaluates_a_configuration_records_it(small_project):
    # Whoever adds a stage that cross-validates finds it here, and has it record its trials.
    # Controls are fits of twins, which evaluate nothing.
    assert stages_that_fit(small_project) == {CV, "ranking/validation", "ranking/full_validation"}


def test_every_command_schedule_and_sensor_that_trains_goes_through_the_recording_stage(small_project):
    definitions = small_project.definitions
    trained = {f"ranking/{stage}" for stage in RETRAINED}
    jobs = {each.name: each for each in definitions.resolve_all_job_defs()}
    selected = {
        name: {"/".join(key.path) for key in job.asset_layer.selected_asset_keys}
        for name, job in jobs.items()
        if not name.startswith("__")
    }
    training_jobs = {name for name, assets in selected.items() if assets & trained}
    assert training_jobs == {"ranking_retrain"}
    repository = definitions.get_repository_def()
    targets = {each.name: each.job_name for each in repository.schedule_defs}
    assert {name for name, job in targets.items() if job in training_jobs} == {"ranking_weekly_retrain"}
    # No other module of the project calls what fits folds: all of these run the asset.
    root = Path(inspect.getfile(retraining)).parents[2]

    def callers(call: str) -> set[str]:
        paths = [path for path in root.rglob("*.py") if "research" not in path.parts]
        return {str(path.relative_to(root)) for path in paths if call in path.read_text()}

    stages = ("cv_results", "full_validation")
    assert callers("cross_validate(") == {f"components/strategy_stages/{each}.py" for each in stages}
    assert callers("run_study(") == {"components/strategy_stages/tuning.py"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["Bad Name"], "`descends_from` must name strategies .*, was 'Bad Name'"),
        (["ranking"], "`descends_from` must name other strategies, was the strategy itself"),
    ],
    ids=["no name", "itself"],
)
def test_descent_from_what_is_no_other_strategy_is_refused(names, said):
    with pytest.raises(ValueError, match=said):
        Strategy.resolve_from_yaml(yaml.safe_dump(ridge_strategy(descends_from=names)))
