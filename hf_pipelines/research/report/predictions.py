"""Predictions: what they are worth before anything is traded, and whether they can be believed.

Lives here: sections of the stored out-of-fold predictions. Not here: scores (`score_table`), their frames (`plots.frames`).
"""

from __future__ import annotations

import polars as pl

from hf_pipelines.research.plots.frames import coefficients_by_session, drawn_predictions, outcomes_by_quantile
from hf_pipelines.research.report.blocks import Axis, Block, Cell, Chart, Column, Heatmap, Series, Table, Text, table_of
from hf_pipelines.research.report.frames import drawn, line_of
from hf_pipelines.research.report.results import WeekResults
from hf_pipelines.research.score_words import MODEL
from hf_pipelines.research.targets import HORIZON

# How a pair of classes is written in the columns of fold metrics.
AS = "_as_"

# Kinds of groups whose coverage is drawn; symbols may be many.
COVERED = ("all", "fold", "year", "volatility")


def scores(results: WeekResults) -> list[Block]:
    """Scores over all folds, beside the best baseline."""
    found = results.table("cv_results", "scores")
    verdict = str(results.parts["cv_results"].facts.get("verdict", "Not compared with baselines."))
    blocks: list[Block] = [Text(tuple(verdict.split("\n")))]
    if found is None:
        return blocks
    columns = {
        "score": Column("score"),
        "value": Column("value", "number"),
        "low": Column("low", "number"),
        "high": Column("high", "number"),
        "best_baseline": Column("best baseline"),
        "better_by": Column("better by", "number"),
        "probability": Column("probability of better", "fraction"),
    }
    rows = found.with_row_index("stored_row").filter(pl.col("fold").is_null(), predictor=MODEL)
    in_words = pl.col("score", "best_baseline").fill_null("").str.replace_all("_", " ", literal=True)
    shown = rows.with_columns(in_words)
    reason = "no interval or no baseline of this score, or too few sessions for one"
    blocks.append(
        table_of(
            shown,
            columns,
            name="scores",
            title="Scores of the model over all folds",
            reason=reason,
            key="cv_results/scores",
            at=rows["stored_row"].to_list(),
        )
    )
    return blocks


def information(results: WeekResults) -> list[Block]:
    """Information coefficient over time, outcomes by quantile, decay and turnover of ranks."""
    rows = drawn_predictions(results.parts["cv_results"].frame)
    if rows.is_empty():
        return [Text(("No prediction has a number and an outcome.",))]
    blocks: list[Block] = []
    by_session = coefficients_by_session(rows)
    if by_session.height:
        summed = line_of("sum so far", by_session["session"], by_session["so_far"])
        blocks.append(_lines("ic-sum", "Rank information coefficient, summed", "sum of coefficients", (summed,)))
        smooth = line_of("mean of 60 sessions", by_session["session"], by_session["rolling"])
        if any(each is not None for each in smooth.y):
            blocks.append(
                _lines("ic-rolling", "Rank information coefficient, mean of 60 sessions", "coefficient", (smooth,))
            )
    else:
        blocks.append(Text(("No session has a coefficient: too few symbols, or constant predictions.",)))
    groups = outcomes_by_quantile(rows)
    error = pl.col("error").fill_null(0.0) * 1.96
    bounds = groups.select(low=pl.col("outcome") - error, high=pl.col("outcome") + error)
    blocks.append(
        Chart(
            name="quantiles",
            title="Mean outcome by quantile of the prediction",
            about="A bar a group of predictions, from the lowest to the highest: a good model rises from left to right.",
            x=Axis("quantile of the prediction", "category"),
            y=Axis("mean outcome", "ratio"),
            series=(
                Series(
                    name="mean outcome, 95 %",
                    x=tuple(str(each) for each in groups["quantile"]),
                    y=drawn(groups["outcome"]),
                    mark="bar",
                    low=drawn(bounds["low"]),
                    high=drawn(bounds["high"]),
                ),
            ),
            height=240,
            level=0.0,
        )
    )
    return [*blocks, *_of_validation(results)]


