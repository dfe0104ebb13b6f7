"""Soak: weeks of arrivals on real processes, with everything in the way, against the same arrivals without faults.

Lives here: the play with broken and duplicate files and SIGKILL at random moments, and what must be equal to the
baseline play at its end. Does not live here: what arrives (`arrival_script`), the baseline play (`baseline`).

`python -m hf_pipelines_tests.soak --weeks 52 --seed 3` prints arrivals, faults, runs and losses; its status is 1 if
anything differs. Both plays begin with the same stored history. The baseline runs beside the other, one arrival
ahead or more: what it has stored at rest is what the other one is waited for.
"""

import argparse
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random

import psutil
from dagster import DagsterEventType, DagsterRun, DagsterRunStatus
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.tags import WILL_RETRY_TAG

from hf_pipelines.partitions import week_key
from hf_pipelines.resources.market_data.files import week_of_name
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import VOLATILE_COLUMNS
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines_tests.arrival_script import Arrival, ArrivalScript, Need
from hf_pipelines_tests.baseline import StateReader
from hf_pipelines_tests.checkout import Checkout, make_checkout
from hf_pipelines_tests.forked import popen
from hf_pipelines_tests.landing import FOLLOWER, GROUPS, MARKET, STRATEGY, settle
from hf_pipelines_tests.pipeline import TIMEZONE, shipped_features
from hf_pipelines_tests.running import Running, is_run_worker
from hf_pipelines_tests.sample_bars import REFERENCE
from hf_pipelines_tests.servers import postgres_server, wait_until

BARS, MODEL, SIGNALS = f"{MARKET}/bars", f"{STRATEGY}/fitted_model", f"{STRATEGY}/signals"

# What is killed, and how often of all times. A run alone is no restart.
RESTARTS = ("everything", "code server and runs", "daemon", "code server and runs", "web server", "code server alone")
RUN_ALONE = "run alone"
SESSIONS_A_RESTART, SESSIONS_A_KILLED_RUN = 8, 25
LONGEST_DELAY_S, LONGEST_DOWNTIME_S = 1.5, 2.0

# The vendor's day is at most as long as this.
LONGEST_DAY_S = 1.0

# A run is at work sooner or later, or the play is over; what arrived is noticed, or others come before anybody looked.
AT_WORK_S, NOTICED_S = 60.0, 15.0
AWAITED_SHARE = 0.6
LAUNCHING = {DagsterRunStatus.STARTING, DagsterRunStatus.NOT_STARTED}

REST_S, LOOK_EVERY_S = 300.0, 0.3
N_SHOWN = 5


# A run that Dagster announced to retry and did not, and one whose retry failed because the code server was away, are
# asked for again by the sensors: in production after minutes.
RETRY_PATIENCE_S, BACKOFFS_S = 15, (5, 15, 45)
SPEEDUP = f"""
RETRY_PATIENCE = timedelta(seconds={RETRY_PATIENCE_S})
BACKOFF = tuple(timedelta(seconds=each) for each in {BACKOFFS_S})
"""


def make_place(folder: Path, script: ArrivalScript) -> Checkout:
    """A checkout whose only market is fed from its data folder, and whose sensors lose their patience in seconds."""
    attributes = {
        "name": MARKET,
        "universe": script.universe,
        "benchmark": REFERENCE,
        "calendar": "XNYS",
        "timezone": TIMEZONE,
        "source": {"type": "files", "uri": f"landing/{MARKET}"},
        "start": str(script.all_sessions[0]),
        "end": str(script.all_sessions[-1]),
        "features": shipped_features(*GROUPS),
    }
    checkout = make_checkout(folder / "checkout", [FOLLOWER], folder / "noisy", markets=[attributes])
    with (checkout.root / "hf_pipelines" / "components" / "automation" / "work.py").open("a") as module:
        module.write(SPEEDUP)
    return checkout


@dataclass
class BaselinePlay:
    """The baseline play, a process beside the other one."""

    script: ArrivalScript
    process: "subprocess.Popen[bytes]"
    folder: Path
    states: list[dict[str, str]] = field(default_factory=list)
    _read: int = 0

    @property
    def data(self) -> Path:
        return self.folder / "baseline"

    @property
    def base(self) -> Path:
        """What was stored and tracked before the first arrival."""
        return self.folder / "states.base"

    def state(self, number: int) -> dict[str, str]:
        """What is stored at rest after `number` arrivals."""
        wait_until(lambda: self._has(number), f"baseline state {number}", timeout_s=REST_S * 2, every_s=0.1)
        return self.states[number]

    def _has(self, number: int) -> bool:
        is_over = self.process.poll() is not None
        with (self.folder / "states").open() as lines:
            lines.seek(self._read)
            text = lines.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole.encode())
        self.states += [json.loads(line) for line in whole.splitlines()]
        assert not is_over or len(self.states) > number, f"the baseline play ended:\n{self.log()[-3000:]}"
        return len(self.states) > number

    def log(self) -> str:
        return (self.folder / "baseline.log").read_text(errors="replace")


