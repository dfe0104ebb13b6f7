"""Promotions by real processes, at once and killed: one champion, and everybody is told what came of it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hf_pipelines.research.promotion.lifecycle import PROMOTED
from hf_pipelines.resources.promotions.history import history_of
from hf_pipelines_tests.checkout import RANKING, WEEK, built_checkout, make_checkout
from hf_pipelines_tests.components.test_promotion import NOTHING
from hf_pipelines_tests.fault_folder import FaultFolder
from hf_pipelines_tests.resources.promotions.test_following import portfolio
from hf_pipelines_tests.running import running

ASSET = "short_ranking/promotion"


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