def _of_validation(results: WeekResults) -> list[Block]:
    part = results.parts.get("validation")
    if part is None:
        return []
    signal = part.facts["found"]["signal"]
    rows = tuple(
        (
            Cell(each["horizon_bars"], "count", "", f"validation/decay/{each['horizon_bars']}/horizon_bars"),
            Cell(
                each["mean"], "ratio", "no session has a coefficient", f"validation/decay/{each['horizon_bars']}/mean"
            ),
            Cell(each["t"], "ratio", "too few sessions for a t value", f"validation/decay/{each['horizon_bars']}/t"),
            Cell(each["n_sessions"], "count", "", f"validation/decay/{each['horizon_bars']}/n_sessions"),
        )
        for each in signal["decay"]
    )
    columns = (
        Column("bars ahead", "count"),
        Column("rank coefficient", "ratio"),
        Column("t", "ratio"),
        Column("sessions", "count"),
    )
    found: list[Block] = [Table(name="decay", title="Decay: the coefficient by horizon", columns=columns, rows=rows)]
    turned = signal["rank_turnover"]
    if turned is not None:
        alike = f"{1.0 - turned:.2f} (1 is the same order, 0 one that knows nothing of the one before)"
        found.append(
            Text((f"The order of the symbols has a rank correlation with that of the bar before of {alike}.",))
        )
    return found


def belief(results: WeekResults) -> list[Block]:
    """Calibration and confusion of classes, coverage of intervals; what the target has of these."""
    part, blocks = results.parts["cv_results"], list[Block]()
    groups = part.tables.get("reliability")
    if groups is not None:
        blocks.append(
            Chart(
                name="reliability",
                title="Share that was right, by confidence",
                about="Points of groups of predictions; on the dashed line confidence is what it says.",
                x=Axis("confidence", "fraction"),
                y=Axis("share right", "fraction"),
                series=(
                    Series(name="as it says", x=(0.0, 1.0), y=(0.0, 1.0), role="muted", is_dashed=True),
                    Series(
                        name="groups, 95 %",
                        x=drawn(groups["confidence"]),  # type: ignore[arg-type]
                        y=drawn(groups["share_right"]),
                        mark="points",
                        low=drawn(groups["low"]),
                        high=drawn(groups["high"]),
                    ),
                ),
                height=300,
            )
        )
        blocks.append(Text(tuple(str(part.facts.get("confidence", "")).split("\n"))))
    by_fold = part.tables.get("fold_metrics")
    pairs = (
        []
        if by_fold is None
        else [name for name in by_fold.columns if AS in name and by_fold.schema[name].is_integer()]
    )
    if by_fold is not None and pairs:
        blocks.append(_confusion(by_fold, pairs))
    inside = part.tables.get("coverage")
    if inside is not None:
        blocks.append(_coverage(inside))
    if told := part.facts.get("coverage"):
        blocks.append(Text(tuple(str(told).split("\n"))))
    if not blocks:
        blocks.append(
            Text(("The target has no classes and the strategy no `intervals:`, so there is nothing to calibrate.",))
        )
    return blocks


def _coverage(groups: pl.DataFrame) -> Chart:
    """How often outcomes lay inside their intervals, beside how often they should; of several horizons each."""
    rows = groups.filter(pl.col("by").is_in(COVERED))
    parts = [pl.when(pl.col("by") == pl.col("group")).then("by").otherwise(pl.concat_str("by", pl.lit(" "), "group"))]
    if HORIZON in rows.columns:
        parts.insert(0, pl.concat_str(HORIZON, pl.lit(" bars:")))
    names = rows.select(pl.concat_str(*parts, separator=" ")).to_series()
    return Chart(
        name="coverage",
        title="Share of outcomes inside their intervals",
        about="Points of groups of predictions with intervals of 95 %; on the dotted line as many are inside as should be.",
        x=Axis("rows", "category"),
        y=Axis("share inside", "fraction"),
        series=(
            Series(
                name="inside, 95 %",
                x=tuple(names),
                y=drawn(rows["coverage"]),
                mark="points",
                low=drawn(rows["low"]),
                high=drawn(rows["high"]),
            ),
        ),
        height=240,
        level=float(groups["nominal"][0]),
    )


def _confusion(by_fold: pl.DataFrame, pairs: list[str]) -> Heatmap:
    """How often each class was predicted as each, over all folds."""
    true = list(dict.fromkeys(each.split(AS)[0] for each in pairs))
    shown = list(dict.fromkeys(each.split(AS)[1] for each in pairs))
    counts = {each: float(by_fold[each].sum()) for each in pairs}
    return Heatmap(
        name="confusion",
        title="Predictions by class",
        about="A row a class that occurred, a column a class that was predicted; the numbers are rows of all folds.",
        columns=tuple(shown),
        rows=tuple(true),
        values=tuple(tuple(counts.get(f"{one}{AS}{other}") for other in shown) for one in true),
        unit="count",
        is_diverging=False,
        x_title="predicted",
        y_title="occurred",
    )


def _lines(name: str, title: str, y_title: str, series: tuple[Series, ...]) -> Chart:
    return Chart(
        name=name,
        title=title,
        about=f"A line over sessions: {title.lower()}.",
        x=Axis("session", "date"),
        y=Axis(y_title, "ratio"),
        series=series,
        height=200,
        level=0.0,
    )
