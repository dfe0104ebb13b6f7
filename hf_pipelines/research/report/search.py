"""Search: what the account is worth after all that was tried, and whether what made it can be trusted.

Lives here: paths, trials beside chance, controls, tests of the account, the other engine. Not here: the statistics (`overfitting`, `robustness`).
"""

from __future__ import annotations

import polars as pl

from hf_pipelines.research.report.blocks import (
    Axis,
    Block,
    Cell,
    Chart,
    Column,
    Missing,
    Role,
    Series,
    Table,
    Text,
    table_of,
)
from hf_pipelines.research.report.frames import drawn, extremes, line_of, thinned
from hf_pipelines.research.report.results import WeekResults
from hf_pipelines.research.robustness import judge_signs

VALIDATE = "hfp validate {strategy} {week} --full"

ROWS = {
    "test": Column("test"),
    "name": Column("what"),
    "n_sessions": Column("sessions", "count"),
    "sharpe": Column("Sharpe ratio a year", "ratio"),
    "low": Column("low", "ratio"),
    "high": Column("high", "ratio"),
    "total_return": Column("return", "fraction"),
    "max_drawdown": Column("largest drawdown", "fraction"),
}
# Of a table of tests that has other rows too, and of a figure of them.
MOST_SYMBOLS = 20

TOO_FEW = "fewer than 60 sessions have no Sharpe ratio of a year"


def trials(results: WeekResults) -> list[Block]:
    """Every trial's Sharpe ratio beside what the best of so many without skill shows."""
    found = results.trials
    if found is None:
        return [
            Missing(
                "The ledger holds no trial of this strategy with returns.", f"hfp ledger summary {results.strategy}"
            )
        ]
    scale = results.sessions_per_year**0.5
    ordered = sorted((each * scale for each in found.sharpes), reverse=True)
    expected, best = found.expected_maximum * scale, found.best * scale
    places, shown = thinned(pl.Series(range(1, len(ordered) + 1)), pl.Series(ordered))
    chart = Chart(
        name="trials",
        title="Trials, best first, beside the best that noise would show",
        about="Points: the Sharpe ratio of each trial that counts. The dotted line: what the best of so many without skill is expected to show.",
        x=Axis("place of the trial", "number"),
        y=Axis("Sharpe ratio a year", "ratio"),
        series=(Series(name="trials", x=tuple(map(float, places)), y=drawn(shown), mark="points"),),
        height=240,
        level=float(f"{expected:.6g}"),
    )
    rows = (
        ("trials that count", Cell(found.n_trials, "count", "", "ledger/n_trials")),
        ("independent trials among them", Cell(found.n_independent, "count", "", "ledger/n_independent")),
        (
            f"best Sharpe ratio a year, of a trial of week {found.best_week or 'unknown'}",
            Cell(best, "ratio", "", "ledger/best"),
        ),
        ("expected of the best of so many without skill", Cell(expected, "ratio", "", "ledger/expected_maximum")),
        (
            "probability that the best is above 0, were it the only one",
            Cell(found.probabilistic, "fraction", "", "ledger/probabilistic"),
        ),
        (
            "given the independent trials (deflated Sharpe ratio)",
            Cell(found.deflated, "fraction", "", "ledger/deflated"),
        ),
        ("given all trials", Cell(found.deflated_by_all, "fraction", "", "ledger/deflated_by_all")),
        (
            "probability of backtest overfitting (PBO)",
            Cell(
                found.overfitting,
                "fraction",
                "needs two trials on the same sessions, at least 32 of them: hfp try",
                "ledger/overfitting",
            ),
        ),
    )
    table = Table(
        name="ledger",
        title="The search",
        columns=(Column("what"), Column("value", "number")),
        rows=tuple((Cell(name), cell) for name, cell in rows),
    )
    how = "is above" if best > expected else "is not above"
    if found.n_trials == 1:
        told = f"1 trial counts; its Sharpe ratio {how} 0, what one trial without skill is expected to show."
    else:
        told = (
            f"The best of {found.n_trials:,} trials {how} what the best of so many without skill is expected to show."
        )
    # One point is no figure.
    return [Text((told,), "plain" if best > expected else "bad"), table, *([chart] if len(ordered) > 1 else [])]


