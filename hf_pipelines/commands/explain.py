"""Explain: what an issued prediction is made of; the lines of `hfp explain`.

Lives here: which stored issue, model and features are meant, and whether they still belong together. Does not live here: the explanation
(`research.explanations`), parsing of arguments (`cli`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.extras import EXPLAIN, lacks_shap
from hf_pipelines.components.strategy_stages import CHAMPION_MODEL, StrategyPlan
from hf_pipelines.components.strategy_stages.champion_model import champion_rows
from hf_pipelines.components.strategy_stages.fitted_model import load_model
from hf_pipelines.components.strategy_stages.issue_rows import history_sessions
from hf_pipelines.components.strategy_stages.serving import champion_plan, held_by, promotion_of
from hf_pipelines.partitions import parse_key, week_key
from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.research.explanations import (
    Contributions,
    fit_local_line,
    nearest_turns,
    own_contributions,
    percentile_of,
    permutation_contributions,
)
from hf_pipelines.research.explanations.asking import ask_row
from hf_pipelines.research.explanations.contributions import Ask
from hf_pipelines.research.explanations.sampled import N_BACKGROUND, permutations_within
from hf_pipelines.research.explanations.windows import ask_window, whole_windows, window_contributions
from hf_pipelines.research.explanations.words import explanation_lines, own_in_words, window_in_words
from hf_pipelines.research.learners import Pipeline as FittedPipeline
from hf_pipelines.research.learners import feature_array
from hf_pipelines.research.matrix import join_features
from hf_pipelines.research.signals import reason_in_words, upgrade_issue
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.footer import FITTED_MODEL
from hf_pipelines.resources.lineage import CURRENT, read_content
from hf_pipelines.resources.parquet_io_manager import Loaded
from hf_pipelines.resources.partition_codec import Stored
from hf_pipelines.resources.storage_errors import ObjectMissingError

# Features are stored as float32: a prediction that is recomputed may differ by so much.
SAME = 1e-6


def explain_lines(pipeline: Pipeline, strategy: str, symbol: str, day: str) -> Iterator[str]:
    """What the last prediction that was issued of a symbol on a session is made of.

    Raises
    ------
    ValueError
        If nothing was issued, the symbol has no prediction, or its features are not stored.
    """
    plan = pipeline.strategy(strategy)
    issued = _issued(pipeline, plan, symbol, day)
    plan, model = _decided_by(pipeline, plan, day, issued["model_version"])
    week = model.footer.partition
    card = model.frame.row(0, named=True)
    features, classes = card["features"].split(","), [each for each in card["classes"].split(",") if each]
    fitted = load_model(Loaded(model.footer.asset, {week: model}, pipeline.store), model)
    n_bars = fitted.choice.history_bars
    session = _features(pipeline, plan, day, features).filter(pl.col("ts") <= issued["ts"])
    session = session if n_bars else session.filter(pl.col("ts") == issued["ts"])
    row = (
        session.filter(pl.col("symbol") == symbol, pl.col("ts") == issued["ts"])
        .select(features)
        .to_numpy()[0]
        .astype(np.float32)
    )
    if np.isnan(row).any() and plan.training.missing == "drop":
        raise ValueError(
            f"`features` of {symbol} on {day} must be known, were not any more: {_unknown(row, features)}; see hfp current."
        )
    asked: dict[str, Any] = {"features": features, "classes": classes, "missing": plan.training.missing}
    matrix = _training_rows(pipeline, plan, model).sort("ts", "symbol")
    training = matrix.select(features).to_numpy().astype(np.float32)
    made = _of_window if n_bars else _of_row
    ask, found, words = made(plan, fitted, session, symbol, matrix, **asked)
    prediction = float(ask(row[None, :])[0])
    yield (
        f"{strategy} {symbol} {day}: prediction {issued['prediction']:+.6f}, issued {issued['created_at']:%Y-%m-%d %H:%M} UTC "
        f"({issued['issue_kind']}) by the model of week {week} ({model.footer.content_hash[:8]}, {fitted.choice.name})"
    )
    if abs(prediction - issued["prediction"]) > SAME * max(1.0, abs(prediction)):
        yield f"Of the features as they are stored now it would be {prediction:+.6f}: they were revised since; that is what is explained."
    yield from explanation_lines(
        found,
        names=features,
        values=row.astype(np.float64),
        percentiles=[percentile_of(training[:, at], float(row[at])) for at in range(len(features))],
        turns=nearest_turns(ask, row, training, features),
        line=fit_local_line(ask, row, training, n_samples=max(2_000, 20 * len(features))),
        prediction=prediction,
        **words,
    )


def _of_window(
    plan: StrategyPlan, fitted: FittedPipeline, history: pl.DataFrame, symbol: str, matrix: pl.DataFrame, **asked: Any
) -> tuple[Ask, Contributions, dict[str, str]]:
    """Contributions over the bars that a learner looks back on, how to ask for other last bars, and words on the method."""
    n_bars, features = fitted.choice.history_bars + 1, asked["features"]
    window = ask_window(fitted, history, symbol, times=plan.bar_times(history["session"]), **asked)
    others = whole_windows(matrix, features, n_bars=n_bars, most=N_BACKGROUND, times=plan.bar_times(matrix["session"]))
    n = permutations_within(len(features), rows_each=window.n_rows)
    found = window_contributions(window, others, n_permutations=n)
    return window.ask_last, found, {"method": window_in_words(found, n_bars)}


def _of_row(
    plan: StrategyPlan, fitted: FittedPipeline, session: pl.DataFrame, symbol: str, matrix: pl.DataFrame, **asked: Any
) -> tuple[Ask, Contributions, dict[str, str]]:
    """Contributions to the prediction of a symbol: exact ones where its learner has them; and what they add up to, in words."""
    features = asked["features"]
    ask = ask_row(fitted, session, symbol, **asked)
    own = None
    if not lacks_shap(fitted.choice):
        own = own_contributions(fitted, session, **asked)
    if own is not None:
        at = session.filter(pl.Series(own.is_known))["symbol"].to_list().index(symbol)
        of_row = {name: getattr(own.contributions, name)[at : at + 1] for name in ("base", "values", "standard_error")}
        return ask, Contributions(**of_row), own_in_words(own, choice=fitted.choice, classes=asked["classes"])
    n = permutations_within(len(features), rows_each=session.height)
    background = matrix[np.linspace(0, matrix.height - 1, min(N_BACKGROUND, matrix.height)).astype(int)]
    row = feature_array(session.filter(pl.col("symbol") == symbol), features)
    found = permutation_contributions(ask, row, feature_array(background, features), n_permutations=n)
    if not lacks_shap(fitted.choice):
        return ask, found, {}
    error = f"each is known to about {found.standard_error.max():.2g}"
    return (
        ask,
        found,
        {
            "method": f"Contributions are sampled: {error}; they add up exactly. Exact ones need shap: pip install "
            f'"hf_pipelines[{EXPLAIN.name}]"'
        },
    )


def _issued(pipeline: Pipeline, plan: StrategyPlan, symbol: str, day: str) -> dict[str, Any]:
    plan.market.partitions.require_session(parse_key(day))
    asset = plan.asset("signals")
    try:
        issue = upgrade_issue(pipeline.store.read(asset, day).frame)
    except ObjectMissingError as e:
        raise ValueError(
            f"`day` must be one whose signals were issued, was {day}; issue them: "
            f"hfp materialise {asset} --from {day} --with-inputs"
        ) from e
    rows = issue.filter(pl.col("symbol") == symbol).sort("ts")
    if rows.is_empty():
        raise ValueError(
            f"`symbol` must be a member on {day}, one of {', '.join(issue['symbol'].unique().sort())}, was {symbol[:40]!r}."
        )
    row = rows.row(-1, named=True)
    if row["prediction"] is None or np.isnan(row["prediction"]):
        raise ValueError(
            f"`symbol` must have a prediction on {day}, {symbol} had none: {reason_in_words(row['reason'], row['reason_detail']) or 'its features are unknown'}."
        )
    return row


def _decided_by(pipeline: Pipeline, plan: StrategyPlan, day: str, version: str) -> tuple[StrategyPlan, Stored]:
    """The configuration that has decided an issue, and its model."""
    footer = pipeline.store.footer(plan.asset("signals"), day)
    assert footer is not None
    found = [
        (asset, week)
        for asset in map(plan.asset, (FITTED_MODEL, CHAMPION_MODEL))
        for week, digest in footer.inputs.get(asset, {}).items()
        if digest == version
    ]
    if not found:
        raise ValueError(
            f"`day` must be one whose issue names the model {version[:12]} that decided it, {day} does not."
        )
    held = held_by(plan, pipeline.store, promotion_of(footer.facts))
    decided = plan if held.serving.champion is None else champion_plan(plan, held)
    return decided, read_content(pipeline.store, *found[0], version)


def _training_rows(pipeline: Pipeline, plan: StrategyPlan, model: Stored) -> pl.DataFrame:
    """The rows that a model was fitted on; of a champion's refit, which keeps none, those that are made again."""
    week = model.footer.partition
    if model.footer.asset == plan.asset(CHAMPION_MODEL):
        return champion_rows(plan, pipeline.store, week, Clock().now())
    matrix = plan.asset("training_matrix")
    # A final refit was fitted on another one, and reads of this one alone when its labels ended.
    digest = model.footer.inputs.get(matrix, {}).get(week, CURRENT)
    return read_content(pipeline.store, matrix, week, digest).frame


