"""Kinds: what an alert may be about, and how serious it may be.

Lives here: one registry, by which routes are written and messages are worded. Does not live here: who opens one.
"""

from dataclasses import dataclass

# From the least to the most serious.
SEVERITIES = INFO, WARNING, CRITICAL = ("info", "warning", "critical")


@dataclass(frozen=True)
class Kind:
    """What an alert may be about.

    Attributes
    ----------
    words : str
        For a person, before the name of what it is about.
    meaning : str
        One line of the guide.
    """

    words: str
    meaning: str


def kind_of(incident: str, subject: str, check: str = "") -> str:
    """Kind of an alert about an incident; what has stopped is told apart by what it is, and the controls from other checks.

    Examples
    --------
    >>> kind_of("run", "us_tech/bars"), kind_of("stopped", "sensor watch"), kind_of("stopped", "hfp stack")
    ('run', 'sensor', 'service')
    >>> kind_of("check", "tech/validation", "controls")
    'controls'
    """
    if incident == "check" and check == "controls":
        return "controls"
    if incident != "stopped":
        return incident
    first = subject.split(" ")[0]
    return first if first in STOPPABLE else "service"


STOPPABLE = {
    "daemon": Kind("stopped", "no sign of the daemon: nothing is made, trained or noticed by itself"),
    "sensor": Kind("stopped", "a sensor that does not tick, or fails"),
    "schedule": Kind("missed", "a schedule that has missed its time"),
    "queue": Kind("stopped", "runs that wait for nothing"),
    "disk": Kind("running out", "room on a disk (HF_LEAST_DISK_MB)"),
    "memory": Kind("running out", "free memory (HF_LEAST_MEMORY_MB)"),
    "database": Kind("stopped", "Dagster's database does not answer"),
    "code": Kind("not loaded", "a code location that cannot be loaded"),
    "service": Kind("stopped", "a supervisor that has given up, such as hfp stack"),
}

KINDS = {
    "run": Kind("failed run", "a run that failed, and is not run again by itself"),
    "check": Kind("failed check", "an asset check that failed or warned"),
    "late": Kind("late", "bars, models or signals that are stale: not there HF_LATE_HOURS after they could be"),
    "gap": Kind("gap in a source", "weeks without bars between weeks that have some"),
    "controls": Kind("controls failed", "a week of a strategy whose results are not trusted"),
    "drift": Kind("drift", "features or predictions unlike those of the training, beyond the calibrated threshold"),
    "decay": Kind("decay", "a live score below what the out-of-fold interval allows"),
    **STOPPABLE,
    "promotion": Kind("promoted", "a configuration that serves, or gets another share of the capital, from now on"),
    "rollback": Kind("rolled back", "a strategy that went back to an earlier configuration, or serves none"),
    "refusal": Kind("refused by its gates", "a configuration that was judged and not promoted"),
}
