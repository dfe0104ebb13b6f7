"""Lifecycle: versions and stages worked by hand, and what must hold after any sequence of decisions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from hf_pipelines.research.promotion.lifecycle import (
    ARCHIVED,
    DEPRECATED,
    DEVELOPMENT,
    KINDS,
    OF_A_ROLLOUT,
    OVERRIDDEN,
    PRODUCTION,
    PROMOTED,
    REFUSED,
    ROLLED_BACK,
    ROLLOUT_ADVANCED,
    ROLLOUT_STARTED,
    ROLLOUT_STOPPED,
    STAGED,
    STAGING,
    WITHDRAWN,
    Event,
    IllegalEventError,
    Lifecycle,
    follow,
    lifecycle_of,
)
from hf_pipelines.research.promotion.serving import serving_of

# `b` and `e` have other rules than `a`, `c` another target, `d` other features and another learner.
SETTINGS: dict[str, dict[str, Any]] = {
    "a": {"features": ["x"], "target": "return", "rule": "long", "learner": "ridge"},
    "b": {"features": ["x"], "target": "return", "rule": "short", "learner": "ridge"},
    "c": {"features": ["x"], "target": "rank", "rule": "long", "learner": "ridge"},
    "d": {"features": ["x", "y"], "target": "return", "rule": "long", "learner": "lasso"},
    "e": {"features": ["x"], "target": "return", "rule": "flat", "learner": "ridge"},
}
WEEKS = ("2020-01-05", "2020-01-12", "2020-01-19")


def event(kind: str, configuration: str = "", week: str = WEEKS[0], share: float = 0.0) -> Event:
    if kind in OF_A_ROLLOUT:
        return Event(kind, at="2026-01-02", rollout={"configuration": configuration, "share": share})
    if not configuration:
        return Event(kind, at="2026-01-02")
    return Event(kind, week, configuration, SETTINGS[configuration], "2026-01-01")


def after(*events: tuple[str, ...]) -> Lifecycle:
    return lifecycle_of(event(*each) for each in events)


def shown(state: Lifecycle) -> tuple[str | None, str | None]:
    """Champion and previous, each by its version."""
    return tuple(
        None if each is None else f"{each.configuration} {each.version}" for each in (state.champion, state.previous)
    )  # type: ignore[return-value]


def test_versions_of_a_refit_a_rule_and_a_target_by_hand():
    state = after(
        (PROMOTED, "a", WEEKS[0]),
        (PROMOTED, "a", WEEKS[1]),
        (PROMOTED, "b", WEEKS[1]),
        (PROMOTED, "c", WEEKS[1]),
        (OVERRIDDEN, "d", WEEKS[2]),
        (PROMOTED, "a", WEEKS[2]),
    )
    told = [(str(each.version), each.parent and str(each.parent), each.changed) for each in state.releases]
    assert told == [
        ("v1.0.0", None, ()),
        ("v1.0.1", "v1.0.0", ()),
        ("v1.1.0", "v1.0.1", ("rule",)),
        ("v2.0.0", "v1.1.0", ("rule", "target")),
        ("v3.0.0", "v2.0.0", ("features", "learner", "target")),
        # Of the configuration that it refits, not of what served before it.
        ("v1.0.2", "v1.0.1", ()),
    ]
    assert [each.is_override for each in state.releases] == [False] * 4 + [True, False]


def test_a_version_that_was_rolled_back_from_is_never_given_again():
    # `b` is v1.1.0; back at `a` another minor change of it gets the next number.
    state = after((PROMOTED, "a"), (PROMOTED, "b"), (ROLLED_BACK,), (PROMOTED, "e"))
    assert shown(state) == ("e v1.2.0", "a v1.0.0") and state.stages["b"] == DEPRECATED


def test_two_rollbacks_go_two_releases_back_and_a_third_is_refused():
    state = after((PROMOTED, "a"), (PROMOTED, "b"), (PROMOTED, "c"), (ROLLED_BACK,))
    assert shown(state) == ("b v1.1.0", "a v1.0.0")
    state = follow(state, event(ROLLED_BACK))
    assert shown(state) == ("a v1.0.0", None)
    assert state.stages == {"a": PRODUCTION, "b": DEPRECATED, "c": DEPRECATED}
    with pytest.raises(
        IllegalEventError, match="`previous` must be a release to go back to, was none: 1 of 3 releases"
    ):
        follow(state, event(ROLLED_BACK))


def test_withdrawn_nothing_serves_until_a_rollback_or_a_promotion():
    state = after((PROMOTED, "a"), (PROMOTED, "b"), (PROMOTED, "b", WEEKS[1]), (WITHDRAWN,))
    # An earlier refit of what was withdrawn is no way back.
    assert shown(state) == (None, "a v1.0.0") and state.stages == {"a": DEPRECATED, "b": ARCHIVED}
    assert shown(follow(state, event(ROLLED_BACK))) == ("a v1.0.0", None)
    promoted = follow(state, event(PROMOTED, "c"))
    assert shown(promoted) == ("c v2.0.0", "a v1.0.0")
    with pytest.raises(IllegalEventError, match="must serve to be withdrawn, was withdrawn already"):
        follow(state, event(WITHDRAWN))
    alone = after((PROMOTED, "a"), (WITHDRAWN,))
    with pytest.raises(IllegalEventError, match="`previous` must be"):
        follow(alone, event(ROLLED_BACK))
    assert shown(follow(alone, event(PROMOTED, "a", WEEKS[1]))) == ("a v1.0.1", None)


def test_what_was_withdrawn_comes_back_through_its_gates_and_by_no_override():
    state = after((PROMOTED, "a"), (PROMOTED, "b"), (WITHDRAWN,))
    with pytest.raises(
        IllegalEventError, match="was archived; what was withdrawn comes back only by passing its gates"
    ):
        follow(state, event(OVERRIDDEN, "b", WEEKS[1]))
    # Nor by the detour over a stage.
    refused = follow(follow(state, event(STAGED, "b")), event(REFUSED, "b"))
    assert refused.stages["b"] == ARCHIVED
    assert follow(refused, event(PROMOTED, "b", WEEKS[1])).stages["b"] == PRODUCTION


def test_stages_of_what_is_judged_by_hand():
    state = after((REFUSED, "a"), (STAGED, "b"), (PROMOTED, "c"), (REFUSED, "c", WEEKS[1]))
    assert state.stages == {"a": DEVELOPMENT, "b": STAGING, "c": PRODUCTION}
    assert follow(state, event(REFUSED, "b", WEEKS[1])).stages["b"] == DEVELOPMENT
    assert follow(state, event(PROMOTED, "b", WEEKS[1])).stages == {"a": DEVELOPMENT, "b": PRODUCTION, "c": DEPRECATED}
    with pytest.raises(IllegalEventError, match="must be another than that of the champion v1.0.0"):
        follow(state, event(PROMOTED, "c"))
    with pytest.raises(
        IllegalEventError,
        match="must be one of development, staging, deprecated, archived to be staged, was production",
    ):
        follow(state, event(STAGED, "c"))


def advanced(configuration: str, share: float) -> Event:
    return event(ROLLOUT_ADVANCED, configuration, share=share)


def test_a_rollout_goes_step_by_step_beside_a_champion_and_ends_with_it():
    state = after((PROMOTED, "a"), (STAGED, "b"), (ROLLOUT_STARTED, "b"))
    assert (state.rollout.configuration, state.rollout.share, state.rollout.number) == ("b", 0.0, 3)
    assert shown(state) == ("a v1.0.0", None) and state.stages["b"] == STAGING
    assert state.headline.endswith("; 0% of the capital follows configuration b")
    for share in (0.25, 0.0, 1.0):
        with pytest.raises(IllegalEventError, match=r"`share` of what is rollout_advanced must be 10%, was"):
            follow(state, advanced("b", share))
    with pytest.raises(IllegalEventError, match="must stand at 50% to be completed, did not"):
        follow(state, Event(PROMOTED, WEEKS[0], "b", SETTINGS["b"], rollout={"configuration": "b", "share": 1.0}))
    for share in (0.1, 0.25, 0.5):
        state = follow(state, advanced("b", share))
        assert state.rollout.share == share
        # The capital of a challenger that the YAML does not say any more follows the champion.
        assert [serving_of(state, each, is_gated=True).share for each in "bc"] == [share, 0.0]
    with pytest.raises(IllegalEventError, match=r"must be a promotion, was 100%"):
        follow(state, advanced("b", 1.0))
    completed = follow(
        state, Event(PROMOTED, WEEKS[0], "b", SETTINGS["b"], rollout={"configuration": "b", "share": 1.0})
    )
    assert shown(completed) == ("b v1.1.0", "a v1.0.0") and completed.rollout is None
    stopped = follow(state, event(ROLLOUT_STOPPED, "b"))
    assert (stopped.rollout, stopped.stages["b"]) == (None, DEVELOPMENT) and shown(stopped) == shown(state)
    with pytest.raises(
        IllegalEventError, match="`stage` of configuration b must be one of staging to be rollout_started, was dev"
    ):
        follow(stopped, event(ROLLOUT_STARTED, "b"))
    # With the champion, or the good opinion of the challenger, it ends.
    for each in (event(WITHDRAWN), event(REFUSED, "b"), event(PROMOTED, "c"), event(OVERRIDDEN, "d")):
        assert follow(state, each).rollout is None
    # A refit that is staged, and what becomes of others, changes nothing of it.
    for each in (event(STAGED, "b", WEEKS[1]), event(REFUSED, "c"), event(STAGED, "c")):
        assert follow(state, each).rollout == state.rollout


def test_a_rollout_needs_a_champion_a_staged_challenger_and_no_other_rollout():
    with pytest.raises(IllegalEventError, match="`champion` must serve for a challenger to be rolled out beside it"):
        follow(after((STAGED, "b")), event(ROLLOUT_STARTED, "b"))
    with pytest.raises(IllegalEventError, match="must be one of staging to be rollout_started, was development"):
        follow(after((PROMOTED, "a"), (REFUSED, "b")), event(ROLLOUT_STARTED, "b"))
    state = after((PROMOTED, "a"), (STAGED, "b"), (STAGED, "c"), (ROLLOUT_STARTED, "b"))
    with pytest.raises(
        IllegalEventError, match="`rollout` must have ended before another one is started, that of configuration b"
    ):
        follow(state, event(ROLLOUT_STARTED, "c"))
    for each in (advanced("c", 0.1), event(ROLLOUT_STOPPED, "c")):
        with pytest.raises(IllegalEventError, match="`rollout` of configuration c must go on to be"):
            follow(state, each)
    with pytest.raises(IllegalEventError, match="`rollout` of an event rollout_stopped must be given"):
        follow(state, Event(ROLLOUT_STOPPED))


def test_an_illegal_event_is_named_by_its_number():
    with pytest.raises(IllegalEventError, match="event 2 of the history: `previous` must be"):
        lifecycle_of([event(PROMOTED, "a"), event(ROLLED_BACK)])
    with pytest.raises(IllegalEventError, match="`kind` must be one of staged"):
        lifecycle_of([event("sold", "a")])
    with pytest.raises(IllegalEventError, match="event promoted must be given"):
        lifecycle_of([event(PROMOTED)])


def one_of(kind: str) -> st.SearchStrategy[Event]:
    if kind in (ROLLED_BACK, WITHDRAWN):
        return st.just(event(kind))
    shares = st.sampled_from([0.0, 0.1, 0.25, 0.5] if kind == ROLLOUT_ADVANCED else [0.0])
    return st.builds(event, st.just(kind), st.sampled_from([*SETTINGS]), st.sampled_from(WEEKS), shares)


EVENTS = st.lists(st.sampled_from(KINDS).flatmap(one_of), max_size=14)


@settings_of(max_examples=250, deadline=None)
@given(EVENTS)
def test_after_any_decisions_one_champion_at_most_and_the_right_previous(events):
    state, legal = Lifecycle(), []
    for each in events:
        before = state
        try:
            state = follow(before, each)
        except IllegalEventError:
            continue
        legal.append(each)
        assert state.number == before.number + 1
        serving = [name for name, stage in state.stages.items() if stage == PRODUCTION]
        assert serving == ([state.champion.configuration] if state.champion else [])
        # A challenger is staged, beside a champion that is another.
        if state.rollout:
            assert state.champion and state.stages[state.rollout.configuration] == STAGING
        if each.kind in (REFUSED, STAGED, *OF_A_ROLLOUT):
            assert (state.champion, state.previous, state.since) == (before.champion, before.previous, before.since)
        elif each.kind in (PROMOTED, OVERRIDDEN):
            assert (state.champion.configuration, state.champion.week) == (each.configuration, each.week)
            assert state.previous == (before.champion or before.previous)
            # A rollback undoes it, and nothing else.
            if before.champion:
                undone = follow(state, event(ROLLED_BACK))
                assert undone.served == before.served and not undone.is_withdrawn
        elif each.kind == ROLLED_BACK:
            assert state.champion == before.previous and before.previous is not None
        else:
            assert state.champion is None and state.stages[before.champion.configuration] == ARCHIVED
        # No way back leads to what was withdrawn since it served.
        assert all(state.stages[each.configuration] != ARCHIVED for each in state.served)
        names = [each.version for each in state.releases]
        assert len({*names}) == len(names)
        assert (
            len({(each.version[:2], each.configuration) for each in state.releases})
            == len({each.configuration for each in state.releases})
            == len({each.version[:2] for each in state.releases})
        )
    assert lifecycle_of(legal) == state
