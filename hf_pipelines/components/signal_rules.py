"""Rules of signals: what a rule may read of a target's predictions.

Lives here: refusing one that would read something else. Does not live here: the rules (`research.signals`), the YAML (`strategy`).
"""

from hf_pipelines.components.strategy_fields import SignalSpec, TargetSpec
from hf_pipelines.research.learners import LearnerChoice
from hf_pipelines.research.signals import RULES
from hf_pipelines.research.targets import TARGETS


def require_direction(signal: SignalSpec, target: TargetSpec) -> None:
    """Refuse a rule that would take something else for a return, or a return for something else: the most volatile would be bought."""
    if (read := signal.needs.targets) and target.type not in read:
        raise ValueError(
            f"`target` must be {' or '.join(read)} for the rule {signal.type!r}, which reads its predictions as such, was "
            f"{target.type!r}; take such a target, or another rule."
        )
    if signal.needs.direction and not TARGETS[target.type].is_directional:
        able = ", ".join(name for name, kind in TARGETS.items() if kind.is_directional)
        raise ValueError(
            f"`target` must be one of which a higher prediction is a higher return for the rule {signal.type!r}, was "
            f"{target.type!r}; take another target ({able}), or a rule of your own that declares `direction=False`."
        )


def require_target_params(signal: SignalSpec, target: TargetSpec) -> None:
    """Refuse a rule that understands the predictions otherwise than the labels were made."""
    labelled = target.build().params
    for name, value in signal.needs.target_params.items():
        if labelled.get(name) != value:
            raise ValueError(
                f"`signal.params.{name}` must be that of the target, {labelled.get(name)!r}, was {value!r}: rule "
                f"{signal.type!r} reads predictions as they were labelled; write the same in both."
            )


def require_columns(signal: SignalSpec, learner: LearnerChoice, target: TargetSpec, *, named: str) -> None:
    """Refuse a rule that reads what nothing predicts, or believes probabilities that nothing calibrates."""
    if signal.needs.calibrated and learner.calibration is None:
        raise ValueError(
            "`signal.sizing` must be without kelly, which takes probabilities at their word, for a learner without `calibration`, was "
            "with it; give the learner a `calibration`, or take another size."
        )
    predicted = learner.prediction_columns(target.build().classes)
    if lacking := sorted(set(signal.needs.columns) - set(predicted)):
        # What has no default names no column.
        needs = {
            name: entry.needs({each: getattr(p, "default", None) for each, p in entry.params.items()})
            for name, entry in sorted(RULES.items())
        }
        able = [
            name
            for name, each in needs.items()
            if set(each.columns) <= set(predicted)
            and target.type in (each.targets or TARGETS)
            # What is made of others or of conditions reads what these say.
            and RULES[name].nested is None
        ]
        raise ValueError(
            f"`signal` must be a rule on what learner {named!r} predicts of target {target.type!r} "
            f"({', '.join(predicted)}), was {signal.type}, which reads {', '.join(lacking)}; take {' or '.join(able)}, or "
            "another learner and target."
        )
