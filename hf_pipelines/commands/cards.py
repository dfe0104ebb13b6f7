"""Cards: what a stored model is, and whether it comes out again; the lines of `hfp card` and `hfp reproduce`.

Lives here: which model is meant, its card in words. Does not live here: making it again (`components.strategy_stages.reproduction`).
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl

from hf_pipelines.commands.compare import Named
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.strategy_stages.reproduction import Reproduction, reproduce_model
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.lineage import CURRENT, read_content
from hf_pipelines.resources.partition_codec import Stored
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import ObjectMissingError
from hf_pipelines.resources.trial_ledger import TrialLedger, actor_of, n_trials
from hf_pipelines.resources.trial_ledger.trials import hash_of_data

HASH_SHOWN = 12

# Of the features, by how much they count.
SHOWN_IMPORTANCES = 10


def stored_model(pipeline: Pipeline, word: str) -> Stored:
    """The model that `STRATEGY`, `STRATEGY@SUNDAY` or `STRATEGY@SUNDAY:HASH` means: the latest week and the current content by default.

    Raises
    ------
    ValueError
        If the strategy is unknown or has no such model.
    """
    named = Named.parse(word)
    asset = pipeline.strategy(named.strategy).asset("fitted_model")
    weeks = pipeline.store.partitions(asset)
    if not weeks:
        raise ValueError(
            f"`model` must be of a strategy with one, {named.strategy} has none; hfp retrain {named.strategy} --week SUNDAY"
        )
    return read_content(pipeline.store, asset, named.week or max(weeks), named.digest or CURRENT)


def card_of(pipeline: Pipeline, word: str) -> dict[str, Any]:
    """Everything that is known of a stored model, for programs."""
    model = stored_model(pipeline, word)
    footer, row = model.footer, model.frame.row(0, named=True)
    strategy = str(row["strategy"])
    # A final refit is fitted on a matrix of its own.
    results, matrix = (
        _footer_of_input(pipeline.store, footer, next((each for each in footer.inputs if each.endswith(end)), None))
        for end in ("/cv_results", "_matrix")
    )
    counted = (strategy, *pipeline.strategy(strategy).descends_from)
    known = TrialLedger(pipeline.store.objects, actor_of({})).known()
    return {
        **{name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()},
        "features": str(row["features"]).split(","),
        "classes": [each for each in str(row["classes"]).split(",") if each],
        "content_hash": footer.content_hash,
        "code_version": footer.code_version,
        "run_id": footer.run_id,
        "verdicts": {name: each.passed for name, each in footer.verdicts.items()},
        "inputs": {asset: dict(parts) for asset, parts in footer.inputs.items()},
        "artifacts": dict(footer.attachments),
        **{name: value for name, value in footer.facts.items() if name != "params"},
        "data": {} if matrix is None else {asset: _stretch(asset, of) for asset, of in sorted(matrix.inputs.items())},
        **({} if results is None else {name: results.facts.get(name) for name in ("trial", "verdict")}),
        "trials_that_count": n_trials(known.filter(pl.col("strategy").is_in(counted))),
    }


def _footer_of_input(store: PartitionStore, footer: Footer, asset: str | None) -> Footer | None:
    """Footer of the content that a model was made from, current or not; None of one that is not kept."""
    digest = footer.inputs.get(asset or "", {}).get(footer.partition)
    if asset is None or digest is None:
        return None
    try:
        return read_content(store, asset, footer.partition, digest).footer
    except (ValueError, ObjectMissingError):
        return None


def _stretch(asset: str, parts: Mapping[str, str]) -> dict[str, Any]:
    """The weeks that were read of an asset, and a digest of their contents, as a try names it."""
    return {
        "first": min(parts),
        "last": max(parts),
        "weeks": len(parts),
        "digest": hash_of_data({asset: parts})[:HASH_SHOWN],
    }


def card_lines(card: Mapping[str, Any]) -> Iterator[str]:
    """A card for a person."""
    yield f"{card['strategy']} {card['week']}: {card['learner']['type']}, content {card['content_hash'][:HASH_SHOWN]}"
    yield f"  made {card['created_at']} by code and settings {card['code_version']}, run {card['run_id']}"
    yield f"  trained on {card['n_rows']:,} rows, labels until {card['trained_until']}; serves from {card['as_of']}"
    if failed := [name for name, passed in card["verdicts"].items() if not passed]:
        yield f"  FAILED: {', '.join(failed)}"
    if card.get("final_refit"):
        yield f"  final refit {card['final_refit']}: fitted on the hold-out too"
    if card.get("overrides"):
        yield f"  set by the environment: {', '.join(f'{name}={value}' for name, value in card['overrides'].items())}"
    if card.get("selected"):
        yield "  its scores are selected, not out of sample"
    yield "Learner:"
    yield from _setting_lines(card["learner"], "  ")
    yield f"Features: {len(card['features'])}"
    yield f"  {some_of(card['features'])}"
    told = {name: value for name, value in card.get("importances", {}).items() if value}
    for name in sorted(told, key=lambda each: -abs(told[each]))[:SHOWN_IMPORTANCES]:
        yield f"  {name}: {told[name]:.4f}"
    yield "Out-of-fold scores:"
    for name, value in card["metrics"].items():
        yield f"  {name}: {'unknown' if value is None else f'{value:,.4g}'}"
    if card.get("verdict"):
        yield from (f"  {line}" for line in str(card["verdict"]).splitlines())
    yield f"Trials: {card['trials_that_count']:,} of {card['strategy']} count now (hfp ledger summary {card['strategy']})"
    if card.get("trial"):
        yield f"  its own is {card['trial'][:HASH_SHOWN]}"
    if card["data"]:
        yield "Data:"
    for asset, told_of in card["data"].items():
        yield f"  {asset} {told_of['first']} to {told_of['last']}, {told_of['weeks']} weeks, {told_of['digest']}"
    yield "Made from:"
    for asset, parts in card["inputs"].items():
        for partition, digest in parts.items():
            yield f"  {asset} {partition} {digest[:HASH_SHOWN]}"
    yield "Artifacts (sha256):"
    for name, digest in card["artifacts"].items():
        yield f"  {name} {digest}"
    if run := card.get("mlflow_run_id"):
        yield f"MLflow run: {run}"


def reproduced(pipeline: Pipeline, word: str) -> tuple[Stored, Reproduction]:
    """Make a stored model again."""
    model = stored_model(pipeline, word)
    strategy = str(model.frame["strategy"][0])
    return model, reproduce_model(pipeline.strategy(strategy), pipeline.store, model, datetime.now(UTC))


def reproduction_lines(model: Stored, found: Reproduction) -> Iterator[tuple[str, bool]]:
    """What came of it, each line with whether it is well."""
    footer = model.footer
    yield f"{footer.asset} {footer.partition} {footer.content_hash[:HASH_SHOWN]}, made {footer.created_at}", True
    for asset, partition, digest, why in found.missing:
        yield f"  MISSING {asset} {partition} {digest[:HASH_SHOWN]}: {why}; put it back from a backup", False
    for name, (before, now) in found.settings.items():
        yield f"  {name} was {before}, is {now} in the YAML", True
    if found.code[0] != found.code[1]:
        yield (
            f"  code and settings were {found.code[0]}, are {found.code[1]}: what made it is another version of the project",
            True,
        )
    if found.missing:
        yield "Nothing was made again: contents that it was made from are missing.", False
        return
    for artifact in found.artifacts:
        if artifact.agrees:
            yield f"  {artifact.name}: the same bytes, sha256 {artifact.stored[:HASH_SHOWN]}", True
        else:
            was, now = (each[:HASH_SHOWN] or "none" for each in (artifact.stored, artifact.rebuilt))
            yield f"  {artifact.name}: OTHER bytes, sha256 {was} stored, {now} now", False
    for name, (before, now) in (found.card or {}).items():
        yield f"  {name}: {_short(before)} stored, {_short(now)} now", False
    if found.agrees:
        yield "The model was made again, byte for byte.", True
    elif found.code[0] != found.code[1]:
        yield "Another model came out; check out the version of the project that made it, and try again.", False
    else:
        yield "Another model came out of the same code and data: libraries or the machine are others than then.", False


def _setting_lines(value: Mapping[str, Any], indent: str) -> Iterator[str]:
    """Settings as YAML shows them; members of an ensemble below each other."""
    for name, each in value.items():
        if isinstance(each, Mapping) and each:
            yield f"{indent}{name}:"
            yield from _setting_lines(each, f"{indent}  ")
        elif isinstance(each, list) and any(isinstance(inner, Mapping) for inner in each):
            yield f"{indent}{name}:"
            for inner in each:
                yield from _setting_lines(inner if isinstance(inner, Mapping) else {"-": inner}, f"{indent}  ")
        else:
            yield f"{indent}{name}: {each}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
