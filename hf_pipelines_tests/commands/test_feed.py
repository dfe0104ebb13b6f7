"""`hfp feed`: real sessions of the sample in the landing folder of `us_tech_feed`, and the bars made of them."""

import json
import shutil
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from hf_pipelines.commands.cli import main
from hf_pipelines.commands.feed import SampleReplay, history_weeks
from hf_pipelines.partitions import shift_week
from hf_pipelines.research.bars import SOURCE_SCHEMA
from hf_pipelines.resources.market_data.files import week_of_name
from hf_pipelines_tests.checkout import LOOKBACK_WEEKS, RANKING, REPOSITORY, TRAIN_WEEKS, Checkout, make_checkout
from hf_pipelines_tests.servers import s3_server, wait_until

MARKET = "us_tech_feed"
# The first fed week of a default history: the last thirteen weeks of the sample are left.
WEEK, EARLIER = "2012-12-02", "2012-11-25"
FIRST = shift_week(WEEK, -TRAIN_WEEKS - LOOKBACK_WEEKS)

# Made in one process: bars of both markets, and a model of the first fed week out of the history alone.
CHAIN = f"""
import json
from hf_pipelines.commands.runs import Pipeline
pipeline = Pipeline.open()
def hashes(asset):
    return {{key: pipeline.store.footer(asset, key).content_hash for key in pipeline.store.partitions(asset)}}
for market in ("us_tech", "us_tech_feed"):
    pipeline.materialise([market + "/bars"], "{FIRST}", "{WEEK}")
for group in ("technical", "cross_asset"):
    pipeline.materialise(["us_tech_feed/features/" + group], "{shift_week(WEEK, -TRAIN_WEEKS)}", "{EARLIER}")
pipeline.materialise(["short_feed/training_matrix"], "{WEEK}", "{WEEK}")
print(json.dumps({{asset: hashes(asset) for asset in ("us_tech/bars", "us_tech_feed/bars", "short_feed/training_matrix")}}))
"""


def landing_of(data: Path) -> Path:
    return data / "landing" / MARKET


def digests(folder: Path) -> dict[str, str]:
    """Session files of a folder, by name."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.parquet"))}


def sessions_of(names: Iterable[str]) -> list[date]:
    return [date.fromisoformat(name.removesuffix(".parquet")) for name in names]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own for `hfp` in this process."""
    monkeypatch.setenv("HF_DATA_DIR", str(tmp_path))
    return tmp_path


@dataclass(frozen=True)
class Initialised:
    """A checkout whose market is traded by a strategy of ten training weeks, its history laid down."""

    checkout: Checkout
    printed: str
    files: list[str]


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Initialised:
    strategy = {**RANKING, "name": "short_feed", "market": MARKET}
    checkout = make_checkout(tmp_path_factory.mktemp("feed") / "checkout", [strategy])
    printed = checkout.succeed("feed", MARKET, "--init")
    return Initialised(checkout, printed, sorted(digests(landing_of(checkout.data))))


# --- history


def test_history_weeks_of_a_market_are_those_of_its_longest_window():
    # 156 weeks of training, and before them 120 bars of the technical group: 120 / 4.5 sessions a week, and one more.
    assert SampleReplay.open(MARKET).history_weeks == 156 + 28


def test_history_weeks_of_a_market_that_nobody_trades_are_those_of_its_features():
    assert history_weeks(SampleReplay.open(MARKET).market, []) == 28


def test_init_lays_down_the_weeks_that_the_strategies_need_and_leaves_a_quarter_to_feed(initialised):
    folder = landing_of(initialised.checkout.data)
    # Windows of ten weeks and of 28, before the thirteen weeks of 2012-12-02 to 2013-02-24.
    assert shift_week(FIRST, 38) == WEEK and shift_week(WEEK, 12) == "2013-02-24"
    sessions = sessions_of(initialised.files)
    assert sessions == SampleReplay.open(MARKET).market.partitions.sessions_between(
        date(2012, 3, 12), date(2012, 11, 30)
    )
    # Good Friday, Memorial, Independence and Labor Day, two days of a hurricane, Thanksgiving.
    assert len(sessions) == 38 * 5 - 7
    assert initialised.printed == (
        f"{MARKET}: history of 183 sessions from 2012-03-12 to 2012-11-30 in {folder}, 183 laid down, 0 there already; "
        "the next session is 2012-12-03\n"
    )


