"""Lookout: notifies a person of what has stopped, from a process that is neither the code server nor the daemon.

Lives here: the thread of the web server that looks, and the notification when a supervisor gives up. Does not live here: the
decision on what has stopped (`resources.pulse`), the channel (`resources.notifier`).

The sensor `watch` reports failures and what is late, but only while it is evaluated. This one reports when it is not:
the web server is there in every deployment and needs neither of the two.
"""

import logging
import os
import signal
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from hf_pipelines.resources import settings
from hf_pipelines.resources.alert_desk import DeskKeeper, alert_of, send_now
from hf_pipelines.resources.delivery import Delivery
from hf_pipelines.resources.incidents import STOPPED_KEY, Book, asked_dismissals, load_book, save_book
from hf_pipelines.resources.notifier import Notification, Notifier
from hf_pipelines.resources.pulse import Stopped, Ticking, crons_of, find_stopped, machine_faults
from hf_pipelines.resources.webhook import NotDeliveredError

LOG = logging.getLogger(__name__)

KIND = "stopped"

# As often as the sensor that watches.
TICKS_A_LOOK = 2

# What does not depend on the daemon.
AT_ONCE = ("disk", "memory", "database")

PAGES = {"sensor": "automation", "schedule": "automation", "queue of runs": "runs"}


class Lookout:
    """What has stopped, over time: reported once when it has stopped, and once when it is well again.

    Parameters
    ----------
    instance : DagsterInstance
    log : logger
    """

    def __init__(self, instance: dg.DagsterInstance, log: Any = LOG) -> None:
        self._instance = instance
        self._log = log
        self._desk = DeskKeeper(instance, STOPPED_KEY, log, (SQLAlchemyError,))
        # Stored after each change; kept in memory while the database is away.
        self._book: Book | None = None
        self._before: set[str] = set()
        self._unloaded: dict[str, datetime] = {}
        self._began: datetime | None = None

    def look(self, ticking: Collection[Ticking], faults: Mapping[str, str], now: datetime) -> list[Stopped]:
        """Look once, tell what is new, and return what has stopped.

        Parameters
        ----------
        ticking : collection of Ticking
            The sensors and schedules of the pipeline as it was loaded last.
        faults : mapping of str to str
            Why code locations are not loaded, by name.
        """
        folders = settings.written_folders()
        began = self._began = self._began or now
        try:
            stopped = find_stopped(self._instance, ticking, now, folders=folders)
            book = self._book = self._book or load_book(self._instance, STOPPED_KEY)
        except SQLAlchemyError as e:
            why = f"it does not answer ({type(e).__name__}): nothing can be launched, and nothing is recorded"
            stopped = [Stopped("database", why, "see that it answers"), *machine_faults(folders)]
            book = self._book = self._book or Book()
        stopped += self._unloaded_too_long(faults, now)
        # After a pause of days everything is old until the daemon has come up.
        is_young = now - began <= settings.silent_after()
        reported = [each for each in stopped if each.what in AT_ONCE or not is_young]
        self._update(book, stopped, reported, now)
        Delivery(self._save, book, Notifier(), self._log, now, self._desk).run()
        return reported

    def _update(self, book: Book, stopped: Sequence[Stopped], reported: Sequence[Stopped], now: datetime) -> None:
        names = {each.what for each in stopped}
        well = {pair for pair in book.waiting(KIND) if pair[0] not in names}
        for pair in sorted(well):
            book.heal(KIND, [pair], cause=f"{pair[0]} is well again", now=now)
        # Twice in a row: memory that is taken for a moment is none that runs out.
        lasting = [each for each in reported if each.what in self._before]
        self._before = {each.what for each in reported}
        waiting = {pair[0] for pair in book.waiting(KIND)}
        new = [each for each in lasting if each.what not in waiting]
        ticks = [each for each in new if each.what.split()[0] in ("sensor", "schedule")]
        for group in [ticks, *([each] for each in new if each not in ticks)]:
            if group:
                _open(book, group, now)
        dismissed: dict[str, str] = {}
        with suppress(SQLAlchemyError):
            book.dismiss(dismissed := asked_dismissals(self._instance, book.open), now)
        if well or new or dismissed:
            self._save(book)

    def _unloaded_too_long(self, faults: Mapping[str, str], now: datetime) -> list[Stopped]:
        """Code that could not be loaded for a while: one that is being reloaded does not count."""
        self._unloaded = {name: self._unloaded.get(name, now) for name in faults}
        return [
            Stopped(
                f"code {name}",
                f"it could not be loaded since {since:%Y-%m-%d %H:%M:%S} UTC: {faults[name]}",
                "correct that, or start the code server; then press Reload under Deployment in the web UI",
            )
            for name, since in sorted(self._unloaded.items())
            if now - since > settings.silent_after()
        ]

    def _save(self, book: Book) -> None:
        with suppress(SQLAlchemyError):
            save_book(self._instance, book, STOPPED_KEY)