@contextmanager
def baseline_play(checkout: Checkout, script: ArrivalScript, folder: Path) -> Iterator[BaselinePlay]:
    """Start the baseline play; ended with the block."""
    (folder / "states").touch()
    size = ["--weeks", str(script.weeks), "--seed", str(script.seed), "--symbols", str(script.symbols)]
    command = [sys.executable, "-m", "hf_pipelines_tests.baseline", *size, str(folder / "states")]
    env = {**checkout.environment(), "HF_DATA_DIR": str(folder / "baseline")}
    with (folder / "baseline.log").open("wb") as log:
        process = popen(command, cwd=checkout.root, env=env, stdout=log, stderr=log)
    try:
        yield BaselinePlay(script, process, folder)
    finally:
        process.kill()
        process.wait(30)


@dataclass(frozen=True)
class Runs:
    """Dagster's runs, read from its storage: also while no server runs."""

    storage: DagsterStorage

    def newest(self, limit: int | None = 40) -> Sequence[DagsterRun]:
        return [each.dagster_run for each in self.storage.run_storage.get_run_records(limit=limit)]

    def unfinished(self) -> list[DagsterRun]:
        """Runs that have not ended, and those that will be launched again."""
        records = self.storage.run_storage.get_run_records(limit=40)
        followed = {each.dagster_run.parent_run_id for each in records}
        found = []
        for record in records:
            run = record.dagster_run
            is_announced = run.status is DagsterRunStatus.FAILURE and run.tags.get(WILL_RETRY_TAG) == "true"
            is_awaited = time.time() - (record.end_time or 0.0) < RETRY_PATIENCE_S
            if run.status not in FINISHED_STATUSES or (is_announced and is_awaited and run.run_id not in followed):
                found.append(run)
        return found

    def is_refused(self, run: DagsterRun) -> bool:
        """Whether a run failed by what it read, and not by a kill."""
        of_type = {DagsterEventType.STEP_FAILURE}
        events = self.storage.event_log_storage.get_logs_for_run(run.run_id, of_type=of_type)
        errors = [each.get_dagster_event().step_failure_data.error for each in events]
        return any(error is not None and "Interrupt" not in error.to_string() for error in errors)


@dataclass(frozen=True)
class Fault:
    """A SIGKILL after an arrival, `delay_s` after a run is seen at work; all is started again after `downtime_s`."""

    kind: str
    delay_s: float
    downtime_s: float


def plan_faults(script: ArrivalScript) -> dict[int, Fault]:
    """Faults by the number of the arrival that they follow."""
    rng = Random(f"{script.seed} faults")
    count = max(1, round(len(script.days) / SESSIONS_A_RESTART))
    alone = max(1, round(len(script.days) / SESSIONS_A_KILLED_RUN))
    kinds = [RESTARTS[number % len(RESTARTS)] for number in range(count)] + [RUN_ALONE] * alone
    rng.shuffle(kinds)
    # Spread over the play, and nowhere twice.
    step = (len(script.arrivals) - 1) / len(kinds)
    return {
        int(number * step + rng.random() * step): Fault(
            kind, rng.uniform(0, LONGEST_DELAY_S), rng.uniform(0, LONGEST_DOWNTIME_S)
        )
        for number, kind in enumerate(kinds)
    }


@dataclass
class Report:
    """What a play did and how it ended."""

    arrivals: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    n_issued: int = 0
    lost: list[str] = field(default_factory=list)
    issued_twice: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_equal(self) -> bool:
        return not (self.lost or self.issued_twice or self.differences)

    @property
    def n_restarts(self) -> int:
        return sum(count for kind, count in self.faults.items() if kind in RESTARTS)

    def text(self) -> str:
        lines = [
            f"arrivals: {sum(self.arrivals.values())} ({_listed(self.arrivals)})",
            f"faults: {sum(self.faults.values())}, {self.n_restarts} of them restarts ({_listed(self.faults)})",
            f"runs: {sum(self.runs.values())} ({_listed(self.runs)})",
            f"sessions issued: {self.n_issued}",
            f"losses: {len(self.lost)}{_shown(self.lost)}",
            f"double issues: {len(self.issued_twice)}{_shown(self.issued_twice)}",
            f"differences from the baseline play: {len(self.differences)}{_shown(self.differences)}",
            f"seconds: {self.seconds:.0f}",
        ]
        return "\n".join(lines)


