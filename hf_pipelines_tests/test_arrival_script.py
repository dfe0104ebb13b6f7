"""The script of a soak: the same by its seed, every session once, and nothing broken left behind."""

from collections import Counter

import pytest

from hf_pipelines_tests.arrival_script import TROUBLES, Arrival, ArrivalScript, Need

SEEDS = range(4)


@pytest.fixture(scope="module", params=SEEDS, ids=lambda seed: f"seed {seed}")
def script(request: pytest.FixtureRequest) -> ArrivalScript:
    return ArrivalScript(weeks=13, seed=request.param)


def laid_down(arrivals: list[Arrival]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for arrival in arrivals:
        found |= arrival.files
    return found


def test_script_of_the_same_seed_is_the_same_and_of_another_seed_another(script):
    assert ArrivalScript(weeks=13, seed=script.seed).arrivals == script.arrivals
    assert ArrivalScript(weeks=13, seed=script.seed + 100).arrivals != script.arrivals


def test_script_sends_every_session_once_and_again_only_where_it_is_revised(script):
    sent = Counter(day for each in script.arrivals if not each.is_noise for day in each.sessions)
    expected = Counter([*script.days, *(day for day in sent if day in script.missing_from_history)])
    again = sent - expected
    assert expected <= sent and not {day for day in script.history.sessions} & set(expected)
    assert again.total() == sum(kind.startswith("revised") for each in script.arrivals for kind in each.kinds)


def test_script_with_its_noise_ends_with_the_files_of_the_one_without(script):
    noisy = laid_down(script.arrivals)
    baseline = laid_down([each for each in script.arrivals if not each.is_noise])
    history = script.history.files
    copies = {name for name in noisy if name.endswith("-again.parquet")}
    strays = {name for each in script.arrivals if each.kinds == ("stray",) for name in each.files}
    kept = {name: each for name, each in noisy.items() if name not in copies | strays}
    assert {**history, **kept} == {**history, **baseline}
    # A note, and a file of a Saturday, for each week but the first.
    assert len(strays) == 2 * (script.weeks - 1) and not strays & set(baseline)
    # A copy that differed from its original would be a second file of the session.
    assert all(noisy[name] == {**history, **noisy}[name.replace("-again", "")] for name in copies)


def test_script_of_a_quarter_has_every_trouble_and_waits_before_the_past_changes(script):
    kinds = Counter(kind for each in script.arrivals for kind in each.kinds)
    assert set(kinds) >= {"daily", "broken", "duplicate", "in two parts", *TROUBLES}
    changed = [each for each in script.arrivals if set(each.kinds) & set(TROUBLES)]
    assert {each.need for each in changed} == {Need.REST}
