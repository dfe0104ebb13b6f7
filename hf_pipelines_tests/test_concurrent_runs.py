"""Two runs of the same week, from different listings of the landing folder: whichever ends last, no day is lost.

The first run is stopped by the kernel right before it puts its partition; meanwhile a file arrives and a second run is
asked for. From the command line nothing keeps them apart; from the web UI the pool of the market does.
"""

import dataclasses
import signal
import subprocess
import time

import polars as pl
import pytest

from hf_pipelines_tests.fault_folder import FaultFolder
from hf_pipelines_tests.landing import MARKET, Landing, make_landing
from hf_pipelines_tests.running import running
from hf_pipelines_tests.servers import wait_until

pytestmark = pytest.mark.servers

BARS = f"{MARKET}/bars"
WAIT_S = 240.0


@dataclasses.dataclass(frozen=True)
class Race:
    """A market of two sessions; a run that is about to put their week stops."""

    landing: Landing
    faults: FaultFolder

    @property
    def week(self) -> str:
        return self.landing.weeks[0]

    def arm(self) -> None:
        self.faults.plant("stop", key=f"{BARS}/{self.week}\\.parquet")

    def held(self) -> tuple[list[str], list[str]]:
        """Sessions and source files of the week as it is stored."""
        stored = self.landing.store.read(BARS, self.week)
        sessions = stored.frame["session"].unique().sort().cast(pl.String).to_list()
        return sessions, sorted(stored.footer.sources)


@pytest.fixture
def race(tmp_path):
    landing = make_landing(tmp_path, weeks=1, strategies=[])
    faults = FaultFolder(tmp_path / "faults")
    checkout = dataclasses.replace(landing.checkout, env=faults.env)
    return Race(dataclasses.replace(landing, checkout=checkout), faults)


def start(race: Race) -> subprocess.Popen:
    checkout = race.landing.checkout
    return checkout.start(checkout.command("materialise", BARS, "--from", race.week))


def test_older_run_that_ends_last_reads_again_and_loses_no_day(race):
    first, second = race.landing.sessions[:2]
    race.landing.deliver([first])
    race.arm()
    older = start(race)
    stopped = race.faults.stopped()
    race.landing.deliver([second])
    newer = start(race)
    assert newer.wait(WAIT_S) == 0, newer.communicate()[1]
    both = ([f"{first}", f"{second}"], [f"{first}.parquet", f"{second}.parquet"])
    assert race.held() == both
    stopped.send_signal(signal.SIGCONT)
    assert older.wait(WAIT_S) == 0, older.communicate()[1]
    assert race.held() == both
    # It did put what it had read, the first session alone: the fault was there to be mended.
    assert len(race.landing.store.versions(BARS, race.week)) == 1


def test_run_whose_source_lost_a_file_is_refused_and_the_day_stays(race):
    first, second = race.landing.sessions[:2]
    race.landing.deliver([first, second])
    assert start(race).wait(WAIT_S) == 0
    (race.landing.folder / f"{first}.parquet").unlink()
    refused = race.landing.checkout.hfp("materialise", BARS, "--from", race.week)
    assert refused.returncode == 1
    assert f"`source` must still hold {first}.parquet" in refused.stderr
    assert race.held()[0] == [f"{first}", f"{second}"]


def test_runs_launched_from_the_web_ui_wait_for_each_other_and_lose_no_day(race, tmp_path):
    first, second = race.landing.sessions[:2]
    race.landing.deliver([first])
    # Without the arrival sensor: both runs are an operator's.
    sensors = [f"{MARKET}_arrivals"]
    with running(race.landing.checkout, tmp_path / "instance", without_sensors=sensors) as services:
        race.arm()
        older = services.launch([BARS], race.week)
        stopped = race.faults.stopped()
        race.landing.deliver([second])
        newer = services.launch([BARS], race.week)
        services.wait_for_status(newer, "QUEUED")
        # The coordinator looks every second: it has seen the newer one, and left it.
        seen = time.time() + 5
        wait_until(lambda: time.time() > seen, "five seconds")
        assert services.status(newer) == "QUEUED"
        stopped.send_signal(signal.SIGCONT)
        assert services.wait_for_run(older) == services.wait_for_run(newer) == "SUCCESS"
        began = {each["id"]: each["started"] for each in services.runs()}
        ended = {each["id"]: each["ended"] for each in services.runs()}
        assert began[newer] >= ended[older]
    assert race.held() == ([f"{first}", f"{second}"], [f"{first}.parquet", f"{second}.parquet"])