def _listed(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common())


def _shown(found: Sequence[str]) -> str:
    return "".join(f"\n  {each}" for each in found[:N_SHOWN])


class NoisyPlay:
    """A script on real processes, with all that goes wrong; with `faults` None without any of it."""

    def __init__(
        self,
        services: Running,
        script: ArrivalScript,
        baseline: BaselinePlay,
        faults: Mapping[int, Fault] | None,
        say: Callable[[str], None],
    ) -> None:
        self.services, self.script, self.baseline, self.say = services, script, baseline, say
        self.faults, self.is_noisy = faults or {}, faults is not None
        self.rng = Random(f"{script.seed} play")
        self.runs = Runs(services.storage)
        self.reader = StateReader(services.checkout.store())
        self.landing = services.checkout.data / "landing" / MARKET
        self.report = Report()
        self.issued: dict[str, str] = {}
        self.began = time.monotonic()

    def play(self) -> Report:
        """All arrivals with all faults, then rest."""
        with ThreadPoolExecutor(max_workers=1) as troublemaker:
            pending: list[Future[None]] = []
            for number, arrival in enumerate(self.script.arrivals):
                for each in pending:
                    if each.done():
                        each.result()
                if arrival.is_noise and not self.is_noisy:
                    continue
                self._wait_for(arrival.need, number)
                self._arrive(number, arrival)
                if fault := self.faults.get(number):
                    pending.append(troublemaker.submit(self._fail, fault))
            for each in pending:
                each.result()
        self._wait_for(Need.REST, len(self.script.arrivals))
        settle(self.services, timeout_s=REST_S)
        self.report.seconds = time.monotonic() - self.began
        return self.report

    def _arrive(self, number: int, arrival: Arrival) -> None:
        # Several files at once are recognised by their age: none is looked at before the last is there.
        arrival.lay_down(self.landing, is_new=len(arrival.files) > 1)
        self.report.arrivals.update(arrival.kinds)
        day = f"{arrival.sessions[-1]}" if len(arrival.files) == 1 else f"{len(arrival.files)} files"
        self.say(f"{number + 1:4d} of {len(self.script.arrivals)}: {', '.join(arrival.kinds)} {day}")
        began, is_awaited = time.time(), self.rng.random() < AWAITED_SHARE
        with suppress(AssertionError):
            if is_awaited and "broken" in arrival.kinds:
                wait_until(lambda: self._is_noticed(began), "failure", timeout_s=NOTICED_S, every_s=LOOK_EVERY_S)
            elif is_awaited and arrival.need is Need.MODEL:
                wait_until(lambda: self._is_taken(arrival), "new bars", timeout_s=NOTICED_S, every_s=LOOK_EVERY_S)
            else:
                _let_pass(self.rng.uniform(0, LONGEST_DAY_S))

    def _is_noticed(self, since: float) -> bool:
        records = self.runs.storage.run_storage.get_run_records(limit=5)
        return any(
            each.dagster_run.status is DagsterRunStatus.FAILURE and each.create_timestamp.timestamp() >= since
            for each in records
        )

    def _is_taken(self, arrival: Arrival) -> bool:
        footers = [self.reader.store.footer(BARS, week_key(day)) for day in arrival.sessions]
        return set(arrival.files) <= {name for footer in footers if footer for name in footer.sources}

    def _wait_for(self, need: Need, number: int) -> None:
        """Wait until what is stored is what the baseline play had after `number` arrivals."""
        if need is Need.NOTHING:
            return
        expected = self.baseline.state(number)
        if need is Need.MODEL:
            expected = {key: each for key, each in expected.items() if key.startswith(f"{MODEL}/")}
        state: dict[str, str] = {}

        def is_there() -> bool:
            nonlocal state
            if need is Need.REST and self.runs.unfinished():
                return False
            state = self.reader.state()
            self._note_issues()
            return all(state.get(key) == each for key, each in expected.items())

        try:
            wait_until(is_there, need.value, timeout_s=REST_S, every_s=LOOK_EVERY_S)
        except AssertionError as e:
            unfinished = [f"{each.run_id[:8]} {each.job_name} {each.status.value}" for each in self.runs.unfinished()]
            found = [*differences(expected, {key: state.get(key, "") for key in expected}), *unfinished]
            raise AssertionError(f"{e}, before arrival {number + 1}:{_shown(found)}") from e

    def _note_issues(self) -> None:
        """An issue is written once: its object is what it was when it was first seen."""
        for key, tag in self.reader.store.tags(SIGNALS).items():
            if self.issued.setdefault(key, tag) != tag:
                self.report.issued_twice.append(f"{key} was written again")
                self.issued[key] = tag

    def _fail(self, fault: Fault) -> None:
        """Wait for a run at work, kill, and start again what was killed."""
        self._wait_for_work(fault)
        in_flight = [f"{each.job_name} {each.status.value}" for each in self.runs.newest(5) if not each.is_finished]
        self.say(f"     kill -9: {fault.kind}, in flight: {', '.join(in_flight) or 'nothing'}")
        if fault.kind == RUN_ALONE:
            self.report.faults[fault.kind if self._kill_run() else "run that had ended"] += 1
            return
        self.report.faults[fault.kind] += 1
        names = {"daemon": ["daemon"], "web server": ["webserver"], "everything": []}
        with_runs = fault.kind != "code server alone"
        self.services.kill(*names.get(fault.kind, ["code_server"]), with_runs=with_runs)
        _let_pass(fault.downtime_s)
        self.services.start()

    def _wait_for_work(self, fault: Fault) -> None:
        """Wait until a run has been at work for a moment, and is; where all is quiet, idle services are killed.

        A run that is being launched when its code server dies has no process to be missed yet: it is failed after
        `start_timeout_seconds`, two minutes. That is waited for in tests of its own, not here.
        """
        since: float | None = None
        delay_s = fault.delay_s

        def is_at_work() -> bool:
            nonlocal since, delay_s
            found = {each.status for each in self.runs.newest(5)}
            if DagsterRunStatus.STARTED not in found or found & LAUNCHING:
                # It was over sooner than that.
                since, delay_s = None, delay_s * (1.0 if since is None else 0.5)
                return False
            since = since or time.monotonic()
            return time.monotonic() - since >= delay_s

        with suppress(AssertionError):
            wait_until(is_at_work, "run at work", timeout_s=AT_WORK_S, every_s=0.02)

    def _kill_run(self) -> bool:
        """SIGKILL to one run; False if none has a process."""
        leader = psutil.Process(self.services.servers["code_server"].process.pid)
        workers = [each for each in leader.children(recursive=True) if is_run_worker(each)]
        if not workers:
            return False
        with suppress(psutil.NoSuchProcess):
            self.rng.choice(workers).send_signal(signal.SIGKILL)
        return True


