"""Contracts: what is stored and what arrives, column by column, for programs that read or write the same files.

Lives here: the columns of each table in words, the JSON Schemas of the package, and pages of the docs made of both. Does not live
here: the schemas that the pipeline checks (`research.bars`, `research.references`): columns of those are taken from there.
"""

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import polars as pl

from hf_pipelines.commands.contract_tables import COUNT, DAY, DRIFT, NUMBER, TEXT, TIME, Column, Table
from hf_pipelines.commands.reference import page, table_of
from hf_pipelines.components.market_stages.bars import COLUMN_DESCRIPTIONS as BARS_WORDS
from hf_pipelines.components.market_stages.reference import COLUMN_DESCRIPTIONS as REFERENCE_WORDS
from hf_pipelines.research.account_summary import ACCOUNT_METRICS
from hf_pipelines.research.bars import BARS_SCHEMA, SOURCE_SCHEMA
from hf_pipelines.research.metrics import ANNUAL_SESSIONS
from hf_pipelines.research.references import REFERENCES
from hf_pipelines.research.signals import REASONS, SIGNALS_SCHEMA_VERSION
from hf_pipelines.resources.trial_ledger.records import MOST_RECORD_BYTES

# Names of the JSON Schemas that are shipped, `hf_pipelines/schemas/<name>.json`.
SCHEMAS = ("drift_event", "footer", "model_card", "payload", "promotion", "signals", "signals_latest")


def _figure_in_words(column: str, signed: tuple[str, ...]) -> str:
    """A column of a reference table that has no words of its own."""
    words = column.replace("_", " ")
    return f"{words}; may be negative" if column in signed else words


_KEYS = {
    "symbol": Column(type=TEXT, meaning="member of the universe"),
    "session": Column(type=DAY, meaning="trading day of the market's calendar"),
    "ts": Column(type=TIME, meaning="close of the bar; what the row says could be known from then on"),
}
_PREDICTED = {
    "prediction": Column(
        type=NUMBER, meaning="predicted `target`; of classes the expected code; NaN: none could be made"
    ),
    "confidence": Column(
        type=NUMBER, meaning="probability of the likeliest class; NaN for a regression and without a prediction"
    ),
}
_ACCOUNT = {
    "session": Column(type=DAY, meaning="trading day"),
    "ts": Column(type=TIME, meaning="close of the bar"),
    "equity": Column(type=NUMBER, meaning="cash and positions at the close, quote currency"),
    "cash": Column(type=NUMBER, meaning="quote currency; negative if borrowed"),
    "gross_exposure": Column(type=NUMBER, meaning="absolute value of the positions, fraction of equity"),
    "net_exposure": Column(type=NUMBER, meaning="long less short value, fraction of equity"),
    "turnover": Column(type=NUMBER, meaning="traded value in the bar, fraction of equity"),
    "fees": Column(type=NUMBER, meaning="commissions paid in the bar, quote currency"),
    "slippage": Column(type=NUMBER, meaning="slippage paid in the bar, quote currency"),
    "borrow": Column(type=NUMBER, meaning="fee on borrowed shares, quote currency"),
    "dividends": Column(type=NUMBER, meaning="received less paid on short positions, quote currency"),
    "drawdown": Column(type=NUMBER, meaning="loss from the highest equity so far; 0.2 is 20 % below it"),
}

