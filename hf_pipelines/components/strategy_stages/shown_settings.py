"""Shown settings: the configuration of an evaluation, field by field, by the names that the YAML has.

Lives here: flattening what the ledger holds of a configuration, and what differs between several. Does not live here: the configuration
(`trial_records`).
"""

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

# `Costs(fee_bps=1.0, slippage_bps=2.0)`, as the ledger holds the costs and the execution of an account.
_DATACLASS = re.compile(r"\w+\((?P<fields>.*)\)")
_FIELD = re.compile(r"(?P<name>[\w.]+)=(?P<value>'[^']*'|[^,]+)")

_FIELDS = {"rule": "signal", "account": "backtest", "validation_share": "learner.validation_share"}
_ACCOUNT_FIELDS = {"initial_cash": "initial_cash_usd"}

# Of a rule with sizing and limits, which stand beside its `params` in the YAML.
_BESIDE_RULE = ("sizing", "limits", "memory_weeks")

# Of the ledger's own: which code is not the project's, and how many bars a year has.
_LEFT_OUT = ("backtest.periods_per_year",)

Settings = Mapping[str, Any]


def flat_settings(settings: Mapping[str, Any], *, seed: int | None) -> dict[str, Any]:
    """A configuration of the ledger as one value a field: `learner.params.max_depth`, `signal.params.n_long`.

    Parameters
    ----------
    settings : mapping
        As `settings_of` gives them.
    seed : int, optional
        Of the learner, which the ledger holds apart.
    """
    found: dict[str, Any] = {"learner.seed": seed}
    for name, value in settings.items():
        field = _FIELDS.get(name, name)
        match name, value:
            case "rule", ["chain", {"rule": {"type": kind, "params": params}, "max_gross": None, **beside}]:
                found |= {f"{field}.type": kind, **_flat(params, f"{field}.params")}
                # Empty ones are left out: a rule without any has none.
                for each in _BESIDE_RULE:
                    found |= _flat(beside[each], f"{field}.{each}") if beside.get(each) else {}
            case "cross_validation", [kind, params]:
                found |= {f"{field}.type": kind, **_flat(params, field)}
            case (("target" | "rule"), [kind, params, *_]):
                found |= {f"{field}.type": kind, **_flat(params, f"{field}.params")}
                # Beside the `type` in the YAML.
                if f"{field}.params.horizon_bars" in found:
                    found[f"{field}.horizon_bars"] = found.pop(f"{field}.params.horizon_bars")
            case "features", Mapping():
                found |= {f"features.{group}": [*names] for group, names in value.items()}
            case "account", Mapping():
                engine, execution = value["engine"]
                found |= {f"{field}.engine": engine}
                for told in (execution, value["costs"]):
                    found |= {
                        f"{field}.{_ACCOUNT_FIELDS.get(each, each)}": of for each, of in _fields_of(str(told)).items()
                    }
            case _:
                found |= _flat(value, field)
    return {name: value for name, value in found.items() if name not in _LEFT_OUT and value != ""}


def differing(settings: Sequence[Settings | None]) -> dict[str, list[Any]]:
    """Fields in which some configurations differ, with the value of each; None where one has no such field, or is not known."""
    known = [each for each in settings if each is not None]
    names = dict.fromkeys(name for each in known for name in each)
    return {
        name: [None if each is None else each.get(name) for each in settings]
        for name in names
        if any(each.get(name) != known[0].get(name) for each in known)
    }


def value_in_words(value: Any, base: Any = None) -> str:
    """A value on a short line; of a long list what it has more and less than another one."""
    if isinstance(value, list) and isinstance(base, list) and value != base and len(value) + len(base) > 4:
        more = [f"+{each}" for each in value if each not in base]
        less = [f"-{each}" for each in base if each not in value]
        return _cut(", ".join([*more, *less]) or f"{len(value)} in another order")
    if isinstance(value, list):
        return _cut(", ".join(map(str, value)) or "none")
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else _cut(str(value).lower() if isinstance(value, bool) else str(value))


def _cut(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _flat(value: Any, place: str) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {name: each for key, inner in value.items() for name, each in _flat(inner, f"{place}.{key}").items()}
    if isinstance(value, list) and any(isinstance(each, Mapping | list) for each in value):
        return {name: each for at, inner in enumerate(value) for name, each in _flat(inner, f"{place}.{at}").items()}
    return {place: value}


def _fields_of(told: str) -> dict[str, Any]:
    found = _DATACLASS.fullmatch(told)
    if found is None:
        return {"account": told}
    return {each["name"]: _literal(each["value"]) for each in _FIELD.finditer(found["fields"])}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
