"""Notifications through the real daemon to a real HTTP server: once per incident, once when healed, none lost.

A market whose files arrive, its arrival sensor and the watch run as they do for a user. The receiver is away for a
while, and so are daemon and code server. The web server is the project's own: it tells when the daemon stands still.
"""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hf_pipelines_tests.canaries import file_texts
from hf_pipelines_tests.checkout import Checkout, make_checkout
from hf_pipelines_tests.pipeline import TIMEZONE, session_bars, sessions_from, shipped_features
from hf_pipelines_tests.running import Running, running
from hf_pipelines_tests.servers import free_port, wait_until

pytestmark = pytest.mark.servers

WAIT_S = 120.0
TOKEN = "s3cret-t0ken"
WEEKS = ("2012-01-08", "2012-01-15")

CHECK = """
query Check($asset: [String!]!) {
  assetCheckExecutions(assetKey: {path: $asset}, checkName: "on_time", limit: 20) {
    status runId evaluation { description success }
  }
}
"""


@dataclass
class Receiver:
    """An HTTP server that keeps what is posted to it, and can be away."""

    port: int = field(default_factory=free_port)
    got: list[dict[str, Any]] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/{TOKEN}"

    def start(self) -> None:
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got.append({**json.loads(body), "path": self.path, "key": self.headers["Idempotency-Key"]})
                self.send_response(204)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                """Into no test's output."""

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def seen(self) -> list[tuple[str, str, str, str]]:
        return [(each["event"], each["kind"], each["asset"], each["partition"]) for each in self.got]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()


def fed_checkout(folder: Path, landing: Path, bars: pl.DataFrame) -> Checkout:
    """A checkout of one market, whose files land in a folder; it needs no history."""
    symbols = sorted(set(bars["symbol"]) - {"^INDEX"})
    attributes = {
        "name": "small",
        "universe": [{"symbol": each} for each in symbols],
        "benchmark": "^INDEX",
        "calendar": "XNYS",
        "timezone": TIMEZONE,
        "source": {"type": "files", "uri": str(landing)},
        "start": str(bars["session"].min()),
        "end": str(bars["session"].max()),
        "features": shipped_features("temporal"),
    }
    return make_checkout(folder, [], markets=[attributes])


@dataclass
class Watching:
    """What runs, where files land, and who is told."""

    services: Running
    landing: Path
    bars: pl.DataFrame
    receiver: Receiver
    # What people are alerted by.
    desk: Receiver

    def land(self, *days: str) -> None:
        for day in days:
            frame = self.bars.filter(pl.col("session") == date.fromisoformat(day))
            frame.write_parquet(self.landing / "arriving")
            (self.landing / "arriving").rename(self.landing / f"{day}.parquet")

    def ticks(self) -> list[dict[str, Any]]:
        return self.services.ticks(limit=1000).get("watch", [])

    def wait_for_looks(self, n: int = 2) -> None:
        """Until the watch has looked `n` times more, from the beginning to the end."""
        before = {each["id"] for each in self.ticks()}

        def has_looked() -> bool:
            ended = [each for each in self.ticks() if each["id"] not in before and each["status"] != "STARTED"]
            return len(ended) > n

        wait_until(has_looked, "looks of the watch", timeout_s=WAIT_S, every_s=0.2)

    def wait_for_messages(self, n: int) -> None:
        wait_until(lambda: len(self.receiver.got) >= n, f"{n} messages, got {self.receiver.seen()}", timeout_s=WAIT_S)

    def on_time(self) -> list[dict[str, Any]]:
        """What the web UI shows of the check on time of the market's bars, the newest first."""
        return list(self.services.graphql(CHECK, asset=["small", "bars"])["assetCheckExecutions"])

    def wait_for_check(self, *, is_passed: bool) -> None:
        def is_there() -> bool:
            evaluation = self.on_time()[0]["evaluation"]
            return evaluation is not None and evaluation["success"] is is_passed

        wait_until(is_there, f"check on time with success {is_passed}", timeout_s=WAIT_S, every_s=0.5)

    def status(self, *options: str) -> Any:
        checkout = Checkout(self.services.checkout.root, self.services.checkout.data, self.services.env)
        done = checkout.hfp("status", *options)
        assert done.returncode in (0, 2), done.stderr
        return done

    def logs(self) -> str:
        """Everything that the services wrote, the compute logs among it."""
        folders = (self.services.folder, self.services.checkout.data)
        return "\n".join(text for folder in folders for _, text in file_texts(folder))


