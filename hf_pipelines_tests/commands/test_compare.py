"""`hfp compare`: which stored results are meant by its words, what of them may not be compared, and what is out of date."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hf_pipelines.commands.cli import main
from hf_pipelines.commands.compare import Named, _require_one_calendar, compare_runs, write_picture
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.resources.footer import Footer, Stamp, Verdict
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines_tests.conftest import FIRST_SESSION
from hf_pipelines_tests.pipeline import Project, files_market, ridge_strategy, session_bars, sessions_from
from hf_pipelines_tests.research.test_comparison import account, outcomes, predicted

pytestmark = pytest.mark.pipeline

WEEK, NEXT_WEEK = "2012-04-01", "2012-04-08"
STAMP = Stamp("code-1", "run-1", "2012-04-01T07:00:00+00:00")
STRATEGIES = ("one", "two", "three")


def publish(pipeline: Pipeline, strategy: str, week: str, *, skill: float, seed: int, earns: int | None) -> Footer:
    """Results of a week, and what an account of them earned by a seed; no account if it is None."""
    frame = predicted(outcomes(3, 100), skill=skill, seed=seed)
    asset = f"{strategy}/cv_results"
    footer = pipeline.store.publish(asset, week, Content(frame, facts={"label_sessions": 2}), STAMP).footer
    if earns is not None:
        made_from = {asset: {week: footer.content_hash}}
        equity = account(np.random.default_rng(earns).normal(0.0, 0.01, 99))
        pipeline.store.publish(f"{strategy}/backtest", week, Content(equity, inputs=made_from), STAMP)
    return footer


@pytest.fixture
def pipeline(tmp_path) -> Pipeline:
    market = files_market(
        tmp_path / "source",
        session_bars(sessions_from(FIRST_SESSION, 8), symbols=2, seed=5),
        features=["temporal/day_of_week"],
    )
    project = Project(
        tmp_path / "project", market, [ridge_strategy(name, features=["temporal"]) for name in STRATEGIES]
    )
    pipeline = Pipeline(project.definitions, project.instance, project.store)
    publish(pipeline, "one", WEEK, skill=0.5, seed=11, earns=1)
    publish(pipeline, "two", WEEK, skill=0.1, seed=12, earns=2)
    publish(pipeline, "three", WEEK, skill=0.1, seed=13, earns=None)
    publish(pipeline, "one", NEXT_WEEK, skill=0.1, seed=14, earns=3)
    return pipeline


def lines(pipeline: Pipeline, *words: str, week: str | None = None) -> list[str]:
    return list(compare_runs(pipeline, words, week).lines())


def test_strategies_weeks_and_contents_are_compared(pipeline):
    """Of the latest week that both have; of two weeks of one strategy; of a content before another learner."""
    told = lines(pipeline, "one", "two")
    assert told[0].startswith("one is better than two in mse by 0.00")
    assert "one against two" in told and any(line.startswith("net_return ") for line in told)
    assert any(line.startswith("Out of date: cv_results of one: made by code and settings code-1") for line in told)
    assert lines(pipeline, "one", "two", week=WEEK) == told
    weeks = lines(pipeline, f"one@{WEEK}", f"one@{NEXT_WEEK}")
    assert weeks[0].startswith(f"one@{WEEK} is better than one@{NEXT_WEEK} in mse by 0.00")
    three = lines(pipeline, "two", "one", "three")
    assert "Accounts are not compared: three has no backtest of these predictions." in three
    assert any(line.startswith("mse: one beats two, also as the best of all others") for line in three)

    old = pipeline.store.footer("one/cv_results", WEEK).content_hash
    publish(pipeline, "one", WEEK, skill=0.1, seed=15, earns=4)
    earlier = lines(pipeline, f"one@{WEEK}:{old[:12]}", f"one@{WEEK}")
    assert earlier[0].startswith(f"one@{WEEK}:{old[:8]} is better than one@{WEEK} in mse by 0.00")
    # Each with the account of its own predictions: the means of 99 returns.
    means = [f"{np.random.default_rng(seed).normal(0.0, 0.01, 99).mean():.4g}" for seed in (1, 4)]
    assert next(line for line in earlier if line.startswith("net_return ")).split()[1:3] == means


def test_strategies_that_predict_the_same_are_told_to_be_one(pipeline):
    publish(pipeline, "two", WEEK, skill=0.5, seed=11, earns=2)
    n_rows = pipeline.store.read("two/cv_results", WEEK).frame.height
    told = lines(pipeline, "one", "two", "three", week=WEEK)
    same = [line for line in told if "the very same" in line]
    assert same == [
        f"two predicts the very same as one on all {n_rows:,} rows that both have: their accounts alone can tell them apart."
    ]


def test_an_account_of_other_predictions_is_not_taken_for_theirs(pipeline):
    publish(pipeline, "one", WEEK, skill=0.1, seed=16, earns=None)
    assert "Accounts are not compared: one has no backtest of these predictions." in lines(pipeline, "one", "two")


def test_programs_get_all_of_it_and_a_picture_is_a_png_file(pipeline, tmp_path):
    found = compare_runs(pipeline, ["one", "two"], None)
    told = json.loads(json.dumps(found.to_json()))
    assert told["runs"] == ["one", "two"] and {row["score"] for row in told["scores"]} >= {"mse", "sharpe_ratio"}
    assert told["equity"]["one"]["equity"][0] == 1.0 and told["agreement"][0]["n_rows"] > 0
    # These results were published without a trial.
    assert "The ledger does not hold the settings of one, two." in [*found.lines()]
    for name in ("runs.pdf", "gone/runs.png", "."):
        with pytest.raises(ValueError, match="`picture` must be a file NAME.png"):
            write_picture(found, tmp_path / name)


@pytest.mark.parametrize(
    ("words", "week", "message"),
    [
        (("one",) * 11, None, "`strategy` must be given 10 at most, were 11"),
        (("one", "one~abcd"), None, "`try` must be one of the strategy's \\(there is none\\), was 'one~abcd'"),
        (("one", "one~../x"), None, "`try` must be named STRATEGY~ID"),
        (("one",), None, "`strategy` must be given two or more that differ, were one; weeks of one strategy are"),
        (("one", "two", "one"), None, "`strategy` must be given two or more that differ, were one, two, one"),
        (("one", "four"), None, "`strategy` must be one of one, three, two, was 'four'"),
        (("one", "two"), NEXT_WEEK, f"`partition` must be a stored one of two/cv_results .*, was '{NEXT_WEEK}'"),
        (("one", "two"), "soon", "must be a date YYYY-MM-DD, was 'soon'"),
        (("one", f"two@{WEEK}:abcd"), None, f"`hash` must begin exactly one content of two/cv_results {WEEK}"),
        (("one", "two@now"), None, "`strategy` must be STRATEGY, STRATEGY@SUNDAY or STRATEGY@SUNDAY:HASH .*was 'two"),
    ],
    ids=["many", "no_try", "hostile", "alone", "twice", "unknown", "week", "no_week", "hash", "words"],
)
def test_what_is_not_there_is_refused(pipeline, words, week, message):
    with pytest.raises(ValueError, match=message):
        lines(pipeline, *words, week=week)


def test_strategies_without_a_week_in_common_are_refused(pipeline):
    pipeline.store.objects.delete(f"one/cv_results/{WEEK}.parquet")
    with pytest.raises(
        ValueError,
        match=f"none \\(one {NEXT_WEEK}; two {WEEK}\\); make one of them for the others, hfp retrain STRATEGY --week SUNDAY, or name",
    ):
        lines(pipeline, "one", "two")
    pipeline.store.objects.delete(f"two/cv_results/{WEEK}.parquet")
    with pytest.raises(ValueError, match="must have results of a week, two has none; hfp retrain two --week SUNDAY"):
        lines(pipeline, "one", "two")


def test_results_that_a_guard_has_condemned_are_refused(pipeline):
    footer = pipeline.store.footer("two/cv_results", WEEK)
    pipeline.store.condemn("two/cv_results", WEEK, "out_of_fold", Verdict(False, footer.content_hash, 1, ("leak",)))
    with pytest.raises(ValueError, match="must have sound results, two has failed out_of_fold; hfp retrain two --week"):
        lines(pipeline, "one", "two")


def test_markets_of_other_calendars_are_refused(pipeline):
    one, two, *_ = pipeline.strategies()
    _require_one_calendar([one, two])
    market = replace(two.market, partitions=replace(two.market.partitions, calendar_name="24/7"))
    with pytest.raises(ValueError, match="must be of markets of one calendar, were of XNYS .one., 24/7 .* one market"):
        _require_one_calendar([one, replace(two, market=market)])


def test_words_of_the_command_line(capsys):
    assert Named.parse("tech") == Named("tech", "", "")
    assert Named.parse("tech@2012-04-01:beef01") == Named("tech", "2012-04-01", "beef01")
    assert main(["compare", "--help"]) == 0
    assert "earlier content of a week" in " ".join(capsys.readouterr().out.split())
