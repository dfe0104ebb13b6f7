"""Promotions by real processes, at once and killed: one champion, and everybody is told what came of it."""

import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hf_pipelines.components.display import parquet_bytes
from hf_pipelines.partitions import shift_week
from hf_pipelines.research.promotion.lifecycle import (
    PROMOTED,
    ROLLED_BACK,
    ROLLOUT_ADVANCED,
    ROLLOUT_STARTED,
    ROLLOUT_STOPPED,
    STAGED,
)
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.mlflow_tracking import MLflowTracking
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.promotions.history import History, history_of
from hf_pipelines_tests.checkout import RANKING, TRAINING, WEEK, Checkout, built_checkout, make_checkout
from hf_pipelines_tests.components.test_promotion import NOTHING
from hf_pipelines_tests.fault_folder import FaultFolder
from hf_pipelines_tests.resources.promotions.test_following import assert_whole, portfolio
from hf_pipelines_tests.running import running

ASSET = "short_ranking/promotion"

# A week before the last one that is stored: eight sessions of issues follow it. One session is a block, and little evidence is enough.
EARLIER = shift_week(WEEK, -1)
QUICK = {"shadow_sessions": 1, "block_sessions": 1, "level": 0.5, "worse_level": 0.2}
CHAMPION = {**RANKING, "training": {**TRAINING, "weeks": 8}, "gates": NOTHING, "rollout": QUICK}
CHALLENGER = {**CHAMPION, "signal": {"type": "rank_long_short", "params": {"n_long": 2, "n_short": 2}}}
MEMBERS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")


@pytest.mark.servers
@pytest.mark.long
def test_promotions_from_the_web_ui_and_from_shells_at_once_leave_one_champion(tmp_path: Path) -> None:
    shutil.copytree(built_checkout().checkout.data, tmp_path / "data")
    checkout = make_checkout(tmp_path / "checkout", [{**RANKING, "gates": NOTHING}], tmp_path / "data")
    with running(checkout, tmp_path / "instance") as services:
        runs = [services.launch([ASSET], WEEK, tags={"hf/reason": f"run {n}", "hf/actor": "Ann"}) for n in range(2)]
        shells = [
            checkout.start(checkout.command("promote", "short_ranking", "--reason", f"shell {n}")) for n in range(2)
        ]
        told = ["".join(each.communicate(timeout=300)) for each in shells]
        ended = [services.wait_for_run(each) for each in runs]
        history = history_of(checkout.store().objects, "short_ranking")
        # Who came second made no second champion of the same refit.
        assert [each["kind"] for each in history.records] == [PROMOTED], told
        assert history.state.champion is not None and str(history.state.champion.version) == "v1.0.0"
        (record,) = history.records
        winner = record["reason"]
        assert [each.returncode for each in shells] == [0 if f"shell {n}" == winner else 1 for n in range(2)], told
        assert ended == ["SUCCESS" if f"run {n}" == winner else "FAILURE" for n in range(2)]
        for n, words in enumerate(told):
            if f"shell {n}" != winner:
                assert "champion" in words and "Traceback" not in words, words
        # The web UI shows what a shell shows.
        assert "v1.0.0" in checkout.succeed("history", "short_ranking")