class LookoutThread(threading.Thread):
    """Runs as long as the web server. If it ends, the web server ends too and is started again with a new one."""

    def __init__(self, context: Any) -> None:
        super().__init__(name="lookout", daemon=True)
        self._context = context
        self._is_over = threading.Event()

    def run(self) -> None:
        lookout, known = Lookout(self._context.instance), dict[str, list[Ticking]]()
        try:
            while not self._is_over.wait(TICKS_A_LOOK * settings.tick_seconds()):
                faults = {}
                for name, entry in self._context.get_current_workspace().code_location_entries.items():
                    if entry.code_location is not None:
                        known[name] = _ticking_of(entry.code_location)
                    elif entry.load_error is not None:
                        faults[name] = " ".join(entry.load_error.message.split())[:300]
                lookout.look([each for found in known.values() for each in found], faults, datetime.now(UTC))
        finally:
            if not self._is_over.is_set():
                os.kill(os.getpid(), signal.SIGTERM)

    def end(self) -> None:
        self._is_over.set()


def tell_end(command: str, cause: str) -> None:
    """Notify that a supervisor has given up and stopped everything: no other process is left that could."""
    now = datetime.now(UTC)
    book = Book()
    why = f"it has stopped with all its services: {cause}"
    _open(book, [Stopped(command, why, f"mend that, then start `{command}` again")], now)
    (pending,) = book.pending
    _tell(pending.message)


def _tell(message: Notification) -> None:
    notifier = Notifier()
    notifier.log(message, LOG)
    if notifier.has_webhook():
        try:
            notifier.post(message)
        except NotDeliveredError as e:
            LOG.warning(str(e))
    try:
        # Nobody looks again: it waits for nothing.
        faults = send_now(alert_of(message, check="", now=datetime.now(UTC), is_open=True))
    except ValueError as e:
        faults = [f"alerts are not sent: {e}"]
    for fault in faults:
        LOG.warning(fault)


def _open(book: Book, group: Sequence[Stopped], now: datetime) -> None:
    """One incident for what stopped together."""
    first = group[0]
    shown = [first.why, *(f"{each.what}: {each.why}" for each in group[1:5])]
    if len(group) > len(shown):
        shown.append(f"and {len(group) - len(shown)} more")
    page = next((page for begin, page in PAGES.items() if first.what.startswith(begin)), "deployment/daemons")
    book.open_incident(
        KIND,
        [(each.what, "") for each in group],
        cause="; ".join(shown),
        remedy=first.remedy,
        url=f"{settings.ui_url()}/{page}",
        now=now,
        partition="" if len(group) == 1 else f"and {len(group) - 1} more",
    )


def _ticking_of(location: Any) -> list[Ticking]:
    """Sensors and schedules of a code location as the web server knows them."""
    found = []
    for repository in location.get_repositories().values():
        for sensor in repository.get_sensors():
            is_on = sensor.default_status is dg.DefaultSensorStatus.RUNNING
            found.append(Ticking("sensor", sensor.name, is_on, interval_s=float(sensor.min_interval_seconds)))
        for schedule in repository.get_schedules():
            is_on = schedule.default_status is dg.DefaultScheduleStatus.RUNNING
            crons = crons_of(schedule.cron_schedule)
            found.append(Ticking("schedule", schedule.name, is_on, crons=crons, timezone=schedule.execution_timezone))
    return found
