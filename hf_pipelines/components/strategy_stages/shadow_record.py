"""Shadow record: how the shadow of issues performed, beside what was issued on the very same sessions.

Lives here: which issues have a shadow of the same configuration, and both accounts. Does not live here: the shadow's rows (`deciding`), the
account of all issues (`track_record`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import polars as pl

from hf_pipelines.components.strategy_stages.deciding import SHADOW_NAME
from hf_pipelines.components.strategy_stages.plan import StrategyPlan, trade
from hf_pipelines.components.strategy_stages.serving import promotion_of
from hf_pipelines.research.account_summary import summarise_account, values_of
from hf_pipelines.research.bars import KEY_COLUMNS
from hf_pipelines.resources.parquet_io_manager import Loaded

# Of `record`, behind the kind of the issues: the shadow's account, and that of what was issued beside it.
SHADOW, BESIDE = "_shadow", "_beside_shadow"


@dataclass(frozen=True)
class ShadowRecord:
    """Accounts of the newest shadow of some issues.

    Attributes
    ----------
    frames : tuple of DataFrame
        Equity of the shadow and of what was issued on the same sessions, told apart by `record`.
    found : mapping
        `configuration`, `issues` (their number), and of both `total_return` and, where it is known, `sharpe_ratio`.
    """

    frames: tuple[pl.DataFrame, ...]
    found: Mapping[str, Any]


def shadow_record(plan: StrategyPlan, issues: Loaded, own: pl.DataFrame, bars: pl.DataFrame) -> ShadowRecord | None:
    """Both accounts of the issues of one kind, on the sessions whose shadow is of the newest configuration; None without a shadow.

    Parameters
    ----------
    own : DataFrame
        `symbol`, `session`, `ts`, `weight` and `issue_kind`, alike in all rows, of what was issued.
    bars : DataFrame
        As the track record trades on.
    """
    days = [
        f"{day}" for day in own["session"].unique().sort() if SHADOW_NAME in issues.parts[f"{day}"].footer.attachments
    ]
    if not days:
        return None
    configuration = _shadow_of(issues, days[-1])
    days = [day for day in days if _shadow_of(issues, day) == configuration]
    kind = own["issue_kind"][0]
    weights = {
        SHADOW: _shadow_weights(issues, days),
        BESIDE: own.filter(pl.col("session").cast(pl.String).is_in(days)).select(*KEY_COLUMNS, "weight"),
    }
    accounts = {name: trade(plan, each, bars) for name, each in weights.items()}
    found: dict[str, Any] = {"configuration": configuration, "issues": len(days)}
    for name, account in accounts.items():
        values = values_of(summarise_account(account))
        told = {each: values[each] for each in ("total_return", "sharpe_ratio") if each in values}
        found["shadow" if name == SHADOW else "issued"] = told
    frames = tuple(each.equity.with_columns(record=pl.lit(f"{kind}{name}")) for name, each in accounts.items())
    return ShadowRecord(frames, found)


def shadow_in_words(found: Mapping[str, Any]) -> str:
    """Both accounts in a sentence."""
    shadow, issued = (found[name].get("total_return", float("nan")) for name in ("shadow", "issued"))
    told = f"configuration {found['configuration'][:12]}, {found['issues']} issue{'s' * (found['issues'] != 1)}"
    return f"{told}: {shadow:+.2%} as a shadow, {issued:+.2%} as issued on the same sessions"


def _shadow_of(issues: Loaded, day: str) -> str:
    return str(promotion_of(issues.parts[day].footer.facts).get("shadow", ""))


def _shadow_weights(issues: Loaded, days: Sequence[str]) -> pl.DataFrame:
    read = [pl.read_parquet(BytesIO(issues.attachment(day, SHADOW_NAME))) for day in days]
    return pl.concat([each.select(*KEY_COLUMNS, "weight") for each in read]).sort("symbol", "ts")