TABLES: dict[str, Table] = {
    "bars": Table(
        path="<market>/bars/<Sunday>.parquet",
        about="One bar of one symbol, raw as traded, with the events that are effective on its session. All other prices are made of these.",
        sorted_by=("symbol", "ts"),
        columns={name: Column(type=kind, meaning=BARS_WORDS[name]) for name, kind in BARS_SCHEMA.items()},
    ),
    "features": Table(
        path="<market>/features/<group>/<Sunday>.parquet",
        about="One column a feature, NaN where it is unknown, never infinite. A value reads the symbol's last bars alone, so a week has "
        "the same content computed alone or in a range.",
        sorted_by=("symbol", "ts"),
        columns=_KEYS,
        others=pl.Float32(),
    ),
    "training_matrix": Table(
        path="<strategy>/training_matrix/<Sunday>.parquet",
        about="The rows that the models of the week are trained on: features at a decision, and the label that was known before the week.",
        sorted_by=("ts", "symbol"),
        columns={
            **_KEYS,
            "label_start": Column(type=TIME, meaning="close of the first bar that the label depends on"),
            "label_end": Column(type=TIME, meaning="close of the last bar that the label depends on, before the week"),
            "horizon": Column(type=COUNT, meaning="bars that the label looks ahead", is_optional=True),
            "target": Column(type=NUMBER, meaning="what the label stands for, such as a return as a fraction"),
            "y": Column(type=NUMBER, meaning="what the learner fits: the target, or the code of a class, 0 first"),
            "weight": Column(type=NUMBER, meaning="weight of the row in the fit; 1 without a weighting"),
        },
        others=pl.Float32(),
    ),
    "cv_results": Table(
        path="<strategy>/cv_results/<Sunday>.parquet",
        about="Out-of-fold predictions: each by a model that had not seen the row. Scores are attached (`scores.parquet`, "
        "`fold_metrics.parquet`).",
        sorted_by=("fold", "ts", "symbol"),
        columns={
            **_KEYS,
            "horizon": Column(type=COUNT, meaning="bars that the label looks ahead", is_optional=True),
            "fold": Column(type=COUNT, meaning="number of the fold that tested the row, from 0"),
            "path": Column(
                type=COUNT, meaning="path through the data, where a row is tested more than once", is_optional=True
            ),
            "trained_until": Column(type=TIME, meaning="end of the last label that the fold's model was trained on"),
            **_PREDICTED,
            "y": Column(type=NUMBER, meaning="the label, as in the training matrix"),
            "target": Column(type=NUMBER, meaning="what the label stands for"),
        },
        others=NUMBER,
    ),
    "fitted_model": Table(
        path="<strategy>/fitted_model/<Sunday>.parquet",
        about="One row, the card of the model that serves the week. Its artifact is attached in the library's own format; the rest of the "
        "card is in the footer's facts (`model_card.json`).",
        sorted_by=("strategy",),
        columns={
            "strategy": Column(type=TEXT, meaning="name of the strategy"),
            "week": Column(type=TEXT, meaning="Sunday of the week that it serves"),
            "learner": Column(type=TEXT, meaning="entry of LEARNERS"),
            "as_of": Column(type=TIME, meaning="what it could know: everything before this time"),
            "created_at": Column(type=TIME, meaning="when it was fitted, by the clock"),
            "trained_until": Column(type=TIME, meaning="end of its last label, before `as_of`"),
            "n_rows": Column(type=pl.Int64(), meaning="labelled rows of its training matrix"),
            "features": Column(type=TEXT, meaning="names of its features, by commas, in their order"),
            "classes": Column(
                type=TEXT, meaning="names of its classes, by commas, code 0 first; empty for a regression"
            ),
        },
    ),
    "backtest": Table(
        path="<strategy>/backtest/<Sunday>.parquet",
        about="The simulated account that follows the out-of-fold predictions, bar by bar. Trades, drawdowns, scores and "
        "the [summary](summary.md) are attached.",
        sorted_by=("path", "ts"),
        columns={
            "path": Column(type=COUNT, meaning="path through the data, where there are several", is_optional=True),
            **_ACCOUNT,
        },
    ),
    "summary": Table(
        path="_attached/<strategy>/backtest/<Sunday>/<sha256>.summary.parquet",
        about="All numbers of the account, attached to `backtest`: a row each, the headline first, by groups. Those that are annual are null "
        f"for fewer than {ANNUAL_SESSIONS} sessions. New ones may come; read them by `metric`.",
        sorted_by=("path",),
        columns={
            "path": Column(type=COUNT, meaning="path through the data, where there are several", is_optional=True),
            "group": Column(
                type=TEXT, meaning="headline, risk, losses, falls, bars, trades, benchmark, activity or costs"
            ),
            "metric": Column(type=TEXT, meaning="name of the number, in the table below"),
            "value": Column(type=NUMBER, meaning="null where the data leaves it undefined, never 0 in its place"),
            "low": Column(type=NUMBER, meaning="of an interval of 95 %; null where it has none"),
            "high": Column(type=NUMBER, meaning="of an interval of 95 %; null where it has none"),
            "unit": Column(type=TEXT, meaning="of the value"),
        },
    ),
    "signals": Table(
        path="<strategy>/signals/<session>.parquet",
        about="What a portfolio system may read: one row for every member on the session, written once and never changed. "
        "`<strategy>/signals/latest.json` names the newest issue.",
        sorted_by=("ts", "symbol"),
        columns={
            **_KEYS,
            "weight": Column(
                type=NUMBER, meaning="target, signed fraction of equity, to be traded from the next bar on"
            ),
            **_PREDICTED,
            "reason": Column(type=TEXT, meaning="why the weight is 0, a word of the list below; empty for a position"),
            "model_version": Column(type=TEXT, meaning="content hash of the fitted model; null where none served"),
            "model_as_of": Column(type=TIME, meaning="what the model could know; null where none served"),
            "as_of": Column(type=TIME, meaning="what the decision could know: the close of its bar"),
            "created_at": Column(type=TIME, meaning="when it was issued, by the clock"),
            "issue_kind": Column(
                type=TEXT,
                meaning="live: before the next session's open, by a model that existed at the decision; else backfill",
            ),
            "lower": Column(
                type=NUMBER, meaning="lower bound of `target`; null without intervals and without a prediction"
            ),
            "upper": Column(type=NUMBER, meaning="upper bound of `target`; null as `lower`"),
            "class_set": Column(type=TEXT, meaning="classes of an interval, by |; null without intervals of classes"),
            "reason_detail": Column(type=TEXT, meaning="the features of the reason `missing feature`; else null"),
            "calibrated_probability": Column(
                type=NUMBER,
                meaning="calibrated probability of the target's last class, up or right; null without a calibration that was fitted, "
                "and without a prediction",
            ),
            "rule_version": Column(
                type=TEXT,
                meaning="digest of the rule's code and of all its parameters, those that a study has set among them",
            ),
            "sizing_version": Column(
                type=TEXT, meaning="digest of the sizing and the limits, their code and parameters; null without them"
            ),
            "challenger_version": Column(
                type=TEXT,
                meaning="hash of the configuration of the challenger that a share of the capital follows; null where none does",
            ),
            "rollout_share": Column(
                type=NUMBER, meaning="share of the capital that follows the challenger, 0 to 1; null where none does"
            ),
        },
    ),
    "track_record": Table(
        path="<strategy>/track_record/<Sunday>.parquet",
        about="Accounts that follow the signals as they were issued; live and backfilled issues are never pooled.",
        sorted_by=("record", "ts"),
        columns={
            **_ACCOUNT,
            "record": Column(
                type=TEXT,
                meaning="live or backfill: which issues the account follows; with `_shadow` behind it what their shadow would have been, with "
                "`_beside_shadow` what was issued on the same sessions",
            ),
        },
    ),
    "drift": DRIFT,
    **{
        name: Table(
            path=f"<market>/{name}/<Sunday>.parquet",
            about=f"Point-in-time rows: `event_time` is the {table.about}. A correction is a row of its own with a later `available_at`.",
            sorted_by=("symbol", "available_at", "event_time"),
            columns={
                column: Column(type=kind, meaning=REFERENCE_WORDS.get(column) or _figure_in_words(column, table.signed))
                for column, kind in table.schema.items()
            },
        )
        for name, table in REFERENCES.items()
    },
}