def _let_pass(seconds: float) -> None:
    """A moment that nothing marks: what happens at random."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, "passing of time", timeout_s=seconds + 60.0)


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Partitions in words that two states do not share."""
    return [
        f"{key}: {found.get(key, 'not there') or 'not there'}, without faults {expected.get(key, 'not there')}"
        for key in sorted({*expected, *found})
        if expected.get(key) != found.get(key)
    ]


def issue_differences(baseline: PartitionStore, noisy: PartitionStore) -> list[str]:
    """Issues whose rows differ in anything but when they were made."""
    found = []
    for day in sorted({*baseline.partitions(SIGNALS)} & {*noisy.partitions(SIGNALS)}):
        frames = [store.read(SIGNALS, day).frame.drop(VOLATILE_COLUMNS, strict=False) for store in (baseline, noisy)]
        if not frames[0].equals(frames[1]):
            found.append(f"weights of {day} differ")
    return found


def lost_sessions(store: PartitionStore) -> list[str]:
    """Sessions with features and a model of their week, and no issue."""
    issued, models = set(store.partitions(SIGNALS)), store.partitions(MODEL)
    found = []
    for week in models:
        footers = [store.footer(f"{MARKET}/features/{group}", week) for group in GROUPS]
        sessions = set.intersection(*(set(each.session_hashes) if each else set() for each in footers))
        found += sorted(sessions - issued)
    return found


