"""Decision: every gate held to the evidence, and whether all of them pass.

Lives here: the rules that all gates share: what is missing fails, what was selected fails, what is not asked is said. Not here: the gates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from hf_pipelines.research.promotion.evidence import Evidence, plain_number
from hf_pipelines.research.promotion.gate import Gate, Threshold
from hf_pipelines.research.promotion.registry import GATES
from hf_pipelines.research.wording import some_of

PASSED, FAILED, MISSING, NOT_ASKED = "passed", "failed", "missing", "not asked"

SELECTED = "The parameters were chosen by the very rows that it is measured on: it is no out-of-sample number."
LATER = (
    "too few sessions or trades of week {week}: take a later week, hfp retrain {strategy} --week LATER --with-inputs"
)
OUTER = "set `tuning.nested: true`, then hfp retrain {strategy} --week {week} --with-inputs"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What one gate says.

    Attributes
    ----------
    gate : str
        A key of `GATES`.
    value : float, bool, str or None
        None where nothing was measured or there is nothing to measure.
    threshold, default : float, bool or None
        What it was held to, and what would be asked of a strategy that says nothing; None: nothing is asked.
    verdict : {"passed", "failed", "missing", "not asked"}
    why : str
        A sentence.
    command : str
        What makes a missing or selected input, or an old one anew, or of more sessions; else "".
    is_weaker : bool
        Whether less is asked than by default.
    """

    gate: str
    value: float | bool | str | None
    threshold: Threshold
    default: Threshold
    verdict: str
    why: str
    command: str = ""
    is_weaker: bool = False

    @property
    def is_passed(self) -> bool:
        """Whether it does not stand in the way."""
        return self.verdict in (PASSED, NOT_ASKED)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a configuration may be promoted, and why not.

    Attributes
    ----------
    strategy, week : str
    is_gated : bool
        Whether its YAML has `gates`; otherwise it is judged by the defaults, and serves all the same.
    gates : tuple of Judged
        In the order of `GATES`.
    """

    strategy: str
    week: str
    is_gated: bool
    gates: tuple[Judged, ...]

    @property
    def failed(self) -> tuple[Judged, ...]:
        """Gates that stand in the way."""
        return tuple(each for each in self.gates if not each.is_passed)

    @property
    def is_passed(self) -> bool:
        """Whether no gate stands in the way."""
        return not self.failed

    @property
    def headline(self) -> str:
        """The decision in a sentence."""
        if all(each.verdict == NOT_ASKED for each in self.gates):
            return "would pass: none of its gates asks for anything"
        told = "would pass" if self.is_passed else f"refused: {len(self.failed)} of {len(self.gates)} gates fail"
        weaker = [each.gate for each in self.gates if each.is_weaker]
        return told + (f"; asked less than by default: {', '.join(weaker)}" if weaker else "")

    @staticmethod
    def of_record(record: Mapping[str, Any]) -> Decision:
        """The decision that a record of a history holds."""
        return Decision(
            strategy=record["strategy"],
            week=record["week"],
            is_gated=record["yaml"].get("gates") is not None,
            gates=tuple(
                Judged(**{each.name: gate[each.name] for each in fields(Judged) if each.name in gate})
                for gate in record["gates"]
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """For programs, facts and hashes: names and plain values."""
        return {
            "strategy": self.strategy,
            "week": self.week,
            "is_gated": self.is_gated,
            "is_passed": self.is_passed,
            "headline": self.headline,
            "gates": [
                {
                    name: plain_number(value) if isinstance(value, float) else value
                    for name, value in asdict(each).items()
                }
                for each in self.gates
            ],
        }


def judge_gates(evidence: Evidence, asked: Mapping[str, Threshold] | None) -> Decision:
    """Hold the evidence to every gate.

    Parameters
    ----------
    evidence : Evidence
    asked : mapping of str to threshold, or None
        Thresholds that differ from the defaults, by the names of `GATES`; None of a threshold, or False: nothing is asked. None
        of a strategy without `gates`: it is judged by the defaults.

    Returns
    -------
    Decision

    Raises
    ------
    ValueError
        If a gate is unknown, or a threshold out of its range.
    """
    given = check_thresholds({} if asked is None else asked)
    found = tuple(_judge(gate, evidence, given.get(name, gate.default)) for name, gate in GATES.items())
    return Decision(strategy=evidence.strategy, week=evidence.week, is_gated=asked is not None, gates=found)


def check_thresholds(asked: Mapping[str, Threshold]) -> dict[str, Threshold]:
    """Thresholds by the names of their gates, checked.

    Raises
    ------
    ValueError
        If a gate is unknown, or a threshold out of its range.
    """
    if unknown := sorted({*asked} - {*GATES}):
        raise ValueError(f"`gates` must be among {', '.join(GATES)}, was {some_of(unknown)}.")
    return {name: GATES[name].checked(value) for name, value in asked.items()}


def _judge(gate: Gate, evidence: Evidence, threshold: Threshold) -> Judged:
    places = {"strategy": evidence.strategy, "week": evidence.week, "market": evidence.market}
    found, verdict, command = None, MISSING, gate.remedy.format(**places)
    if lacking := gate.lacking(evidence):
        unmade = [name for name in lacking if name in evidence.unmade]
        told = "Not made yet" if unmade else "Made, of too little to tell it"
        why = f"{told}: {', '.join(unmade or lacking).replace('_', ' ')}."
        # To make the same once more would tell no more.
        command = command if unmade or gate.grows else LATER.format(**places)
    else:
        is_asked = threshold is not None and threshold is not False
        # What is not asked is shown all the same.
        found = gate.judge(evidence, threshold if is_asked else gate.default)
        verdict, why = (PASSED if found.is_passed else FAILED), found.why
        command = command if gate.cures and not found.is_passed else ""
        if evidence.selected & {*gate.reads}:
            verdict, why, command = FAILED, SELECTED, OUTER.format(**places)
    if threshold is None or threshold is False:
        verdict, command = NOT_ASKED, ""
    elif found is not None and found.applied is not None:
        threshold = found.applied
    return Judged(
        gate=gate.name,
        value=None if found is None else found.value,
        threshold=threshold,
        default=gate.default,
        verdict=verdict,
        why=why,
        command=command,
        is_weaker=gate.is_weaker(threshold),
    )
