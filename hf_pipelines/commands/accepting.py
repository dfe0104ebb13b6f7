"""Accepting: the YAML of a try becomes that of its strategy; the lines of `hfp accept`.

Lives here: refusing what has changed since, writing the file whole, what becomes out of date. Does not live here: the try (`tries`).
"""

import os
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.commands.tries import component_place
from hf_pipelines.components.setting_overrides import edit_strategy
from hf_pipelines.components.strategy_stages import build_stages, retrained
from hf_pipelines.components.strategy_stages.plan import StrategyPlan
from hf_pipelines.components.strategy_stages.shown_settings import value_in_words
from hf_pipelines.research.wording import some_of
from hf_pipelines.resources.footer import SIGNALS
from hf_pipelines.resources.scratch import alone_in, scratch_folder
from hf_pipelines.resources.tries import TryRecord, find_try


def accept_lines(pipeline: Pipeline, name: str) -> Iterator[str]:
    """Write the YAML of a try into the project, and say what becomes out of date.

    Raises
    ------
    ValueError
        If there is no such try, the strategy's YAML has changed since, or the project refuses the new one. Nothing is written then.
    """
    record = find_try(pipeline.store, name)
    defs = pipeline.tree().defs_module_path
    place = component_place(defs, record.strategy).resolve()
    new = record.yaml.encode()
    if (held := _held(place, record)) == new:
        yield f"{place} is that of {record.name} already: nothing was written"
        return
    plan = _plan_of(pipeline, record)
    own = {each.name: each for each in pipeline.strategies()}.get(record.strategy)
    # Of two at once the second one finds what the first has written.
    with alone_in(defs):
        if _held(place, record) != new:
            _replace(place, new)
    yield f"{place} was written as {record.name} has it"
    for field, (before, now) in record.differs.items():
        yield f"  {field}: {value_in_words(before)} -> {value_in_words(now, before)}"
    if "#" in (held or b"").decode() and "#" not in record.yaml:
        yield "  Its comments are lost: one of the values could not be set in place."
    yield from _outdated_lines(pipeline, own, plan)


def _held(place: Path, record: TryRecord) -> bytes | None:
    """Bytes of the strategy's file, those of the try or those that it was made beside; None if there is and was no file.

    Raises
    ------
    ValueError
        If it has changed since.
    """
    held = place.read_bytes() if place.exists() else None
    was = "" if held is None else sha256(held).hexdigest()
    if was != record.base and held != record.yaml.encode():
        how = "is gone" if held is None else "has changed" if record.base else "is there"
        raise ValueError(
            f"`{place}` must be as it was when {record.name} was made ({record.base[:12] or 'absent'}), {how} since ({was[:12] or 'absent'}); "
            f"make the try again: hfp try {_again(record)}"
        )
    return held


def _again(record: TryRecord) -> str:
    return " ".join([record.strategy if record.given else record.file, *(f"--set '{each}'" for each in record.given)])


def _plan_of(pipeline: Pipeline, record: TryRecord) -> StrategyPlan:
    """What the project makes of the YAML as it is now: a market may have changed since."""
    with scratch_folder("hfp_accept_") as folder:
        path = folder / record.strategy / "defs.yaml"
        path.parent.mkdir()
        path.write_text(record.yaml, encoding="utf-8")
        strategy = edit_strategy(path, ()).strategy
        try:
            return strategy.checked_plan(pipeline.tree().load_context.for_path(path))
        except ValueError as e:
            told = str(e).replace(f"{path}:", "line ")
            raise ValueError(f"{record.name} cannot be taken, nothing was written: {told}") from e


def _replace(place: Path, payload: bytes) -> None:
    """Write a file whole or not at all, with the permissions that it has."""
    place.parent.mkdir(parents=True, exist_ok=True)
    mode = place.stat().st_mode & 0o777 if place.exists() else 0o644
    handle, beside = tempfile.mkstemp(dir=place.parent, prefix=".defs_")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, mode)
        os.replace(beside, place)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def _outdated_lines(pipeline: Pipeline, own: StrategyPlan | None, plan: StrategyPlan) -> Iterator[str]:
    """What is stored of the strategy and would be made otherwise now; what was issued stays as it was."""
    versions = {} if own is None else {each.asset: each.code_version for each in build_stages(own)}
    changed: set[str] = set()
    weeks: list[str] = []
    for stage in build_stages(plan):
        if versions.get(stage.asset) != stage.code_version or changed & {each.asset for each in stage.inputs}:
            changed.add(stage.asset)
            stored = pipeline.store.partitions(stage.asset)
            if stored and stage.kind != SIGNALS:
                yield f"  out of date: {stage.asset}, {some_of(stored)}"
            if stage.kind in retrained(plan):
                weeks += stored
    if weeks:
        last = f" --to {max(weeks)}" if max(weeks) != min(weeks) else ""
        yield f"hfp retrain {plan.name} --week {min(weeks)}{last} makes it again; running servers take the new YAML when they are reloaded"
    elif not changed:
        yield "  nothing becomes out of date"
