"""Release changes: what one release has that another has not; the lines of `hfp model changelog` and `hfp model diff`.

Lives here: features, parameters, metrics and predictions of two releases beside each other. Does not live here: which release is meant
(`releases`), whether one is better (`hfp compare`).
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from hf_pipelines.commands.models import HEADLINE, number_in_words
from hf_pipelines.commands.promoting import stored_history
from hf_pipelines.commands.releases import StoredRelease, release_of, role_of, stored_release
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.strategy_stages.shown_settings import differing, value_in_words
from hf_pipelines.research.comparison import Contestant
from hf_pipelines.research.comparison_words import number, text_table
from hf_pipelines.research.overview import prediction_agreement
from hf_pipelines.research.session_values import common_rows, have_same_labels
from hf_pipelines.research.wording import printable
from hf_pipelines.resources.lineage import read_content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import ObjectMissingError

PREDICTIONS = "cv_results"


def changes_between(before: StoredRelease, after: StoredRelease) -> dict[str, Any]:
    """What a release has that another has not, for programs.

    Returns
    -------
    dict
        `features_added` and `features_dropped`; `parameters` and `metrics`, each by name with the value of both where they differ;
        `unknown_metrics`, in words.
    """
    parameters = differing([before.settings, after.settings])
    metrics = differing([before.metrics, after.metrics])
    known = {*before.metrics} & {*after.metrics}
    return {
        "features_added": [each for each in after.features if each not in before.features],
        "features_dropped": [each for each in before.features if each not in after.features],
        "parameters": parameters,
        # Of what one has alone nothing is a change.
        "metrics": {name: values for name, values in metrics.items() if name in known},
        "unknown_metrics": [*before.unknown_metrics, *after.unknown_metrics],
    }


def changelog_told(pipeline: Pipeline, strategy: str) -> list[dict[str, Any]]:
    """Every release of a strategy with what it changes of its parent, the newest first; for programs.

    Raises
    ------
    ValueError
        If the strategy is unknown.
    PromotionHistoryError
        If the history is not as it was written.
    """
    history = stored_history(pipeline, strategy)
    found = {each.version: stored_release(pipeline.store, history, each) for each in history.state.releases}
    told = []
    for version, each in reversed(found.items()):
        parent = each.release.parent
        told.append(
            {
                "version": str(version),
                "week": each.release.week,
                "at": each.record["at"],
                "actor": each.record["actor"],
                "reason": each.record["reason"],
                "override": each.record["override"] or None,
                "role": role_of(history.state, each.release),
                "parent": None if parent is None else str(parent),
                "is_refit": parent is not None and not each.release.changed,
                "changes": None if parent is None else changes_between(found[parent], each),
            }
        )
    return told


def changelog_lines(strategy: str, told: list[dict[str, Any]]) -> Iterator[str]:
    """A changelog for a person."""
    if not told:
        yield f"{strategy}: no release, nothing was ever promoted"
    for at, each in enumerate(told):
        if at:
            yield ""
        yield from map(printable, _release_lines(each))


def _release_lines(each: Mapping[str, Any]) -> Iterator[str]:
    override = f" in the name of {each['override']}, by override" if each["override"] else ""
    yield f"{each['version']}  {each['at'][:10]}, week {each['week']}, by {each['actor']}{override}: {each['reason']}"
    yield f"  {each['role']}"
    if each["changes"] is None:
        yield "  the first release"
        return
    yield f"  since {each['parent']}" + (
        ": a refit of the same configuration by another week" if each["is_refit"] else ":"
    )
    yield from (f"    {line}" for line in _changes_lines(each["changes"]))


def _changes_lines(changes: Mapping[str, Any]) -> Iterator[str]:
    if changes["features_added"]:
        yield f"features added: {', '.join(changes['features_added'])}"
    if changes["features_dropped"]:
        yield f"features dropped: {', '.join(changes['features_dropped'])}"
    for name, (before, after) in changes["parameters"].items():
        yield f"{name}: from {value_in_words(before)} to {value_in_words(after, before)}"
    for name, (before, after) in changes["metrics"].items():
        if name in HEADLINE:
            yield f"{name}: from {number_in_words(before)} to {number_in_words(after)}"
    yield from (f"unknown: {each}" for each in changes["unknown_metrics"])


def diff_told(pipeline: Pipeline, one: str, other: str) -> dict[str, Any]:
    """Two releases beside each other, for programs.

    Raises
    ------
    ValueError
        If there is no such release, or both are the same one.
    PromotionHistoryError
        If the history is not as it was written.
    """
    first, second = release_of(pipeline, one), release_of(pipeline, other)
    if first.name == second.name:
        raise ValueError(
            f"`release` must be given two that differ, both were {first.name}; see hfp model changelog {one.partition('@')[0]}."
        )
    agreement, why = _agreement(pipeline.store, first, second)
    return {
        "releases": [first.name, second.name],
        "weeks": [first.release.week, second.release.week],
        "is_override": [first.release.is_override, second.release.is_override],
        **changes_between(first, second),
        "all_metrics": {
            name: [first.metrics.get(name), second.metrics.get(name)]
            for name in dict.fromkeys([*first.metrics, *second.metrics])
        },
        "agreement": agreement,
        "agreement_unknown": why,
        "compare": _compare_command(first, second),
    }


def _agreement(
    store: PartitionStore, first: StoredRelease, second: StoredRelease
) -> tuple[dict[str, Any] | None, list[str]]:
    """How far out-of-fold predictions agree on the rows of both, and what cannot be told of it and why."""
    contestants, why = [], []
    for each in (first, second):
        content = each.content(PREDICTIONS)
        if content is None:
            why.append(f"the record of {each.name} names no {PREDICTIONS}")
            continue
        try:
            stored = read_content(store, content.asset, content.partition, content.digest)
        except (ValueError, ObjectMissingError):
            why.append(f"{content.asset} {content.partition} of {each.name} is {content.fault or 'damaged'}")
            continue
        # Of accounts nothing is asked.
        contestants.append(Contestant(each.name, stored.frame, None, 1, math.nan))
    if len(contestants) < 2:
        return None, why
    rows = common_rows([each.predictions for each in contestants])
    if rows[0].is_empty():
        weeks = f"{first.release.week} and {second.release.week}"
        return None, [f"no row (symbol and bar) is predicted by both, of weeks {weeks}"]
    if not have_same_labels(rows[0], rows[1]):
        why.append("they predict different targets: the numbers compare different quantities")
    neutral = [each.record["settings"].get("target") for each in (first, second)]
    directions = [each[2] if isinstance(each, list) and len(each) > 2 else None for each in neutral]
    (found,) = prediction_agreement(contestants, directions).to_dicts()
    if found["rank_correlation"] is None:
        why.append("correlation: one of them predicts the same on every row, or there is one row alone")
    if found["same_sign"] is None:
        why.append("same sign: a target has no direction")
    return {name: value for name, value in found.items() if name not in ("one", "other")}, why


def _compare_command(first: StoredRelease, second: StoredRelease) -> str | None:
    """What says whether one is better; None where predictions are the very same or gone."""
    contents = [each.content(PREDICTIONS) for each in (first, second)]
    if any(each is None or each.footer is None for each in contents):
        return None
    words = [
        f"{each.asset.partition('/')[0]}@{each.partition}:{each.digest[:12]}" for each in contents if each is not None
    ]
    return f"hfp compare {' '.join(words)}" if len({*words}) > 1 else None


def diff_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Two releases beside each other, for a person."""
    yield from map(printable, _diff_lines(told))