class Guarded(Running):
    """With the web server that `hfp ui` and `hfp stack` start."""

    def command(self, name: str) -> list[str]:
        command = super().command(name)
        return ["hf_pipelines.serving.webserver" if each == "dagster_webserver" else each for each in command]


@pytest.fixture
def watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watching]:
    monkeypatch.setattr("hf_pipelines_tests.running.Running", Guarded)
    bars = session_bars(sessions_from(date(2012, 1, 9), 2), symbols=2, seed=3)
    landing = tmp_path / "landing"
    landing.mkdir()
    checkout = fed_checkout(tmp_path / "checkout", landing, bars)
    with receiving() as receiver, receiving() as desk:
        env = {
            "HF_WEBHOOK_URL": receiver.url,
            "HF_ALERT_URLS": f"desk=json://127.0.0.1:{desk.port}/hooks/{TOKEN}",
            "HF_ALERT_GATHER_SECONDS": "0",
            "HF_UI_URL": "http://ui.example:3000",
            "HF_LATE_HOURS": "0",
            "HF_TICK_SECONDS": "1",
            # Other work on the machine is no news.
            "HF_LEAST_DISK_MB": "0",
            "HF_LEAST_MEMORY_MB": "0",
        }
        with running(checkout, tmp_path, env) as services:
            yield Watching(services, landing, bars, receiver, desk)


def broken_file_is_told_once(watching: Watching) -> dict[str, Any]:
    """One incident with asset, partition, cause and link; returns what was told."""
    receiver, services = watching.receiver, watching.services
    watching.land("2012-01-09", "2012-01-10", "2012-01-11", "2012-01-12", "2012-01-13")
    store = services.checkout.store()
    wait_until(
        lambda: store.footer("small/bars", WEEKS[0]) is not None,
        "bars of the first week",
        timeout_s=WAIT_S,
        every_s=0.2,
    )

    (watching.landing / "2012-01-17.csv").write_text("symbol,session\nS000,2012-01-17\n")
    watching.wait_for_messages(1)
    opened = receiver.got[0]
    assert receiver.seen() == [("opened", "run", "small/bars", WEEKS[1])]
    (failed,) = [each["id"] for each in services.runs() if each["status"] == "FAILURE"]
    assert "2012-01-17.csv" in opened["cause"] and WEEKS[1] in opened["cause"]
    assert opened["url"] == f"http://ui.example:3000/runs/{failed}"
    assert opened["remedy"] == "correct, add or remove the file concerned: what is changed is taken by itself"
    assert "below, what is changed is taken by itself (at once: hfp materialise small/bars" in opened["cause"]
    assert opened["path"] == f"/hooks/{TOKEN}" and opened["key"] == f"{opened['id']}-opened"

    # Further looks tell nothing new.
    watching.wait_for_looks()
    assert len(receiver.got) == 1
    failing = watching.status("--strict")
    assert failing.returncode == 2 and "on time; 1 open incident, below" in failing.stdout
    assert opened["remedy"] in failing.stdout and "daemon" not in failing.stdout
    return opened


def test_broken_file_is_told_once_and_once_when_it_is_mended(watching):
    opened = broken_file_is_told_once(watching)
    (watching.landing / "2012-01-17.csv").unlink()
    watching.land("2012-01-17")
    watching.wait_for_messages(2)
    healed = watching.receiver.got[1]
    assert (healed["event"], healed["id"], healed["partition"]) == ("healed", opened["id"], WEEKS[1])
    watching.wait_for_looks(1)
    assert len(watching.receiver.got) == 2
    titles = [f"{word}: failed run: small/bars {WEEKS[1]}" for word in ("CRITICAL", "RESOLVED")]
    assert [each["title"] for each in watching.desk.got] == titles
    assert f"Do: {opened['remedy']}\n{opened['url']}\nSince " in watching.desk.got[0]["message"]
    assert json.loads(watching.status("--json").stdout)["open_incidents"] == []
    assert TOKEN not in watching.logs()


