"""Who decides an issue, and which refits are sound: by hand."""

import math

import pytest

from hf_pipelines.research.promotion.lifecycle import (
    PROMOTED,
    REFUSED,
    ROLLED_BACK,
    WITHDRAWN,
    Event,
    Lifecycle,
    lifecycle_of,
)
from hf_pipelines.research.promotion.serving import Refit, Serving, refit_faults, serving_of
from hf_pipelines.research.signals import Reason

ONE, TWO, BACK, AWAY = "one", "two", Event(ROLLED_BACK), Event(WITHDRAWN)


def judged(kind: str, configuration: str, week: str = "2013-01-06") -> Event:
    return Event(kind, week, configuration, {"rule": configuration})


@pytest.mark.parametrize(
    ("events", "serves", "reason", "shadow"),
    [
        pytest.param([], "", Reason.NO_CHAMPION, ONE, id="nothing was decided"),
        pytest.param([judged(REFUSED, ONE)], "", Reason.NO_CHAMPION, ONE, id="refused"),
        pytest.param([judged(PROMOTED, ONE)], "v1.0.0", None, "", id="the YAML's own"),
        pytest.param([judged(PROMOTED, TWO)], "v1.0.0", None, ONE, id="a challenger in the YAML"),
        pytest.param([judged(PROMOTED, ONE), judged(PROMOTED, TWO), BACK], "v1.0.0", None, "", id="gone back to the YAML's"),
        pytest.param([judged(PROMOTED, TWO), judged(PROMOTED, ONE), BACK], "v1.0.0", None, ONE, id="gone back from it"),
        pytest.param([judged(PROMOTED, ONE), AWAY], "", Reason.WITHDRAWN, "", id="withdrawn"),
        pytest.param([judged(PROMOTED, TWO), AWAY], "", Reason.WITHDRAWN, ONE, id="another one was withdrawn"),
        pytest.param([judged(PROMOTED, TWO), judged(PROMOTED, ONE), AWAY, BACK], "v1.0.0", None, "", id="back from a withdrawal"),
    ],
)  # fmt: skip
def test_who_serves(events, serves, reason, shadow):
    found = serving_of(lifecycle_of(events), ONE, is_gated=True)
    told = "" if found.champion is None else str(found.champion.version)
    assert (told, found.reason, found.shadow) == (serves, reason, shadow)
    assert (found.record, found.share) == (len(events), 0.0)
    # A reason where nothing serves, and nowhere else.
    assert (found.champion is None) == (found.reason is not None)


def test_without_gates_no_decision_says_anything():
    for state in (Lifecycle(), lifecycle_of([judged(PROMOTED, TWO), AWAY])):
        assert serving_of(state, ONE, is_gated=False) == Serving(is_gated=False)


def test_a_refit_is_held_to_the_one_before_it():
    scores = [0.54, 0.52, 0.51, 0.45, 0.45, 0.60]
    refits = [Refit(f"2013-01-{6 + 7 * at:02d}", score, "trusted") for at, score in enumerate(scores[:4])]
    assert refit_faults(refits, margin=0.02) == {
        "2013-01-27": "its outer score is 0.45, more than 0.02 below that of week 2013-01-20, 0.51"
    }
    # One that stays low is taken the week after.
    weeks = [Refit(f"2013-01-{1 + 5 * at:02d}", score, "trusted") for at, score in enumerate(scores)]
    assert [*refit_faults(weeks, margin=0.02)] == ["2013-01-16"]
    assert refit_faults(weeks, margin=0.1) == {}


def test_a_refit_without_controls_or_score_is_not_sound():
    refits = [
        Refit("2013-01-06", 0.5, None),
        Refit("2013-01-13", 0.5, "not trusted"),
        Refit("2013-01-20", 0.5, "cannot be judged"),
        Refit("2013-01-27", math.nan, "trusted"),
        # Nothing to be held to, and no accident of its own.
        Refit("2013-02-03", 0.1, "trusted"),
        Refit("2013-02-10", None, "trusted"),
    ]
    assert refit_faults(refits, margin=0.0) == {
        "2013-01-06": "its controls: not made",
        "2013-01-13": "its controls: not trusted",
        "2013-01-20": "its controls: cannot be judged",
        "2013-01-27": "it has no outer score",
        "2013-02-10": "it has no outer score",
    }
    assert [*refit_faults(refits, margin=0.0, needs_controls=False)] == ["2013-01-27", "2013-02-10"]