def _diff_lines(told: Mapping[str, Any]) -> Iterator[str]:
    names = told["releases"]
    yield " and ".join(
        f"{name} of week {week}{', by override' * is_override}"
        for name, week, is_override in zip(names, told["weeks"], told["is_override"], strict=True)
    )
    yield ""
    for of, each in (("only in the second", "features_added"), ("only in the first", "features_dropped")):
        if told[each]:
            yield f"features {of}: {', '.join(told[each])}"
    if not told["features_added"] and not told["features_dropped"]:
        yield "features: the same"
    if told["parameters"]:
        yield ""
        yield from text_table(
            [
                ("parameters that differ", *names),
                *(
                    (name, value_in_words(first), value_in_words(second, first))
                    for name, (first, second) in told["parameters"].items()
                ),
            ]
        )
    else:
        yield "parameters: the same"
    if told["all_metrics"]:
        yield ""
        shown = [name for name in HEADLINE if name in told["all_metrics"]]
        rows = [(name, *(number_in_words(each) for each in told["all_metrics"][name])) for name in shown]
        yield from text_table([("metrics, as stored", *names), *rows])
        more = len(told["all_metrics"]) - len(shown)
        yield "Each is of its own rows and sessions, by its own week." + (f" {more} more: --json" if more else "")
    yield from (f"unknown: {each}" for each in told["unknown_metrics"])
    yield ""
    agreement = told["agreement"]
    if agreement is not None:
        same_sign = agreement["same_sign"]
        row = (
            f"{agreement['n_rows']:,}",
            number(agreement["correlation"]) or "-",
            number(agreement["rank_correlation"]) or "-",
            "-" if same_sign is None else f"{same_sign:.1%}",
        )
        head = ("predictions on", "correlation", "rank correlation", "same sign")
        yield from text_table([head, (f"{row[0]} rows of both", *row[1:])])
    yield from (
        f"{'Predictions cannot be compared' if agreement is None else 'Of predictions'}: {each}"
        for each in told["agreement_unknown"]
    )
    if told["compare"]:
        yield f"Whether one is better: {told['compare']}"
