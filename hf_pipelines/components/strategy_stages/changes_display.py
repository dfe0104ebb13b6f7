"""How the page of `<strategy>/signals` shows what an issue changes.

Lives here: metadata values, and the issue before. Does not live here: the change (`research.plots.frames`), its figure
(`research.plots.weights`).
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

import polars as pl

from hf_pipelines.components.display import markdown_table, picture
from hf_pipelines.components.stage_run import StageRun
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.research.signals import HAS_POSITION, reason_in_words, window_sessions
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.storage_errors import ObjectMissingError, StoredPartitionError

# Of a run over many sessions the newest: a picture costs as much as an issue.
DRAWN_SESSIONS = 20


def changes_metadata(
    plan: StrategyPlan, run: StageRun, session: date, last: pl.DataFrame, *, decided_by: str
) -> dict[str, Any]:
    """What is held and what changes, in words and in a picture, and the share of the equity that is turned over.

    Parameters
    ----------
    last : DataFrame
        Rows of the issue's last decision.
    decided_by : str
        Who decided it, in words.
    """
    from hf_pipelines.research.plots.frames import turned_over, weight_changes
    from hf_pipelines.research.plots.weights import weights_png

    day, earlier = _issue_before(plan, run, session)
    changes = weight_changes(last, earlier)
    kind = last["issue_kind"][0]
    weights = last["weight"]
    words = [f"{(weights > 0).sum()} long, {(weights < 0).sum()} short of {last.height}"]
    words += [f"gross {weights.abs().sum():.0%}, net {weights.sum():+.0%}"]
    found: dict[str, Any] = {}
    if earlier is not None:
        found["turned_over"] = turned_over(changes)
        words.append(f"{found['turned_over']:.0%} turned over since {day}")
    headline = {"headline": f"{kind}: {'; '.join(words)}"}
    if session.isoformat() not in run.partitions[-DRAWN_SESSIONS:]:
        return {**headline, **found}
    note = f"{'Issued live' if kind == 'live' else f'{kind}: simulated'}, by {decided_by}"
    drawn = picture(
        weights_png,
        changes,
        heading=f"Weights, {plan.name}, {session}",
        note=note,
        before="" if earlier is None else day,
    )
    return {**headline, "weights": drawn, **found}


def issue_table(last: pl.DataFrame, columns: Sequence[str]) -> str:
    """Rows of an issue, and below them the reasons of those without a position, which a column would have no room for."""
    named = ["reason", "reason_detail"]
    reasons = last.filter(pl.col("reason") != HAS_POSITION).group_by(named, maintain_order=True).agg("symbol")
    lines = [f"- {reason_in_words(reason, detail)}: {some_of(symbols)}" for reason, detail, symbols in reasons.rows()]
    return "\n".join([markdown_table(last.select(columns)), "", *lines])


def _issue_before(plan: StrategyPlan, run: StageRun, session: date) -> tuple[str, pl.DataFrame | None]:
    """Session before, and the rows of its last decision; None where it has no issue that can be read."""
    days = window_sessions(plan.market.partitions.sessions, session, n_sessions=2)
    key = days[0].isoformat()
    if len(days) < 2 or run.store is None:
        return key, None
    if key in run.made:
        frame = run.made[key].frame
    else:
        try:
            frame = run.store.read(plan.asset("signals"), key).frame
        except (ObjectMissingError, StoredPartitionError):
            return key, None
    return key, frame.filter(pl.col("ts") == pl.col("ts").max()).select("symbol", "weight")
