"""Rules of signals: what a rule may read of a target's predictions.

Lives here: refusing one that would read something else. Does not live here: the rules (`research.signals`), the YAML (`strategy`).
"""

from hf_pipelines.components.strategy_fields import SignalSpec, TargetSpec
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
