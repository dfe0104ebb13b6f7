"""Rule tree: the weight of the first branch whose condition holds, over predictions and features.

Lives here: the check of a tree as plain YAML has it, its weights, and its picture in words with the counts of each branch. Nothing of it is
evaluated as code.

| condition | holds where |
|---|---|
| `{prediction: {above: 0.01}}` | the column is above, below, at_least, at_most a number; several: all of them |
| `{all: [...]}` | every condition of the list holds |
| `{any: [...]}` | one of them holds |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import polars as pl

from hf_pipelines.research.signals.rule import Params, RuleContext, RuleNeeds

Condition: TypeAlias = Mapping[str, Any]

# More is not read by anybody, and an alias of YAML may hold itself.
MAX_DEPTH, MAX_LISTED = 12, 50

COMPARISONS: dict[str, tuple[str, Callable[[pl.Expr, float], pl.Expr]]] = {
    "above": (">", lambda column, level: column > level),
    "at_least": (">=", lambda column, level: column >= level),
    "below": ("<", lambda column, level: column < level),
    "at_most": ("<=", lambda column, level: column <= level),
}
GROUPS = ("all", "any")

# What a learner predicts; every other name is a feature.
_PREDICTED = ("prediction", "confidence")
_PREDICTED_PREFIXES = ("probability_", "quantile_", "prediction_")


def checked_branch(value: Any, where: str) -> dict[str, Any]:
    """A branch of a tree: `when`, a condition, and `weight`, from -1 to 1.

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(value, Mapping) or {*value} != {"when", "weight"}:
        raise ValueError(f"`{where}` must be a mapping of `when` and `weight`, was {_keys(value)}.")
    return {
        "when": _condition(value["when"], f"{where}.when", depth=1),
        "weight": _number(value["weight"], f"{where}.weight"),
    }


def check_tree(params: Params) -> None:
    """Refuse what is left over to be none of the numbers that a branch may have.

    Raises
    ------
    ValueError
    """
    if all(each["weight"] == 0.0 for each in params["branches"]) and params["otherwise"] == 0.0:
        raise ValueError(
            "`branches` of 'rule_tree' must have a weight that is not 0, had none; nothing would ever be held."
        )


def needs_tree(params: Params) -> RuleNeeds:
    """Return the needs: every column that a condition reads."""
    names = sorted({name for each in params["branches"] for name in _columns(each["when"])})
    predicted = [name for name in names if _is_predicted(name)]
    weights = [*(each["weight"] for each in params["branches"]), params["otherwise"]]
    return RuleNeeds(
        columns=tuple(dict.fromkeys(["prediction", *predicted])),
        features=tuple(name for name in names if not _is_predicted(name)),
        shorts=min(weights) < 0.0,
        max_gross=params["max_gross"],
        # Levels are written out for what is predicted.
        direction=False,
    )


def weigh_by_tree(predictions: pl.DataFrame, context: RuleContext) -> pl.Series:
    """Of each member the weight of its first branch, as a part of its equal share of the gross."""
    params = context.params
    weight = pl.lit(params["otherwise"])
    for branch in reversed(params["branches"]):
        weight = pl.when(_expression(branch["when"]).fill_null(False)).then(branch["weight"]).otherwise(weight)
    share = params["max_gross"] / pl.len().over("ts")
    return predictions.select(pl.when(_is_known(params)).then(weight * share)).to_series()


def count_branches(predictions: pl.DataFrame, params: Params) -> list[int]:
    """How many rows took each branch, `otherwise` after the last, and those of which nothing is predicted at the end."""
    n = len(params["branches"])
    branch = pl.lit(n)
    for at, each in reversed([*enumerate(params["branches"])]):
        branch = pl.when(_expression(each["when"]).fill_null(False)).then(pl.lit(at)).otherwise(branch)
    taken = predictions.select(pl.when(_is_known(params)).then(branch).otherwise(n + 1).alias("branch")).to_series()
    return [int((taken == at).sum()) for at in range(n + 2)]


def draw_tree(predictions: pl.DataFrame, context: RuleContext) -> str:
    """The tree as text, with the rows that took each branch."""
    params = context.params
    *taken, unknown = count_branches(predictions, params)
    total = max(sum(taken), 1)
    lines = []
    for at, (branch, count) in enumerate(zip(params["branches"], taken, strict=False)):
        lines.append(f"{'if' if at == 0 else 'else if'}  -> {branch['weight']:g}   {_counted(count, total)}")
        lines += _drawn(branch["when"], "")
    lines.append(f"else  -> {params['otherwise']:g}   {_counted(taken[-1], total)}")
    lines.append(f"nothing predicted  -> 0   {unknown:,} rows")
    return "\n".join(["```", *lines, "```"])


