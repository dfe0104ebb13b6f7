"""Status: what `hfp status` prints, from the same decision as the notifications and the checks.

Lives here: the words. Does not live here: the decision (`lateness`), the command line (`cli`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hf_pipelines.components.operations.activity import Activity, RunUnderWay
from hf_pipelines.components.operations.inventory import Inventory
from hf_pipelines.components.operations.lateness import Gap, Late, MarketInventory, StrategyInventory, find_gaps
from hf_pipelines.partitions import shift_week
from hf_pipelines.research.promotion.lifecycle import Lifecycle
from hf_pipelines.research.wording import printable
from hf_pipelines.resources.alert_desk import ChannelStatus
from hf_pipelines.resources.incidents import Incident
from hf_pipelines.resources.promotions.history import History, PromotionHistoryError
from hf_pipelines.resources.promotions.outbox import Delivery, OutboxError
from hf_pipelines.resources.pulse import Stopped

NONE = "-"


@dataclass(frozen=True)
class Status:
    """What markets and strategies have, what is being made, what is late, and what went wrong."""

    inventory: Inventory
    late: Sequence[Late]
    incidents: Sequence[Incident]
    activity: Activity
    late_after: timedelta
    now: datetime
    holes: Sequence[Gap] = ()
    stopped: Sequence[Stopped] = ()
    strays: Sequence[str] = ()
    issue_faults: Sequence[str] = ()
    outdated: Sequence[str] = ()
    unloaded: Sequence[str] = ()
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    other_overrides: Sequence[str] = ()
    unstarted: Mapping[str, str] = field(default_factory=dict)
    untrusted: Mapping[str, str] = field(default_factory=dict)
    histories: Mapping[str, History | PromotionHistoryError] = field(default_factory=dict)
    deliveries: Mapping[str, Delivery | OutboxError] = field(default_factory=dict)
    ungated: Sequence[str] = ()
    channels: Sequence[ChannelStatus] = ()

    @property
    def is_well(self) -> bool:
        """Whether nothing is late, has failed, is dead, has stopped, is lost or unknown, and all channels take alerts; a warning is no failure."""
        is_calm = all(each.severity == "WARN" for each in self.incidents)
        return is_calm and not (
            self.late
            or self.stopped
            or self.activity.dead
            or self.issue_faults
            or self.untrusted
            or any(each.fault for each in self.channels)
            or any(isinstance(each, PromotionHistoryError) for each in self.histories.values())
            or any(isinstance(each, OutboxError) or each.is_behind for each in self.deliveries.values())
            or self._unloaded_lines()
        )

    def lines(self) -> list[str]:
        """For a person."""
        return [
            *self._table(),
            *self._holdout_lines(),
            *self._champion_lines(),
            *self._delivery_lines(),
            *self._control_lines(),
            *self._start_lines(),
            *self._override_lines(),
            *self._daemon_lines(),
            *self._unloaded_lines(),
            *self._stopped_lines(),
            *self._dead_lines(),
            *self._late_lines(),
            *self._hole_lines(),
            *self._gap_lines(),
            *self._outdated_lines(),
            *self._store_lines(),
            *self._incident_lines(),
            *self._channel_lines(),
        ]

    def to_json(self) -> dict[str, Any]:
        """For a program."""
        return {
            "at": self.now.isoformat(timespec="seconds"),
            "markets": [
                {"market": each.name, "last_session": _iso(each.last_session)} for each in self.inventory.markets
            ],
            "strategies": [
                {
                    "strategy": each.name,
                    "market": each.market.name,
                    "last_model": max(each.models, default=None),
                    "last_signals": _iso(each.last_issued),
                    "holdout": each.holdout,
                    "best_start": self.unstarted.get(each.name),
                    "not_trusted": self.untrusted.get(each.name),
                    "champion": self._champion_words(each.name),
                    "payloads": self._delivery_words(each.name),
                }
                for each in self.inventory.strategies
            ],
            "overrides": {name: dict(each) for name, each in self.overrides.items()},
            "overrides_unlike_the_service": [*self.other_overrides],
            "never_looked_at": [*self.unloaded] if self.activity.is_daemon_alive else [],
            "stopped": [asdict(each) for each in self.stopped],
            "late": [asdict(each) for each in self.late],
            "holes": [asdict(each) for each in self.holes],
            "strays": [*self.strays],
            "issue_faults": [*self.issue_faults],
            "made_by_other_code_or_settings": [*self.outdated],
            "weeks_without_a_model": [asdict(gap) for gap in self._gaps()],
            "under_way": [asdict(each) for each in self.activity.runs],
            "daemon": {
                "is_alive": self.activity.is_daemon_alive,
                "seen": None
                if self.activity.daemon_seen is None
                else self.activity.daemon_seen.isoformat("T", "seconds"),
            },
            "alert_channels": [asdict(each) for each in self.channels],
            "open_incidents": [
                {name: value for name, value in asdict(each).items() if name != "waiting"} for each in self.incidents
            ],
        }

    def _table(self) -> list[str]:
        rows = [("market, strategy", "last session", "last model", "last signals", "")]
        for market in self.inventory.markets:
            rows.append((market.name, _shown(market.last_session), "", "", self._word(market, [market.bars_asset])))
            for each in self.inventory.strategies:
                if each.market.name == market.name:
                    words = self._word(each, [each.model_asset, each.signals_asset])
                    model = max(each.models, default=NONE)
                    rows.append((f"  {each.name}", "", model, _shown(each.last_issued), words))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return [
            "  ".join([*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row[4]]).rstrip()
            for row in rows
        ]

    def _word(self, owner: MarketInventory | StrategyInventory, assets: Sequence[str]) -> str:
        """Whether a market or strategy is on time, what went wrong with it, and what is being made of it."""
        n_open = sum(each.kind != "late" and each.asset.startswith(f"{owner.name}/") for each in self.incidents)
        words = [self._timeliness(owner, assets)]
        if n_open:
            words.append(f"{n_open} open incident{'s' * (n_open > 1)}, below")
        n_dead = sum(any(asset.startswith(f"{owner.name}/") for asset in each.assets) for each in self.activity.dead)
        if n_dead:
            words.append(f"{n_dead} dead run{'s' * (n_dead > 1)}, below")
        if runs := self.activity.of(owner.name):
            words.append(_run_words(runs))
        return "; ".join(words)

    def _timeliness(self, owner: MarketInventory | StrategyInventory, assets: Sequence[str]) -> str:
        n_late = {asset: sum(each.asset == asset for each in self.late) for asset in assets}
        if any(n_late.values()):
            return ", ".join(f"{n} {asset.split('/')[1]} LATE" for asset, n in n_late.items() if n)
        if isinstance(owner, MarketInventory):
            return "on time" if owner.first_session else "nothing stored yet"
        return "on time" if owner.models or owner.last_issued else "never trained"

    def _holdout_lines(self) -> list[str]:
        strategies = self.inventory.strategies
        held = [f"{each.name} (week {each.holdout} and later)" for each in strategies if each.holdout]
        others = [each.name for each in strategies if not each.holdout]
        lines = [f"Hold-out: {', '.join(held)}."] if held else []
        lines += [f"No hold-out, CV sees every week: {', '.join(others)}."] if others else []
        return ["", *lines] if lines else []

    def _champion_lines(self) -> list[str]:
        """A line for each strategy on which anything was decided, one for all others."""
        names = [each.name for each in self.inventory.strategies]
        lines = [printable(f"{name}: {self._champion_words(name)}.") for name in names if name in self.histories]
        others = [name for name in names if name not in self.histories]
        if others:
            told = ", ".join(f"{name} (ungated)" if name in self.ungated else name for name in others)
            lines.append(f"No champion, nothing was ever promoted: {told}.")
        return [*lines, *(printable(each) for each in self._gone_lines({*names}))]

    def _gone_lines(self, names: set[str]) -> list[str]:
        """Of strategies that are none of the project and of which something serves all the same, or whose history is damaged."""
        lines = []
        for name, found in self.histories.items():
            if name in names:
                continue
            if isinstance(found, PromotionHistoryError):
                lines.append(f"{name}: {self._champion_words(name)}.")
            elif found.state.champion is not None:
                lines.append(
                    f"{name}: {found.state.headline}, but it is gone from the project and has no signals; hfp withdraw {name} --reason WHY."
                )
        return lines

    def _champion_words(self, name: str) -> str:
        found = self.histories.get(name)
        if isinstance(found, PromotionHistoryError):
            return f"its history of promotions is damaged: {found}".removesuffix(".")
        headline = (Lifecycle() if found is None else found.state).headline
        return f"{headline}, ungated" if name in self.ungated else headline

    def _delivery_lines(self) -> list[str]:
        """Of strategies whose payloads were not all taken, or are not those of their histories."""
        lines = []
        for name, found in self.deliveries.items():
            if isinstance(found, OutboxError):
                lines.append(printable(f"{name}: {found}"))
            elif found.is_behind:
                lines.append(
                    f"PAYLOADS WAIT: {name}, {found.in_words}; again each minute, and now by: hfp history {name} --sync"
                )
        return lines

    def _delivery_words(self, name: str) -> str | None:
        found = self.deliveries.get(name)
        return None if found is None else str(found) if isinstance(found, OutboxError) else found.in_words or None

    def _control_lines(self) -> list[str]:
        """Of strategies whose newest week failed its controls."""
        return [
            f"NOT TRUSTED: {name}, week {week}: its controls failed; why: hfp validate {name} {week}"
            for name, week in self.untrusted.items()
        ]

    def _start_lines(self) -> list[str]:
        """Of strategies whose first weeks can never be made: the `start` that leaves these out."""
        told = ", ".join(f'{name} (start: "{week}")' for name, week in self.unstarted.items())
        return (
            [f"Weeks before the first that can be trained are shown as missing, without a later `start`: {told}."]
            if told
            else []
        )

    def _override_lines(self) -> list[str]:
        lines = [
            printable(f"set by the environment: {field} of {name} is {value}")
            for name, of_strategy in self.overrides.items()
            for field, value in of_strategy.items()
        ]
        unlike = [f"OVERRIDES unlike those of the running service: {each}" for each in self.other_overrides]
        return [*lines, *unlike]

    def _daemon_lines(self) -> list[str]:
        if self.activity.is_daemon_alive:
            return []
        if any(each.what == "daemon" for each in self.stopped):
            # Listed with what to do.
            return []
        seen = self.activity.daemon_seen
        since = "has never run here" if seen is None else f"was seen last at {seen:%Y-%m-%d %H:%M:%S} UTC"
        return ["", f"The daemon {since}: nothing is made, trained or noticed by itself until it runs (hfp ui)."]

    def _unloaded_lines(self) -> list[str]:
        if not (self.unloaded and self.activity.is_daemon_alive):
            return []
        return [
            "",
            f"The daemon that runs does not know {', '.join(self.unloaded)}: nothing is made of them by itself.",
            "  do: press Reload, under Deployment in the web UI: it loads YAML that was added after the start",
        ]

    def _stopped_lines(self) -> list[str]:
        if not self.stopped:
            return []
        lines = ["", "Stopped, or about to:"]
        for each in self.stopped:
            lines += [f"  {each.what}: {each.why}", f"    do: {each.remedy}"]
        return lines

    def _dead_lines(self) -> list[str]:
        if not self.activity.dead:
            return []
        remedy = "nothing: the daemon fails it, and executes again what was launched, within a minute"
        if not self.activity.is_daemon_alive:
            remedy = (
                "a command that was killed is typed again, and the run is shown no longer once all that it was to make is made; or start the "
                "daemon (hfp ui): it fails the run, and executes again what was launched"
            )
        lines = ["", "Dead runs, recorded as under way:"]
        for each in self.activity.dead:
            what = f"{', '.join(each.assets[:3])} {each.partitions}".strip() or each.job
            lines += [f"  run {each.run_id[:8]}, {what}: {each.death}", f"    do: {remedy}"]
        return lines

    def _late_lines(self) -> list[str]:
        hours = self.late_after.total_seconds() / 3600
        if not self.late:
            return ["", f"Nothing is late (later than {hours:g} h after it could be there)."]
        lines = ["", f"Late, more than {hours:g} h after it could be there:"]
        for each in self.late:
            lines += [f"  {each.asset} {each.partition}", f"    {each.why}", f"    do: {each.remedy}"]
        return lines

    def _gaps(self) -> list[Gap]:
        return [gap for each in self.inventory.strategies for gap in find_gaps(each)]

    def _gap_lines(self) -> list[str]:
        gaps = [gap for gap in self._gaps() if not gap.is_rejected]
        if not gaps:
            return []
        lines = [
            "",
            "Weeks without a model since the first that has one, but for the market's newest; nothing asks for them by itself:",
        ]
        for asset, first, last in _stretches(gaps):
            until = "" if first == last else f" --to {last}"
            lines.append(f"  {asset} {_span(first, last)}: hfp retrain {asset.split('/')[0]} --week {first}{until}")
        return lines

    def _hole_lines(self) -> list[str]:
        lines = []
        if holes := [each for each in self.holes if not each.is_rejected]:
            lines += [
                "",
                "Weeks of which nothing is stored, between weeks of which something is; what reads them lacks it:",
            ]
            lines += self._unfiled_lines([each for each in holes if each.landing])
            for asset, first, last in _stretches(each for each in holes if not each.landing):
                # Features of a week read its bars: in another order the command fails.
                bars = [each for each in holes if each.asset == f"{asset.partition('/')[0]}/bars" != asset]
                before = [each for each in _stretches(each for each in bars if first <= each.partition <= last)]
                made = "".join(f"first {name} {_span(*weeks)}, then " for name, *weeks in before)
                lines.append(
                    f"  {asset} {_span(first, last)}: {made}hfp materialise {asset} --from {first} --to {last}"
                )
        rejected = [
            *((each, f"materialise {each.asset} --from") for each in self.holes if each.is_rejected),
            *((each, f"retrain {each.asset.split('/')[0]} --week") for each in self._gaps() if each.is_rejected),
        ]
        if rejected:
            lines += ["", "Weeks that a guard has rejected, so that nothing of them is stored:"]
        commands = {each.asset: command for each, command in rejected}
        for asset, first, last in _stretches(each for each, _ in rejected):
            lines += [
                f"  {asset} {_span(first, last)}: its bytes are kept under _rejected/{asset}",
                "    do: read in its failed run what was found and mend that; "
                f"then hfp {commands[asset]} {first} --to {last}",
            ]
        return lines

    def _unfiled_lines(self, holes: Sequence[Gap]) -> list[str]:
        """Weeks of bars that wait for files: no command makes them."""
        folders = {each.asset: each.landing for each in holes}
        lines = []
        for asset, first, last in _stretches(holes):
            lines += [
                f"  {asset} {_span(first, last)}: no file of it lies in {folders[asset]}",
                "    do: put its files there, they are taken by themselves; name a week that will never have any in "
                "`known_gaps` of the market",
            ]
        return lines

    def _outdated_lines(self) -> list[str]:
        if not self.outdated:
            return []
        said = "Made by other code or settings than those of now; `hfp current ASSET` names the partitions and what makes them again:"
        return ["", said, *(f"  {asset}" for asset in self.outdated)]

    def _store_lines(self) -> list[str]:
        lines = (
            ["", "Issued signals:", *(f"  {printable(each)}" for each in self.issue_faults)]
            if self.issue_faults
            else []
        )
        if self.strays:
            lines += ["", "No partitions, left alone in the store:", *(f"  {printable(each)}" for each in self.strays)]
        return lines

    def _incident_lines(self) -> list[str]:
        # What is late has its own lines above.
        shown = [each for each in self.incidents if each.kind != "late"]
        if not shown:
            return []
        lines = ["", "Open incidents (one that will not heal or does not matter: hfp incident dismiss ID --why WORDS):"]
        lines += [f"  {line}" for each in shown for line in each.lines()]
        return lines

    def _channel_lines(self) -> list[str]:
        """A line for each alert channel."""
        lines = []
        for each in self.channels:
            told = [f"{each.n_sent} messages sent"]
            told += [f"{each.n_refused} tries refused"] if each.n_refused else []
            told += [f"{each.waiting} alerts wait"] if each.waiting else []
            told += [f"{each.n_lost} alerts given up"] if each.n_lost else []
            lines.append(f"  {each.name}: {', '.join(told)}")
            lines += (
                [f"    DOES NOT TAKE ALERTS: {printable(each.fault)}", f"    do: hfp alert test --channel {each.name}"]
                if each.fault
                else []
            )
        return ["", "Alert channels:", *lines] if lines else []


def _run_words(runs: Sequence[RunUnderWay]) -> str:
    """The first run that is at work, or that waits, and how many more there are."""
    first = next((each for each in runs if not each.is_waiting), runs[0])
    stages = [asset.partition("/")[2] for asset in first.assets]
    shown = ", ".join(stages[:3]) + (", ..." if len(stages) > 3 else "")
    verb = "waiting to make" if first.is_waiting else "making"
    more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
    return f"{verb} {shown} {first.partitions}".rstrip() + f" (run {first.run_id[:8]}{more})"


def _stretches(gaps: Iterable[Gap]) -> list[tuple[str, str, str]]:
    """Asset, first and last week of each stretch of weeks that follow each other."""
    found: list[tuple[str, str, str]] = []
    for gap in gaps:
        asset, first, last = found[-1] if found else ("", "", gap.partition)
        if asset == gap.asset and shift_week(last, 1) == gap.partition:
            found[-1] = (asset, first, gap.partition)
        else:
            found.append((gap.asset, gap.partition, gap.partition))
    return found


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"


def _iso(day: Any) -> str | None:
    return None if day is None else day.isoformat()


def _shown(day: Any) -> str:
    return _iso(day) or NONE