@pytest.mark.servers
@pytest.mark.long
def test_commands_that_are_killed_at_each_of_their_steps_leave_one_champion_and_each_payload_once(
    tmp_path: Path,
) -> None:
    """`hfp promote` and `hfp history --sync`, each a process of its own, which dies by SIGKILL at a put."""
    shutil.copytree(built_checkout().checkout.data, tmp_path / "data")
    checkout = make_checkout(tmp_path / "checkout", [{**RANKING, "gates": NOTHING}], tmp_path / "data")
    faults = FaultFolder(tmp_path / "faults")
    objects, why = checkout.store().objects, ("short_ranking", "--reason", "why")

    def kinds() -> list[str]:
        return [each["kind"] for each in history_of(objects, "short_ranking").records]

    with portfolio() as (url, got):
        checkout = replace(checkout, env={**faults.env, "HF_PORTFOLIO_URL": url})

        def killed(point: str, key: str, command: str, *arguments: str) -> list[str]:
            """Kinds of decisions after a command died at a put."""
            faults.plant(point, key=key)
            done = checkout.hfp(command, *arguments)
            assert done.returncode < 0, (point, key, command, done.stdout, done.stderr)
            return kinds()

        first = "_promotions/short_ranking/00000001.json"
        # A record that is there stands, whatever of the rest was not done.
        assert killed("before", first, "promote", *why) == []
        assert killed("after", first, "promote", *why) == [PROMOTED]
        again = checkout.hfp("promote", *why)
        assert again.returncode == 1 and "it is the champion already" in again.stderr and kinds() == [PROMOTED]
        sync = ("history", "short_ranking", "--sync")
        for point in ("before", "after"):
            assert killed(point, "_outbox/short_ranking/00000001.json", *sync) == [PROMOTED]
        # Taken and not noted: it is sent once more, under the same id.
        assert killed("before", "_delivered/short_ranking/00000001.json", *sync) == [PROMOTED]
        assert "v1.0.0" in checkout.succeed(*sync)
        assert len(got) == 2 and len({key for key, _ in got}) == 1


