"""Contracts: what the pages and JSON Schemas say of stored files is what the files of a run hold."""

import io
import json
from pathlib import Path

import polars as pl
import pytest
from jsonschema import Draft202012Validator

from hf_pipelines.commands.contracts import LEDGER, SCHEMAS, TABLES, contract_pages, schema_of
from hf_pipelines.research.account_summary import values_of
from hf_pipelines.research.bars import SOURCE_SCHEMA
from hf_pipelines.research.signals import ISSUE_COLUMNS, Reason, upgrade_issue
from hf_pipelines_tests.pipeline import Project, ridge_strategy

WEEK, DAY, AFTER = "2012-04-01", "2012-04-04", "2012-04-08"
STRATEGY = ridge_strategy(
    "classes",
    target={"type": "direction", "horizon_bars": 2, "params": {"upper": 0.004, "lower": -0.004}},
    cross_validation={"type": "combinatorial_purged", "n_folds": 4, "n_test_folds": 2, "min_train_sessions": 5},
    learner={"type": "logistic"},
    signal={"type": "probability_threshold", "params": {"threshold": 0.4, "long_short": True}},
)
STAGES = ("training_matrix", "cv_results", "fitted_model", "backtest")


@pytest.fixture(scope="module")
def run(small_project: Project, tmp_path_factory) -> Project:
    """A strategy of classes, tested on several paths, with an issue and a track record."""
    project = small_project.copy(tmp_path_factory.mktemp("contracts") / "project")
    project.rewrite(project.market, [STRATEGY])
    project.retrain("classes", WEEK)
    project.make(["classes/signals", "classes/drift"], DAY)
    project.make("classes/track_record", AFTER)
    return project


# Asset of each table.
STORED = {
    "bars": "small/bars",
    "features": "small/features/quick",
    **{each: f"classes/{each}" for each in (*STAGES, "signals", "track_record", "drift")},
}


def test_every_stored_table_holds_the_columns_of_its_contract(run):
    for name, asset in STORED.items():
        table, seen = TABLES[name], set()
        for key in run.store.partitions(asset):
            frame = run.store.read(asset, key).frame
            seen |= set(frame.columns)
            for column, kind in frame.schema.items():
                known = table.columns[column].type if column in table.columns else table.others
                assert known == kind, f"{asset}.{column} is {kind}, the contract says {known}"
            order = [each for each in frame.columns if each in table.columns]
            assert order == [each for each in table.columns if each in order]
            by = [each for each in table.sorted_by if each in frame.columns]
            assert frame.equals(frame.sort(by, maintain_order=True)), f"{asset} {key} is not sorted by {by}"
        lacking = {column for column, each in table.columns.items() if not each.is_optional} - seen
        assert not lacking, name


def test_the_attached_summary_holds_the_columns_of_its_contract_for_each_path(run):
    footer = run.store.footer("classes/backtest", WEEK)
    frame = pl.read_parquet(io.BytesIO(run.store.read_attachment(footer, "summary.parquet")))
    assert dict(frame.schema) == {name: each.type for name, each in TABLES["summary"].columns.items()}
    assert {str(path) for path in frame["path"].unique()} == {*footer.facts["paths"]}
    shown = [values_of(each) for each in frame.partition_by("path")]
    assert footer.facts["metrics"] in shown and footer.facts["sessions_per_year"] == 252


def test_every_footer_card_and_latest_follows_its_schema(run):
    footer, card = Draft202012Validator(schema_of("footer")), Draft202012Validator(schema_of("model_card"))
    kinds = set()
    for asset in STORED.values():
        for key in run.store.partitions(asset):
            stored = run.store.footer(asset, key)
            values = json.loads(stored.to_json())
            footer.validate(values)
            assert set(values) == set(footer.schema["properties"])
            kinds.add(stored.kind)
            if stored.kind == "fitted_model":
                card.validate(values["facts"])
                assert set(values["facts"]) <= set(card.schema["properties"])
    assert kinds == {"bars", "features", *STAGES, "signals", "track_record", "drift"}
    latest = json.loads(run.store.objects.get("classes/signals/latest.json"))
    schema = schema_of("signals_latest")
    Draft202012Validator(schema).validate(latest)
    assert set(latest) == set(schema["properties"])
    assert not Draft202012Validator(schema).is_valid({**latest, "sha256": latest["sha256"][:12]})


def test_rows_of_signals_of_every_version_follow_their_schema(run):
    schema = schema_of("signals")
    assert [*schema["properties"]] == [*TABLES["signals"].columns] == [*ISSUE_COLUMNS]
    assert {name: each.type for name, each in TABLES["signals"].columns.items()} == ISSUE_COLUMNS
    assert schema["properties"]["reason"]["enum"] == ["", *Reason, None]
    checked = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    issue = run.store.read("classes/signals", DAY).frame
    older = pl.read_parquet(Path(__file__).parents[1] / "components/issues_v2/ranking.parquet")
    for frame in (issue, upgrade_issue(older), upgrade_issue(older.drop("reason"))):
        rows = json.loads(
            frame.fill_nan(None).with_columns(pl.selectors.datetime().dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_json()
        )
        assert len(rows) == 4
        for row in rows:
            checked.validate(row)
    row = {**rows[0], "weight": 0.0, "reason": "no bar"}
    assert checked.is_valid(row)
    wrong = ({"reason": ""}, {"reason": "unknown: p"}, {"weight": 0.5}, {"rollout_share": 1.5}, {"rule_version": "1"})
    assert not any(checked.is_valid({**row, **each}) for each in wrong)


def test_every_field_of_the_ledger_is_described(run):
    records = [json.loads(run.store.objects.get(key)) for key in run.store.objects.keys("_trials/records")]
    assert {each["event"] for each in records} == {"begun", "ended"}
    assert {name for each in records for name in each} <= set(LEDGER)


def test_there_is_a_page_for_each_and_every_column_has_a_meaning():
    pages = dict(contract_pages())
    assert len(pages) == len(TABLES) + len(SCHEMAS) + 2
    for name, table in TABLES.items():
        text = pages[name.replace("_", "-")]
        for column, each in table.columns.items():
            assert each.meaning and f"| `{column}` |" in text
    assert all(f"| `{name}` |" in pages["files"] for name in SOURCE_SCHEMA)
    assert dict(contract_pages()) == pages


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_shipped_schema_is_one_and_describes_each_field(name):
    schema = schema_of(name)
    Draft202012Validator.check_schema(schema)
    assert all(each.get("description") for each in schema["properties"].values())
    assert set(schema["required"]) <= set(schema["properties"])


def test_a_schema_that_is_not_there_names_those_that_are():
    with pytest.raises(
        ValueError,
        match="`name` must be one of drift_event, footer, model_card, payload, promotion, signals, signals_latest, was 'bars'.",
    ):
        schema_of("bars")