def paths(results: WeekResults) -> list[Block]:
    """Accounts of the paths of combinatorial cross-validation."""
    part = results.parts["full_validation"]
    curves = part.tables.get("paths")
    facts = part.facts["found"]
    blocks: list[Block] = [Text(tuple(str(facts["paths"]["told"]).split("\n")))] if facts["paths"]["told"] else []
    if curves is not None and curves.height:
        series = []
        for (path,), curve in curves.partition_by("path", as_dict=True, maintain_order=True).items():
            role: Role = "random" if path else "own"
            series.append(line_of(f"path {path}", curve["session"], curve["equity"], role=role, most=300))
        blocks.append(
            Chart(
                name="paths",
                title="Growth of 1 on each path of combinatorial cross-validation",
                about="A line a path: each predicts every session by models that were not fitted on it.",
                x=Axis("session", "date"),
                y=Axis("growth of 1", "ratio"),
                series=tuple(series),
                height=300,
                level=1.0,
            )
        )
    rows = part.frame
    blocks.append(
        table_of(
            rows,
            ROWS,
            name="refits",
            title="Paths and neighbours of the parameters",
            reason=TOO_FEW,
            key="full_validation/frame",
            shown_rows=12,
        )
    )
    return blocks


def controls(results: WeekResults) -> list[Block]:
    """What the learner finds in labels that mean nothing, and of a signal that was planted."""
    found = results.parts["validation"].facts.get("controls")
    if found is None:
        return [
            Missing(
                "Controls of the week: not made.",
                f"hfp materialise {results.strategy}/validation --from {results.week}",
            )
        ]
    rows = tuple(
        (
            Cell(each["kind"]),
            Cell(each["correlation"], "ratio", "its predictions are constant", f"validation/controls/{at}/correlation"),
            Cell(each["p"], "number", "its predictions are constant", f"validation/controls/{at}/p"),
            Cell("found" if each["is_found"] else "not found"),
            Cell("must be found" if each["kind"] == "planted" else "must not be found"),
        )
        for at, each in enumerate(found["twins"])
    )
    columns = (
        Column("labels"),
        Column("rank correlation", "ratio"),
        Column("p", "number"),
        Column("outcome"),
        Column("rule"),
    )
    told = [f"The week is {found['verdict']}.", *found["reasons"]]
    return [
        Text(tuple(told), "good" if found["verdict"] == "trusted" else "bad"),
        Table(name="controls-table", title="Twins of the learner", columns=columns, rows=rows),
    ]


def tests(results: WeekResults) -> list[Block]:
    """The account by year, regime, symbol; later, dearer, without its best; shocks and declines."""
    part = results.parts["validation"]
    found = part.facts["found"]
    signs = [f"{each['name']}: {each['told']}" for each in found["signs"]]
    judged = judge_signs([each["name"] for each in found["signs"]], part.frame["low"][0])
    told = [*signs, f"{judged[:1].upper()}{judged[1:]}."]
    # A test of each symbol is a row of many.
    every = part.frame.with_row_index("stored_row")
    is_symbol = pl.col("test") == "symbol"
    symbols, left_out = extremes(every.filter(is_symbol), "total_return", most=MOST_SYMBOLS)
    rows = pl.concat([every.filter(~is_symbol), symbols]).sort("stored_row")
    chosen = rows.filter(pl.col("sharpe").is_not_null())
    label = pl.concat_str("test", pl.lit(": "), "name")
    names = chosen.select(pl.when(pl.col("test") == pl.col("name")).then("name").otherwise(label))[:, 0]
    chart = Chart(
        name="robustness",
        title="Sharpe ratio a year under other conditions",
        about="Points with intervals of 95 %: the Sharpe ratio of the account in each test.",
        x=Axis("test", "category"),
        y=Axis("Sharpe ratio a year", "ratio"),
        series=(
            Series(
                name="Sharpe ratio, 95 %",
                x=tuple(names),
                y=drawn(chosen["sharpe"]),
                mark="points",
                low=drawn(chosen["low"]),
                high=drawn(chosen["high"]),
            ),
        ),
        height=380,
        level=0.0,
    )
    table = table_of(
        rows,
        ROWS,
        name="tests-table",
        title="Every test",
        reason=TOO_FEW,
        key="validation/frame",
        note=f"Symbols: {left_out[0].lower()}{left_out[1:]}" if left_out else "",
        shown_rows=12,
        at=rows["stored_row"].to_list(),
    )
    return [Text(tuple(told), "bad" if signs else "plain"), *([chart] if chosen.height else []), table]


def engines(results: WeekResults) -> list[Block]:
    """Whether another engine keeps the same account."""
    gate = next((each for each in results.decision.gates if each.gate == "engines_agree"), None)
    told = "Not asked." if gate is None else gate.why
    is_good = gate is not None and gate.is_passed
    every = f"Compared on some symbols and the last bars; all of it, bar by bar: `hfp reconcile {results.strategy} {results.week}`"
    return [Text((told, every), "good" if is_good else "bad")]