@dataclass(frozen=True)
class Rolling:
    """A checkout whose processes a fault may kill, and what the portfolio layer got from it."""

    checkout: Checkout
    faults: FaultFolder
    got: list[tuple[str, dict[str, Any]]]

    @property
    def history(self) -> History:
        return history_of(self.checkout.store().objects, "short_ranking")

    @property
    def kinds(self) -> list[str]:
        return [each["kind"] for each in self.history.records]

    def killed(self, point: str, key: str, command: str, *arguments: str) -> list[str]:
        """Kinds of decisions after a command died at a put."""
        self.faults.plant(point, key=f"_{key}.json")
        done = self.checkout.hfp(command, "short_ranking", *arguments)
        assert done.returncode == -signal.SIGKILL, (point, key, command, done.stdout, done.stderr)
        return self.kinds

    def assert_whole(self) -> None:
        """All is done that follows from the history, each payload under one id, and MLflow has the champion that the history has."""
        tracking = MLflowTracking(uri=f"sqlite:///{self.checkout.data / 'mlflow.db'}")
        assert_whole(self.checkout.store(), tracking, self.got, "short_ranking")
        champion = self.history.state.champion
        assert champion is not None
        version = tracking.client().get_model_version_by_alias("short_ranking", "champion")
        assert version.tags["hf.version"] == str(champion.version)


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A champion, a challenger that is staged by the same week and is what the YAML says, and no issue."""
    folder = tmp_path_factory.mktemp("staged")
    shutil.copytree(built_checkout().checkout.data, folder / "data")
    shutil.rmtree(folder / "data" / "storage" / "short_ranking" / "signals")
    first = make_checkout(folder / "first", [CHAMPION], folder / "data")
    first.succeed("retrain", "short_ranking", "--week", EARLIER)
    first.succeed("promote", "short_ranking", EARLIER, "--reason", "the first")
    checkout = make_checkout(folder / "second", [CHALLENGER], folder / "data")
    checkout.succeed("materialise", "short_ranking/backtest", "--from", EARLIER)
    checkout.succeed("promote", "short_ranking", EARLIER, "--stage", "--reason", "broader")
    return checkout


@contextmanager
def rolling(staged: Checkout, folder: Path) -> Iterator[Rolling]:
    faults = FaultFolder(folder / "faults")
    with portfolio() as (url, got):
        env = {**faults.env, "HF_PORTFOLIO_URL": url}
        yield Rolling(staged.copy_of_data(folder / "data", **env), faults, got)


def issue_by_hand(checkout: Checkout) -> None:
    """Issues of all sessions since the week in which the challenger holds the share that gains most in the next session."""
    store = checkout.store()
    bars = pl.concat([store.read("us_tech/bars", week).frame for week in (EARLIER, WEEK)])
    gain = (pl.col("close").shift(-1).over("symbol") / pl.col("open").shift(-1).over("symbol")).fill_null(1.0)
    shares = bars.filter(pl.col("symbol").is_in(MEMBERS)).sort("symbol", "ts")
    gains = shares.with_columns(gain=gain)
    ranked = gains.with_columns(rank=pl.col("gain").rank("ordinal").over("session")).sort("ts", "symbol")
    started = history_of(store.objects, "short_ranking").records[-1]["rollout"]
    facts: Mapping[str, Any] = {
        "promotion": {"is_gated": True, "shadow": started["configuration"], "champion": "v1.0.0"}
    }
    for (day,), rows in ranked.partition_by("session", as_dict=True).items():
        best, worst = (
            rows.select("symbol", "session", "ts", weight=(pl.col("rank") == each).cast(pl.Float64))
            for each in (len(MEMBERS), 1)
        )
        issue = worst.with_columns(issue_kind=pl.lit("backfill"))
        content = Content(issue, {"shadow.parquet": parquet_bytes(best)}, facts=facts)
        store.publish(
            "short_ranking/signals", str(day), content, Stamp("by hand", "by hand", "2013-03-02T20:05:00+00:00")
        )


START = ("--start", EARLIER, "--reason", "passed every gate")
BACK = ("--champion", "v1.1.0", "--reason", "it lost")
STEPS = [ROLLOUT_ADVANCED] * 3


@pytest.mark.servers
def test_rollout_and_rollback_that_are_killed_between_their_steps_leave_one_champion_and_each_payload_once(
    staged: Checkout, tmp_path: Path
) -> None:
    """The short form: each command is killed after the first thing it leaves, and goes on when it is called again."""
    with rolling(staged, tmp_path) as at:
        begun = [PROMOTED, STAGED, ROLLOUT_STARTED]
        assert at.killed("after", "promotions/short_ranking/00000003", "rollout", *START) == begun
        issue_by_hand(at.checkout)
        assert at.killed("after", "promotions/short_ranking/00000005", "rollout") == [*begun, *STEPS[:2]]
        # Two at once make the rest, each step once.
        both = [at.checkout.start(at.checkout.command("rollout", "short_ranking")) for _ in range(2)]
        told = ["".join(each.communicate(timeout=300)) for each in both]
        assert [each.returncode for each in both] == [0, 0], told
        assert at.kinds == [*begun, *STEPS, PROMOTED]
        assert [each["rollout"]["share"] for each in at.history.records[2:]] == [0.0, 0.1, 0.25, 0.5, 1.0]
        at.assert_whole()

        # Taken by the portfolio layer and not noted; then it is sent once more, under the same id.
        told = at.killed("before", "delivered/short_ranking/00000003", "rollback", *BACK)
        assert told == [*begun, *STEPS, PROMOTED, ROLLED_BACK]
        again = at.checkout.hfp("rollback", "short_ranking", *BACK)
        assert again.returncode == 1 and "it may be done already" in again.stderr
        at.checkout.succeed("history", "short_ranking", "--sync")
        assert str(at.history.state.champion.version) == "v1.0.0" and len(at.kinds) == 8
        at.assert_whole()
        # What two at once have both sent, or a process that was killed, has one id.
        told = [body["decision"] for _, body in at.got]
        assert told[0] == PROMOTED and told[-2:] == [ROLLED_BACK] * 2 and len({key for key, _ in at.got}) == 3


@pytest.mark.servers
@pytest.mark.long
def test_rollout_and_rollback_that_are_killed_at_every_put_leave_one_champion_and_each_payload_once(
    staged: Checkout, tmp_path: Path
) -> None:
    with rolling(staged, tmp_path) as at:
        kinds, again = [PROMOTED, STAGED], ("--stop", "--reason", "not today")

        def both(number: int, kind: str, command: str, *arguments: str) -> None:
            """Killed before the record, nothing is decided; killed after it, it is."""
            record = f"promotions/short_ranking/{number:08d}"
            assert at.killed("before", record, command, *arguments) == kinds
            kinds.append(kind)
            assert at.killed("after", record, command, *arguments) == kinds

        both(3, ROLLOUT_STARTED, "rollout", *START)
        both(4, ROLLOUT_STOPPED, "rollout", *again)
        # What was stopped is staged no more.
        at.checkout.succeed("promote", "short_ranking", EARLIER, "--stage", "--reason", "once more")
        kinds.append(STAGED)
        both(6, ROLLOUT_STARTED, "rollout", *START)
        issue_by_hand(at.checkout)
        for number in (7, 8, 9):
            both(number, ROLLOUT_ADVANCED, "rollout")
        both(10, PROMOTED, "rollout")
        after = [*kinds]
        for number, command in ((2, ("rollout",)), (3, ("rollback", *BACK))):
            if number == 3:
                both(11, ROLLED_BACK, *command)
                after, command = [*kinds], ("history", "--sync")
            for folder in ("outbox", "delivered"):
                for point in ("before", "after"):
                    assert at.killed(point, f"{folder}/short_ranking/{number:08d}", *command) == after
        # Asked again about the champion that it was about, it does not go back twice.
        refused = at.checkout.hfp("rollback", "short_ranking", *BACK)
        assert refused.returncode == 1 and "it may be done already" in refused.stderr and at.kinds == kinds
        at.checkout.succeed("history", "short_ranking", "--sync")
        at.assert_whole()
        assert str(at.history.state.champion.version) == "v1.0.0" and at.history.state.rollout is None
        assert [each["rollout"]["share"] for each in at.history.records[5:10]] == [0.0, 0.1, 0.25, 0.5, 1.0]


@pytest.mark.servers
@pytest.mark.long
def test_rollbacks_of_two_shells_at_once_go_back_once(staged: Checkout, tmp_path: Path) -> None:
    with rolling(staged, tmp_path) as at:
        at.checkout.succeed("promote", "short_ranking", EARLIER, "--reason", "broader")
        shells = [at.checkout.start(at.checkout.command("rollback", "short_ranking", *BACK)) for _ in range(2)]
        told = ["".join(each.communicate(timeout=300)) for each in shells]
        assert sorted(each.returncode for each in shells) == [0, 1], told
        assert at.kinds == [PROMOTED, STAGED, PROMOTED, ROLLED_BACK] and "Traceback" not in "".join(told)
        at.checkout.succeed("history", "short_ranking", "--sync")
        at.assert_whole()


@pytest.mark.servers
@pytest.mark.long
def test_an_issue_of_a_champion_that_is_killed_while_it_is_made_is_made_again_the_same(
    staged: Checkout, tmp_path: Path
) -> None:
    asset, make = "short_ranking/signals", ("materialise", "short_ranking/signals", "--from", "2013-02-19")
    undisturbed = staged.copy_of_data(tmp_path / "undisturbed")
    undisturbed.succeed(*make)
    wanted = undisturbed.store().read(asset, "2013-02-19").footer
    assert {*wanted.attachments} == {"shadow.parquet"}
    with rolling(staged, tmp_path) as at:
        for point, key, n_issued in (
            ("after", ".*shadow.parquet", 0),
            ("before", f"{asset}/2013-02-19.parquet", 0),
            ("after", f"{asset}/2013-02-19.parquet", 1),
        ):
            at.faults.plant(point, key=key)
            assert at.checkout.hfp(*make).returncode == -signal.SIGKILL
            assert len(at.checkout.store().partitions(asset)) == n_issued
        at.checkout.succeed(*make)
        found = at.checkout.store().read(asset, "2013-02-19").footer
        assert (found.content_hash, found.attachments) == (wanted.content_hash, wanted.attachments)
        assert "no mismatches" in at.checkout.succeed("verify", asset)