def source_differences(store: PartitionStore, script: ArrivalScript) -> list[str]:
    """Files that arrived and that no bars were made from, and the other way round."""
    arrived: dict[str, str] = {}
    # A file of a Saturday is no noise here: bars of its week are made anew to name it.
    for arrival in (
        script.history,
        *(each for each in script.arrivals if not each.is_noise or each.kinds == ("stray",)),
    ):
        tables = {name: payload for name, payload in arrival.files.items() if name.endswith(".parquet")}
        arrived |= {name: sha256(payload).hexdigest() for name, payload in tables.items()}
    used: dict[str, str] = {}
    judged = []
    for week in store.partitions(BARS):
        footer = store.footer(BARS, week)
        for name, digest in footer.sources.items() if footer else ():
            if week_of_name(name) == week:
                used[name] = digest
            elif digest != arrived.get(name):
                judged.append(f"bars of {week} are judged by another {name}")
    return (
        judged
        + [f"bars are made from another {name}" for name in arrived if arrived[name] != used.get(name)]
        + [f"bars are made from {name}, which never arrived whole" for name in used if name not in arrived]
    )


def leftovers(store: PartitionStore) -> list[str]:
    """Objects that say that something went wrong in the store."""
    found = [key for place in ("_damaged", "_rejected") for key in store.objects.keys(place)]
    return [f"{key} is there" for key in found]


def running_trackers(data: Path) -> int:
    """Runs of the MLflow tracker that have not ended."""
    with sqlite3.connect(f"file:{data / 'mlflow.db'}?mode=ro", uri=True) as tracker:
        return int(tracker.execute("SELECT count(*) FROM runs WHERE status = 'RUNNING'").fetchone()[0])


def judge(report: Report, play: NoisyPlay) -> Report:
    """Compare a play that has come to rest with the baseline."""
    script, store = play.script, play.reader.store
    baseline = PartitionStore(ObjectStore(str(play.baseline.data / "storage")))
    data = play.services.checkout.data
    with suppress(AssertionError):
        # A sensor ends the tracker's runs of what was killed.
        wait_until(lambda: running_trackers(data) == 0, "end of all tracker runs", timeout_s=60.0, every_s=1.0)
    runs = play.runs.newest(None)
    for run in runs:
        kind = run.status.value
        if run.status is DagsterRunStatus.FAILURE:
            kind = "refused its input" if play.runs.is_refused(run) else "killed"
        report.runs[kind] += 1
    shadows = {key for key in store.objects.keys(f"_versions/{SIGNALS}")}
    of_baseline = {key for key in baseline.objects.keys(f"_versions/{SIGNALS}")}
    report.n_issued = len(store.partitions(SIGNALS))
    report.lost += lost_sessions(store)
    report.issued_twice += sorted(shadows ^ of_baseline)
    report.differences += [
        *differences(play.baseline.state(len(script.arrivals)), play.reader.state()),
        *issue_differences(baseline, store),
        *source_differences(store, script),
        *leftovers(store),
        *(f"run {each.run_id} is left {each.status.value}" for each in play.runs.unfinished()),
        *([f"{running_trackers(data)} tracker runs are left RUNNING"] if running_trackers(data) else []),
    ]
    return report


def soak(
    folder: Path,
    *,
    weeks: int,
    seed: int,
    symbols: int = 4,
    has_faults: bool = True,
    has_postgres: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Play a script twice in `folder`, without faults and with them, and compare."""
    script = ArrivalScript(weeks, seed, symbols)
    checkout = make_place(folder, script)
    env = {"HF_TICK_SECONDS": "2"}
    with ExitStack() as stack:
        baseline = stack.enter_context(baseline_play(checkout, script, folder))
        if has_postgres:
            env["HF_POSTGRES_URL"] = stack.enter_context(postgres_server(folder)).url
        services = Running(checkout, folder / "instance", env)
        stack.callback(services.stop)
        services.start("code_server", "webserver")
        baseline.state(0)
        shutil.copytree(baseline.base, checkout.data)
        services.start("daemon")
        faults = plan_faults(script) if has_faults else None
        play = NoisyPlay(services, script, baseline, faults, say)
        return judge(play.play(), play)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Weeks of arrivals with everything in the way, against the same without faults."
    )
    parser.add_argument("--weeks", type=int, default=52)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--symbols", type=int, default=4)
    parser.add_argument("--postgres", action="store_true", help="Dagster's storage in PostgreSQL")
    parser.add_argument("--no-faults", action="store_true", help="the real daemon without faults and noise")
    parser.add_argument("--folder", type=Path, help="keep everything there")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hf_soak_")))
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        report = soak(
            folder.resolve(),
            weeks=given.weeks,
            seed=given.seed,
            symbols=given.symbols,
            has_faults=not given.no_faults,
            has_postgres=given.postgres,
            say=lambda line: print(f"{time.monotonic() - began:6.0f} s  {line}", flush=True),
        )
    print(report.text())
    return 0 if report.is_equal else 1


if __name__ == "__main__":
    sys.exit(main())