def test_init_again_after_feeding_lays_down_only_what_is_missing(data, capsys):
    assert main(["feed", MARKET, "--init", "--sessions", "2"]) == 0
    folder = landing_of(data)
    (folder / "2012-11-30.parquet").write_bytes(b"revised by the vendor")
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    (folder / "2012-05-01.parquet").unlink()
    capsys.readouterr()
    assert main(["feed", MARKET, "--init"]) == 0
    assert capsys.readouterr().out.endswith("1 laid down, 887 there already; the next session is 2012-12-05\n")
    after = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"2012-05-01.parquet"}
    assert after["2012-05-01.parquet"][1] == before["2012-05-01.parquet"][1]
    assert main(["feed", MARKET, "--sessions", "1"]) == 0
    assert capsys.readouterr().out == f"{MARKET}: fed 1 session(s), 2012-12-05; 58 left\n"
    # A file that was removed, as a broken one is, comes first.
    (folder / "2012-12-04.parquet").unlink()
    assert main(["feed", MARKET, "--sessions", "2"]) == 0
    assert capsys.readouterr().out == f"{MARKET}: fed 2 session(s), 2012-12-04 to 2012-12-06; 57 left\n"
    assert {"2012-12-04.parquet", "2012-12-06.parquet"} <= {path.name for path in folder.iterdir()}


def test_init_killed_in_the_middle_leaves_whole_files_and_goes_on_where_it_was(data, capsys):
    folder = landing_of(data)
    checkout = Checkout(REPOSITORY, data)
    process = checkout.start(checkout.command("feed", MARKET, "--init"))
    wait_until(lambda: len(list(folder.glob("*.parquet"))) >= 20, "twenty files", timeout_s=120)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    half = digests(folder)
    assert 20 <= len(half) < 888
    assert main(["feed", MARKET, "--init"]) == 0
    assert f"{888 - len(half)} laid down, {len(half)} there already" in capsys.readouterr().out
    whole = digests(folder)
    assert len(whole) == 888
    assert half.items() < whole.items()


def test_init_until_a_day_in_mid_week_makes_the_next_session_the_first(data, capsys):
    assert main(["feed", MARKET, "--init", "--until", "2008-07-03", "--sessions", "2"]) == 0
    history, fed = capsys.readouterr().out.splitlines()
    # 2008-07-04 is a holiday, and 2008-07-06 the Sunday of the week that is served first.
    first = date.fromisoformat(shift_week("2008-07-06", -184))
    assert history.endswith("0 there already; the next session is 2008-07-07")
    sessions = sessions_of(digests(landing_of(data)))
    partitions = SampleReplay.open(MARKET).market.partitions
    assert sessions == partitions.sessions_between(first, date(2008, 7, 8))
    left = len(partitions.sessions_between(date(2008, 7, 9), date(2013, 3, 1)))
    assert fed == f"{MARKET}: fed 2 session(s), 2008-07-07 to 2008-07-08; {left} left"


def test_history_of_the_earliest_day_begins_with_the_market():
    days = SampleReplay.open(MARKET).history(date(2003, 9, 5))
    assert (days[0], days[-1]) == (date(2000, 3, 1), date(2003, 9, 5))


# --- what is fed


def test_feed_lays_down_the_next_sessions_and_their_bars_are_those_of_the_sample(initialised):
    checkout, folder = initialised.checkout, landing_of(initialised.checkout.data)
    before = digests(folder)
    printed = checkout.succeed("feed", MARKET, "--sessions", "5")
    assert printed == f"{MARKET}: fed 5 session(s), 2012-12-03 to 2012-12-07; 56 left\n"
    fed = {name: each for name, each in digests(folder).items() if name not in before}
    assert before.items() < digests(folder).items()
    assert list(fed) == [f"2012-12-0{day}.parquet" for day in range(3, 8)]
    frame = pl.read_parquet(folder / "2012-12-03.parquet")
    assert dict(frame.schema) == SOURCE_SCHEMA
    # Closes of that Monday as anybody can look them up.
    assert dict(frame.select("symbol", "close").iter_rows()) == pytest.approx(
        {"AAPL": 586.19, "FB": 27.04, "GOOG": 695.25, "IBM": 189.48, "MSFT": 26.43, "SPX": 1409.46}, abs=0.001
    )

    # A copy under another name is no second file.
    shutil.copy(folder / "2012-12-04.parquet", folder / "2012-12-04-again.parquet")
    done = checkout.run([sys.executable, "-c", CHAIN], timeout_s=300)
    assert done.returncode == 0, done.stdout + done.stderr
    hashes = json.loads(done.stdout.splitlines()[-1])
    assert len(hashes["us_tech/bars"]) == 39
    assert hashes["us_tech_feed/bars"] == hashes["us_tech/bars"]
    # The history was enough for the matrix of the first fed week.
    assert list(hashes["short_feed/training_matrix"]) == [WEEK]
    bars = {name: checkout.store().read(f"{name}/bars", WEEK) for name in ("us_tech", MARKET)}
    assert bars[MARKET].frame.equals(bars["us_tech"].frame)
    assert bars[MARKET].frame.height == 5 * 6
    # The week itself, and the ten weeks before it that hold 44 sessions: a storm and Thanksgiving closed three.
    seen = dict(bars[MARKET].footer.sources)
    assert {name: digest for name, digest in seen.items() if week_of_name(name) == WEEK} == fed
    assert min(seen) == "2012-09-24.parquet"
    assert seen.items() <= digests(folder).items()