# Records of the ledger of trials, by their field; not all events have all.
LEDGER: dict[str, str] = {
    "sha256": "SHA-256 of the record without this field; it stands first",
    "v": "version of the record",
    "writer": "chain of the process that wrote it",
    "n": "place in that chain, from 0",
    "prev": "SHA-256 of the record before it; 64 zeros for the first",
    "at": "when it was written, ISO 8601, UTC",
    "event": "begun or ended",
    "trial": "id of the trial; of one slot and configuration always the same",
    "process": "which process, of its machine",
    "kind": "begun: selection (counts for the deflation) or diagnostic",
    "source": "begun: what made it, such as cross_validation",
    "strategy": "begun: name of the strategy",
    "market": "begun: its market",
    "week": "begun: Sunday of the week",
    "actor": "begun: by whom: a person or an agent (`HF_ACTOR`), schedule, sensor",
    "configuration": "begun: hash of everything that may change a result",
    "settings": "begun: that configuration",
    "differs": "begun: what differs from the strategy's own settings",
    "seed": "begun: of the fits; null where nothing is drawn",
    "data": "begun: asset, partition and content hash of what it read",
    "data_hash": "begun: hash of `data`",
    "code_version": "begun: digest of the code",
    "parent": "begun: trial of which it is a part; empty for none",
    "descends_from": "begun: strategies whose trials count for it too",
    "outcome": "ended: completed, failed or pruned",
    "scores": "ended: scores by name",
    "estimate": "ended: Sharpe ratio of a period, number of periods, skew and kurtosis of its returns",
    "returns": "ended: hash of its stored series of returns",
    "error": "ended: first line of what failed",
}