@pytest.mark.long
def test_incidents_are_told_once_and_once_when_healed_through_restarts_and_an_absent_receiver(watching):
    receiver, services = watching.receiver, watching.services
    opened = broken_file_is_told_once(watching)

    # The file is corrected while nobody receives; daemon and code server are killed while the message waits.
    receiver.stop()
    (watching.landing / "2012-01-17.csv").unlink()
    watching.land("2012-01-17")
    log = services.checkout.data / "notifications.jsonl"
    wait_until(lambda: '"healed"' in log.read_text(), "healed in the log", timeout_s=WAIT_S)
    services.kill("daemon", "code_server")
    services.start("code_server", "daemon")
    watching.wait_for_looks(1)
    receiver.start()
    watching.wait_for_messages(2)
    healed = receiver.got[1]
    assert (healed["event"], healed["id"], healed["partition"]) == ("healed", opened["id"], WEEKS[1])
    assert healed["remedy"] == "" and " do: " not in healed["text"]

    # A day is left out: late as soon as a later one has bars (HF_LATE_HOURS is 0), and all who say so agree.
    watching.land("2012-01-19")
    watching.wait_for_messages(4)
    assert set(receiver.seen()[2:]) == {
        ("opened", "check", "small/bars", WEEKS[1]),
        ("opened", "late", "small/bars", "2012-01-18"),
    }
    found = {each["kind"]: each for each in receiver.got[2:]}
    late, check = found["late"], found["check"]
    assert (check["severity"], late["severity"]) == ("WARN", "ERROR")
    assert "check complete (a warning)" in check["cause"] and "2012-01-18" in check["cause"]
    assert late["url"] == "http://ui.example:3000/assets/small/bars?view=checks&checkDetail=on_time"
    assert f"2012-01-18.parquet or .csv) into {watching.landing}" in late["remedy"]
    told = json.loads(watching.status("--json").stdout)
    assert [(each["asset"], each["partition"], each["why"]) for each in told["late"]] == [
        ("small/bars", "2012-01-18", late["cause"])
    ]
    watching.wait_for_check(is_passed=False)
    assert watching.on_time()[0]["evaluation"] == {"description": late["cause"], "success": False}
    strict = watching.status("--strict")
    assert strict.returncode == 2
    assert "1 bars LATE" in strict.stdout and late["cause"] in strict.stdout and late["remedy"] in strict.stdout
    print(strict.stdout)

    watching.land("2012-01-18")
    watching.wait_for_messages(6)
    assert {(each["event"], each["id"]) for each in receiver.got[4:]} == {
        ("healed", late["id"]),
        ("healed", check["id"]),
    }
    watching.wait_for_check(is_passed=True)

    # Restarted without a fault: nothing is told again. No tick has failed, and nobody wrote down the webhook's address.
    services.kill("daemon", "code_server")
    services.start("code_server", "daemon")
    watching.wait_for_looks()
    assert len(receiver.got) == len({each["key"] for each in receiver.got}) == 6
    assert [each for each in watching.ticks() if each["status"] == "FAILURE"] == []
    assert json.loads(watching.status("--json").stdout)["open_incidents"] == []
    assert TOKEN not in watching.logs()
    # The answer of the check was reported when it changed, not by every look.
    reported = [each for each in watching.on_time() if not each["runId"]]
    assert len(reported) <= 4 < len(watching.ticks())

    # The daemon stands still, so that no sensor is evaluated: told from outside of it and of the code server.
    daemon = services.servers["daemon"].process
    daemon.send_signal(signal.SIGSTOP)
    services.kill("webserver")
    # Longer than from one sign of a daemon to the next (30 s): on its way again it has to give one of each kind at once.
    services.env["HF_SILENT_MINUTES"] = "0.55"
    services.start("webserver")
    watching.wait_for_messages(7)
    assert receiver.seen()[6:] == [("opened", "stopped", "daemon", "")]
    assert "nothing is made, trained or noticed by itself" in receiver.got[6]["cause"]
    strict = watching.status("--strict")
    assert (strict.returncode, f"  daemon: {receiver.got[6]['cause']}" in strict.stdout) == (2, True)
    assert f"    do: {receiver.got[6]['remedy']}" in strict.stdout
    daemon.send_signal(signal.SIGCONT)
    watching.wait_for_messages(8)
    assert receiver.seen()[7:] == [("healed", "stopped", "daemon", "")]
    told = [each["title"] for each in watching.desk.got]
    assert told[-2:] == ["CRITICAL: stopped: daemon", "RESOLVED: stopped: daemon"]
    well = watching.status("--strict")
    assert (well.returncode, "daemon" in well.stdout) == (0, False)