def test_feed_to_an_s3_prefix_puts_the_same_bytes(initialised, tmp_path):
    import boto3

    with s3_server(tmp_path) as s3:
        env = {**s3.env, "HF_LANDING_URI": f"s3://{s3.bucket}/hf"}
        remote = Checkout(initialised.checkout.root, tmp_path / "remote", env)
        printed = remote.succeed("feed", MARKET, "--init", "--sessions", "1").splitlines()
        assert f"in s3://{s3.bucket}/hf/landing/{MARKET}, 183 laid down" in printed[0]
        assert printed[1] == f"{MARKET}: fed 1 session(s), 2012-12-03; 60 left"
        client = boto3.client(
            "s3",
            endpoint_url=s3.endpoint,
            region_name="us-east-1",
            aws_access_key_id=s3.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=s3.env["AWS_SECRET_ACCESS_KEY"],
        )
        keys = [each["Key"] for each in client.list_objects_v2(Bucket=s3.bucket)["Contents"]]
        found = {key: client.get_object(Bucket=s3.bucket, Key=key)["Body"].read() for key in keys}
    on_disk = landing_of(initialised.checkout.data)
    expected = [f"hf/landing/{MARKET}/{name}" for name in [*initialised.files, "2012-12-03.parquet"]]
    assert sorted(found) == expected
    assert all(found[key] == (on_disk / key.rpartition("/")[2]).read_bytes() for key in expected[:-1])
    assert pl.read_parquet(found[expected[-1]]).height == 6
    assert not (tmp_path / "remote" / "landing").exists()


def test_feed_beyond_the_sample_feeds_what_is_left_and_then_says_so(data, capsys):
    assert main(["feed", MARKET, "--init", "--sessions", "1000"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == (
        f"{MARKET}: fed 61 session(s), 2012-12-03 to 2013-03-01 (1000 were asked for: the sample has no more); 0 left"
    )
    before = digests(landing_of(data))
    assert main(["feed", MARKET, "--sessions", "1"]) == 1
    message = capsys.readouterr().err
    assert f"`sessions` must be left in the sample to be fed, none is: {landing_of(data)} holds {MARKET}" in message
    assert "up to its last session 2013-03-01; to begin anew, empty the folder." in message
    assert digests(landing_of(data)) == before


# --- what it refuses


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["nope", "--init"], "`market` must be one of us_tech, us_tech_feed, was 'nope'.", id="unknown"),
        # Also before what is missing is asked for.
        pytest.param(["nope"], "`market` must be one of us_tech, us_tech_feed, was 'nope'.", id="unknown-without-flags"),
        pytest.param(["nope", "--until", "2012-01-03"], "`market` must be one of us_tech, us_tech_feed", id="unknown-until"),
        pytest.param(["../us_tech", "--init"], "`market` must be one of us_tech,", id="path"),
        pytest.param(
            ["us_tech", "--init"], "`market` must have a source of type files to be fed, us_tech has sample.", id="sample"
        ),
        pytest.param([MARKET], "`feed` must be given --init, --sessions or both, was neither.", id="neither"),
        pytest.param(
            [MARKET, "--until", "2012-01-03", "--sessions", "1"], "`until` must come with --init", id="until-alone"
        ),
        pytest.param(
            [MARKET, "--sessions", "1"],
            f"landing/us_tech_feed` must hold the history of {MARKET}, was empty; lay it down: hfp feed {MARKET} --init",
            id="before-init",
        ),
        pytest.param([MARKET, "--sessions", "0"], "`sessions` must be at least 1, was 0.", id="none"),
        pytest.param([MARKET, "--init", "--until", "soon"], "`until` must be a date YYYY-MM-DD, was 'soon'.", id="no-date"),
        pytest.param(
            [MARKET, "--init", "--until", "2003-08-29"],
            f"`until` must be at least 2003-09-05: {MARKET} begins 2000-03-01 and its strategies need 184 weeks",
            id="too-early",
        ),
        pytest.param(
            [MARKET, "--init", "--until", "2013-03-01"],
            "`until` must leave sessions to feed, of which the last is 2013-03-01, and be at least 2003-09-05",
            id="too-late",
        ),
    ],
)  # fmt: skip
def test_feed_that_cannot_be_says_what_to_do_and_writes_nothing(data, capsys, arguments, said):
    assert main(["feed", *arguments]) == 1
    message = capsys.readouterr().err
    assert message.startswith("hfp: ")
    assert said in message
    assert list(data.iterdir()) == []


@pytest.mark.parametrize("place", ["landing", "landing/us_tech_feed"])
def test_feed_into_a_folder_that_cannot_be_written_names_it(data, capsys, place):
    path = data / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("not a folder")
    assert main(["feed", MARKET, "--init"]) == 1
    message = capsys.readouterr().err
    assert f"{data}/landing/us_tech_feed" in message
    assert "Not a directory" in message
    assert path.read_text() == "not a folder"
