"""Watch: the sensor that looks for failures and for what is late.

Lives here: one tick over ended runs and what is late, and the delivery of messages. Does not live here: what is late
(`lateness`), what opens and heals an incident (`resources.incidents`, `ended_runs`), the channel (`resources.notifier`),
and whether this sensor itself ticks (`resources.pulse`, looked at from the web server).

Dagster concept: sensor. It requests no runs; it reports the check `on_time` where its result has changed. A failing
receiver or store fails no tick: messages wait in the book, and the next tick reads again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import dagster as dg

from hf_pipelines.components.operations.drifting import look_for_drift
from hf_pipelines.components.operations.ended_runs import RunWatch
from hf_pipelines.components.operations.inventory import Inventory, Watched, is_there
from hf_pipelines.components.operations.lateness import Expectation, Late, expectations, judged_sessions
from hf_pipelines.components.operations.noticing import Noticed, View, notice
from hf_pipelines.components.operations.on_time import assets_of, evaluations, on_time_checks
from hf_pipelines.components.operations.outcomes import ON_TIME, Outcomes
from hf_pipelines.resources import settings
from hf_pipelines.resources.alert_desk import DeskKeeper
from hf_pipelines.resources.clock import Clock
from hf_pipelines.resources.delivery import Delivery
from hf_pipelines.resources.incidents import BOOK_KEY, Book, Pair, asked_dismissals, load_book, save_book
from hf_pipelines.resources.notifier import Notifier, check_link
from hf_pipelines.resources.parquet_io_manager import Storage
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.storage_errors import StorageUnavailableError

# Twice the pace of the sensors that make things: 30 seconds.
TICKS_A_LOOK = 2

# How far behind the book may be about runs in which nothing happened.
BOOK_AGE = timedelta(minutes=1)


def operations_definitions(tree: dg.ComponentTree) -> dg.Definitions:
    """Checks `on_time` and the sensor `watch` for every market and strategy of a component tree."""
    watched = Watched.of(tree)
    return dg.Definitions(asset_checks=on_time_checks(watched), sensors=[watch_sensor(watched)])


def watch_sensor(watched: Watched) -> dg.SensorDefinition:
    """Sensor `watch`."""

    @dg.sensor(
        name="watch",
        minimum_interval_seconds=TICKS_A_LOOK * settings.tick_seconds(),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Notices failed runs, failed checks, bars, models and signals that are late, gaps, drift and decisions; reports each incident once, and "
            "once when it has healed, to the log, to the webhook in HF_WEBHOOK_URL, and to the channels in HF_ALERT_URLS."
        ),
    )
    def watch(
        context: dg.SensorEvaluationContext, storage: Storage, clock: Clock, notifier: Notifier
    ) -> dg.SensorResult:
        now = clock.now()
        instance = context.instance
        before = load_book(instance)
        book = load_book(instance)
        if context.repository_def is not None:
            RunWatch(Outcomes(instance, context.repository_def), watched, now).update(book)
        reported: list[dg.AssetCheckEvaluation] = []
        noticed = Noticed.of_cursor(context.cursor)
        try:
            reported = look_for_late(watched, storage.store(), instance, book, now)
            for fault in look_for_drift([each.name for each in watched.strategies], storage.store(), book, now):
                context.log.warning(fault)
            noticed = notice(View(watched, storage.store(), now, settings.late_after()), book, noticed)
        except StorageUnavailableError as e:
            context.log.warning(f"what is late or has drifted is not known: {e}")
        book.dismiss(asked_dismissals(instance, book.open), now)
        book.forget_old(now)
        if is_news(before, book):
            save_book(instance, book)
        desk = DeskKeeper(instance, BOOK_KEY, context.log)
        Delivery(partial(save_book, instance), book, notifier, context.log, now, desk).run()
        summary = f"{len(book.open)} open incidents, {len(book.pending)} messages to deliver"
        return dg.SensorResult(asset_events=reported, cursor=noticed.cursor, skip_reason=dg.SkipReason(summary))

    return watch


def is_news(before: Book, book: Book) -> bool:
    """Whether a book must be written: how far its runs were looked at alone is not worth a write a tick."""
    if replace(before, runs_until="") != replace(book, runs_until="") or not before.runs_until:
        return True
    return datetime.fromisoformat(book.runs_until) - datetime.fromisoformat(before.runs_until) > BOOK_AGE


def look_for_late(
    watched: Watched, store: PartitionStore, instance: dg.DagsterInstance, book: Book, now: datetime
) -> list[dg.AssetCheckEvaluation]:
    """Open and heal incidents of what is late; returns the checks whose answer has changed.

    Raises
    ------
    StorageUnavailableError
        If the store does not answer.
    """
    inventory = watched.read(store, now)
    expected = expectations(inventory.markets, inventory.strategies, now=now, late_after=settings.late_after())
    late = inventory.late(now, settings.late_after())
    _heal_late(book, inventory, expected, store, now)
    _open_late(book, late, now)
    found = evaluations(late, assets_of(watched))
    return [each for each in found.values() if _is_changed(instance, each)]


def _open_late(book: Book, late: Sequence[Late], now: datetime) -> None:
    """One incident for what became late of an asset since the last look."""
    for asset in sorted({each.asset for each in late}):
        known = book.waiting("late")
        new = [each for each in late if each.asset == asset and (asset, each.partition) not in known]
        if new:
            book.open_incident(
                "late",
                [(asset, each.partition) for each in new],
                cause="; ".join(each.why for each in new[:5]) + ("" if len(new) <= 5 else f"; and {len(new) - 5} more"),
                remedy=new[-1].remedy,
                url=check_link(asset, ON_TIME),
                now=now,
            )


def _heal_late(
    book: Book, inventory: Inventory, expected: Iterable[Expectation], store: PartitionStore, now: datetime
) -> None:
    """Heal what has come; a model that is no longer judged is still waited for."""
    unmet = {(each.asset, each.partition) for each in expected if not each.is_met}
    oldest = _oldest_judged(inventory, now)
    for pair in sorted(book.waiting("late") - unmet):
        asset, partition = pair
        if is_there(store, asset, partition):
            book.heal("late", [pair], cause=f"{asset} {partition} is there", now=now)
        elif (later := _later_model(inventory, pair)) is not None:
            book.heal("late", [pair], cause=f"{asset} {partition} was not made; {later} has come", now=now)
        elif partition >= oldest.get(asset, "9"):
            book.heal("late", [pair], cause=f"{asset} {partition} is no longer expected", now=now)


def _oldest_judged(inventory: Inventory, now: datetime) -> dict[str, str]:
    """First session that is judged, by asset."""
    assets = [(market.bars_asset, market) for market in inventory.markets]
    assets += [(strategy.signals_asset, strategy.market) for strategy in inventory.strategies]
    judged = {asset: judged_sessions(market, now) for asset, market in assets}
    return {asset: sessions[0].isoformat() for asset, sessions in judged.items() if sessions}


def _later_model(inventory: Inventory, pair: Pair) -> str | None:
    """Model of a later week, which makes that of an earlier one unnecessary."""
    for strategy in inventory.strategies:
        if strategy.model_asset == pair[0]:
            return max((week for week in strategy.models if week > pair[1]), default=None)
    return None


def _is_changed(instance: dg.DagsterInstance, found: dg.AssetCheckEvaluation) -> bool:
    """Whether the web UI shows another answer; a check that never ran is not reported while nothing is late."""
    record = instance.event_log_storage.get_asset_check_summary_records([found.asset_check_key])[found.asset_check_key]
    last = record.last_completed_check_execution_record
    if last is None or last.evaluation is None:
        return not found.passed
    return (last.evaluation.passed, last.evaluation.description) != (found.passed, found.description)