def _counted(count: int, total: int) -> str:
    return f"{count:,} rows ({count / total:.1%})"


def _drawn(condition: Condition, indent: str) -> Iterator[str]:
    parts = _parts(condition)
    if len(parts) == 1:
        yield f"{indent}└─ {_told(*parts[0])}"
        return
    yield f"{indent}└─ {_group(condition)} of"
    for at, (name, each) in enumerate(parts):
        is_last = at == len(parts) - 1
        below = f"{indent}   "
        if name in GROUPS:
            inner = list(_drawn({name: each}, below))
            yield inner[0] if is_last else inner[0].replace("└", "├", 1)
            yield from (line if is_last else f"{below}│{line[len(below) + 1 :]}" for line in inner[1:])
        else:
            yield f"{below}{'└' if is_last else '├'}─ {_told(name, each)}"


def _group(condition: Condition) -> str:
    return next((name for name in GROUPS if name in condition), "all")


def _parts(condition: Condition) -> list[tuple[str, Any]]:
    """What a condition is made of: groups and comparisons of one column."""
    group = _group(condition)
    listed = condition[group] if group in condition else [{name: each} for name, each in condition.items()]
    found = []
    for each in listed:
        (name, inner), *more = each.items()
        found.append(("all", [{key: value} for key, value in each.items()]) if more else (name, inner))
    return found


def _told(name: str, comparisons: Any) -> str:
    if name in GROUPS:
        return f"{name} of {len(comparisons)}"
    return " and ".join(f"{name} {COMPARISONS[kind][0]} {level:g}" for kind, level in comparisons.items())


def _is_predicted(name: str) -> bool:
    return name in _PREDICTED or name.startswith(_PREDICTED_PREFIXES)


def _is_known(params: Params) -> pl.Expr:
    return pl.all_horizontal(pl.col(needs_tree(params).columns).is_not_null())


def _columns(condition: Condition) -> Iterator[str]:
    for name, inner in condition.items():
        if name in GROUPS:
            for each in inner:
                yield from _columns(each)
        else:
            yield name


def _expression(condition: Condition) -> pl.Expr:
    """Null where a column is: unknown is not above and not below anything."""
    found = []
    for name, inner in condition.items():
        if name in GROUPS:
            join = pl.all_horizontal if name == "all" else pl.any_horizontal
            found.append(join([_expression(each).fill_null(False) for each in inner]))
        else:
            # Features are of 32 bits: a level must mean the same of them.
            column = pl.col(name).cast(pl.Float64)
            found += [COMPARISONS[kind][1](column, level) for kind, level in inner.items()]
    return pl.all_horizontal(found)


def _condition(value: Any, where: str, *, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise ValueError(
            f"`{where}` must be nested at most {MAX_DEPTH} deep, was deeper; does it hold itself by an alias?"
        )
    if not isinstance(value, Mapping) or not value:
        raise TypeError(
            f"`{where}` must be a mapping of columns to comparisons, of `all` or of `any`, was {_keys(value)}."
        )
    groups = [name for name in GROUPS if name in value]
    if groups and len(value) > 1:
        raise ValueError(
            f"`{where}` must hold {groups[0]} alone, was with {_keys(value)}; put them into a list of `all`."
        )
    if not groups:
        return {str(name): _comparisons(each, f"{where}.{name}") for name, each in value.items()}
    listed = value[groups[0]]
    if not isinstance(listed, list | tuple) or not 1 <= len(listed) <= MAX_LISTED:
        raise ValueError(f"`{where}.{groups[0]}` must be a list of 1 to {MAX_LISTED} conditions, was {_keys(listed)}.")
    inner = f"{where}.{groups[0]}"
    return {groups[0]: tuple(_condition(each, f"{inner}.{at}", depth=depth + 1) for at, each in enumerate(listed))}


def _comparisons(value: Any, where: str) -> dict[str, float]:
    if not isinstance(value, Mapping) or not value or {*value} - {*COMPARISONS}:
        raise ValueError(f"`{where}` must be a mapping of {', '.join(COMPARISONS)} to numbers, was {_keys(value)}.")
    return {str(kind): _number(level, f"{where}.{kind}", most=1e12) for kind, level in value.items()}


def _number(value: Any, where: str, *, most: float = 1.0) -> float:
    # Written so that NaN fails too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -most <= value <= most:
        raise ValueError(f"`{where}` must be a number from {-most:g} to {most:g}, was {value!r:.40}.")
    return float(value)


def _keys(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a mapping of {', '.join(sorted(str(each)[:40] for each in value)[:8]) or 'nothing'}"
    return f"a list of {len(value)}" if isinstance(value, list | tuple) else f"{value!r:.40}"