def _features(pipeline: Pipeline, plan: StrategyPlan, day: str, features: Sequence[str]) -> pl.DataFrame:
    """Features of a session, and of those before it that the learner reads."""
    weeks = history_sessions(plan, day) if plan.learner_weeks else {week_key(parse_key(day)): [day]}
    days = [parse_key(each) for of_week in weeks.values() for each in of_week]
    groups = {
        group: wanted
        for group, names in plan.market.feature_groups.items()
        if (wanted := [name for name in names if name in features])
    }
    if gone := sorted({*features} - {name for names in groups.values() for name in names}):
        raise ValueError(
            f"`features` of {plan.market.name} must hold what the model was fitted with, lacked {some_of(gone)}; put it back."
        )
    frames = []
    for group, names in groups.items():
        asset = plan.market.features_asset(group)
        stored = [week for week in weeks if week in {*pipeline.store.partitions(asset)}]
        parts = [pipeline.store.read(asset, week).frame.select(*KEY_COLUMNS, *names) for week in stored]
        frames.append(pl.concat(parts).filter(pl.col("session").is_in(days)))
    return join_features(frames).sort("ts", "symbol")


def _unknown(row: np.ndarray, features: list[str]) -> str:
    return ", ".join(name for name, value in zip(features, row, strict=True) if np.isnan(value))