def schema_of(name: str) -> dict[str, Any]:
    """A JSON Schema of the package.

    Parameters
    ----------
    name : {"drift_event", "footer", "model_card", "payload", "promotion", "signals", "signals_latest"}

    Returns
    -------
    dict
        JSON Schema, draft 2020-12.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in SCHEMAS:
        raise ValueError(f"`name` must be one of {', '.join(SCHEMAS)}, was {name!r}.")
    found: dict[str, Any] = json.loads((files("hf_pipelines") / "schemas" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def contract_pages() -> Iterator[tuple[str, str]]:
    """Name (without `.md`) and text of every page, in a fixed order."""
    yield "files", _files_page()
    for name, table in TABLES.items():
        yield name.replace("_", "-"), _table_page(name, table)
    yield "ledger", _ledger_page()
    for name, title, path in (
        ("signal", "Row of signals", "signals"),
        ("signals-latest", "signals/latest.json", "signals_latest"),
        ("footer", "Parquet footer", "footer"),
        ("model-card", "Model card", "model_card"),
        ("promotion", "Record of a promotion", "promotion"),
        ("payload", "Payload for a portfolio layer", "payload"),
        ("drift-event", "Event of drift for a portfolio layer", "drift_event"),
    ):
        yield name, _schema_page(title, path)


def _files_page() -> str:
    tables = ", ".join(f"[{name}]({name.replace('_', '-')}.md)" for name in REFERENCES)
    rows = [(f"`{name}`", _type(kind), BARS_WORDS[name]) for name, kind in SOURCE_SCHEMA.items()]
    lines = [
        "What a market with a source of type `files` reads: one file a session in its folder, `YYYY-MM-DD.parquet` or `YYYY-MM-DD.csv`, or",
        "`YYYY-MM-DD` with more words behind it. A CSV file is UTF-8 with a header and ends with a newline.",
        "",
        *table_of(("column", "type", "meaning"), rows),
        "All columns are required and others refused, by file and column. Tables beside the bars have files of the same form, with the columns of",
        f"{tables}; there the day in the name is the day on which its rows",
        "became available.",
    ]
    return page("Files a market reads", lines)


def _table_page(name: str, table: Table) -> str:
    rows = [
        (f"`{column}`", _type(each.type), "some" if each.is_optional else "all", each.meaning)
        for column, each in table.columns.items()
    ]
    lines = [
        f"`{table.path}`",
        "",
        table.about,
        "",
        f"Sorted by {', '.join(f'`{each}`' for each in table.sorted_by)}.",
        "",
        *table_of(("column", "type", "in files of", "meaning"), rows),
    ]
    if table.others is not None:
        what = (
            "a feature"
            if name in ("features", "training_matrix")
            else "`probability_<class>`, `quantile_<level>` or `horizon_<bars>`"
        )
        lines += [f"Every further column is {what}, {_type(table.others)}.", ""]
    if name == "summary":
        numbers = [(f"`{each.name}`", each.group, each.unit, each.meaning) for each in ACCOUNT_METRICS.values()]
        lines += [*table_of(("metric", "group", "unit", "meaning"), numbers)]
    if name == "signals":
        lines += [
            "`reason` is one of these and no other:",
            "",
            *table_of(("reason", "meaning"), [(f"`{word}`", meaning) for word, meaning in REASONS.items()]),
            *_VERSIONS_OF_SIGNALS,
        ]
    lines += [
        "New columns are added at the end and may be null; a reader ignores what it does not know. See also the",
        "[footer](footer.md).",
    ]
    return page(name, lines)


_VERSIONS_OF_SIGNALS = (
    f"The footer's `schema_version` is {SIGNALS_SCHEMA_VERSION}. Files of version 2 end with `issue_kind`, or with the columns of intervals, and "
    "tell reasons in words of",
    "their own; of version 1 they have no `reason`, and no row of a member without a prediction. All stay as they were issued;",
    "`upgrade_issue` of `hf_pipelines.research.signals` gives a file of any version these columns, null where its version has none.",
    "",
)


def _ledger_page() -> str:
    lines = [
        "Objects below `_trials/` of the store: records are lines of JSON, create-only, sealed into segments by 500. A record has at most",
        f"{MOST_RECORD_BYTES:,} bytes. What the ledger promises is in [its page](../concepts/ledger.md).",
        "",
        *table_of(("field", "meaning"), [(f"`{name}`", meaning) for name, meaning in LEDGER.items()]),
    ]
    return page("Ledger of trials", lines)


def _schema_page(title: str, name: str) -> str:
    schema = schema_of(name)
    required = {*schema["required"]}
    rows = [
        (f"`{field}`", "yes" if field in required else "no", each["description"])
        for field, each in schema["properties"].items()
    ]
    lines = [
        schema["description"],
        "",
        *table_of(("field", "required", "meaning"), rows),
        f"JSON Schema: `hf_pipelines/schemas/{name}.json` in the package.",
        "",
        "```python",
        "from hf_pipelines.commands.contracts import schema_of",
        "",
        f'schema_of("{name}")',
        "```",
    ]
    return page(title, lines)


def _type(kind: pl.DataType) -> str:
    words = {TEXT: "text", NUMBER: "float64", pl.Float32(): "float32", DAY: "date", COUNT: "int32", pl.Int64(): "int64"}
    return words.get(kind, "timestamp, UTC, microseconds")
