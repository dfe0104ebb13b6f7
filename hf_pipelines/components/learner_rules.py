"""Rules of the learner of a strategy: what may stand in it together, and what of it a message names.

Lives here: what is judged of a chosen learner and those inside of it. Does not live here: the fields of the YAML (`strategy`,
`strategy_fields`), choosing (`research.learners`), what must be installed (`extras`).
"""

from collections.abc import Iterator

from hf_pipelines.research.learners import LearnerChoice
from hf_pipelines.research.targets import Target


def refuser_of_unknown(learner: LearnerChoice, where: str = "") -> str:
    """What of a learner takes no unknown features: a step before they are filled, a member, or itself."""
    if steps := [step.name for step in learner.steps if not step.handles_missing]:
        return f"the step {steps[0]!r} of learner {learner.name!r}{where}"
    for at, each in enumerate(learner.readers):
        if not each.handles_missing:
            return refuser_of_unknown(each, f" in members.{at} of {learner.name!r}{where}")
    return f"learner {learner.name!r}{where}"


def require_unseen_labels(learner: LearnerChoice) -> None:
    """Refuse an ensemble whose members are judged on rows that a step before them has seen the labels of."""
    seen = [step.name for step in learner.steps if step.reads_labels]
    judges = [each.name for each in and_nested(learner) if each.entry.judges_members]
    if seen and judges:
        raise ValueError(
            f"`preprocessing` of learner {learner.name!r} must not read the labels, was with {', '.join(seen[:5])}, which would see "
            f"those of the rows that {judges[0]} judges its members on; give the step to each of these members."
        )
    for each in learner.nested:
        require_unseen_labels(each)


def require_horizons(learner: LearnerChoice, target: Target) -> None:
    """Refuse a learner of several horizons that is taught or scored by labels of others.

    Raises
    ------
    ValueError
    """
    predicted = learner.horizons("classification" if target.is_classification else "regression")
    if target.horizons and {*target.horizons} != {*predicted}:
        raise ValueError(
            f"`target` must have the horizons that learner {learner.name!r} predicts "
            f"({', '.join(map(str, predicted)) or 'no learner of one output does'}), was "
            f"{', '.join(map(str, target.horizons[:5]))}; take a learner with the output horizons and the same ones, or "
            "another target."
        )
    if predicted and not target.horizons and predicted[0] != target.horizon_bars:
        raise ValueError(
            f"`target` must look as many bars ahead as the first horizon of learner {learner.name!r}, which is its "
            f"`prediction` ({predicted[0]}), was {target.horizon_bars}; give the learner this horizon first, or take the target "
            "forward_returns."
        )


def and_nested(learner: LearnerChoice) -> Iterator[LearnerChoice]:
    """It, and every learner inside of it."""
    yield learner
    for each in learner.nested:
        yield from and_nested(each)


REMEDIES_OF_FEATURES = {
    "categories": "add them, or leave them out; a feature is named without its group here",
    "feature": "add it, or name another; a feature is named without its group here",
}


def read_features(learner: LearnerChoice) -> dict[str, set[str]]:
    """Features that it, and learners inside of it, name, by the parameter that does; preprocessing may make others of them."""
    found: dict[str, set[str]] = {"categories": set(), "feature": set()}
    if all(each.keeps_columns for each in learner.steps):
        found["categories"].update(learner.params.get("categories", ()))
        found["feature"].update([learner.params["feature"]] if "feature" in learner.params else [])
        for each in learner.nested:
            for param, names in read_features(each).items():
                found[param] |= names
    return found


def tasks_in_words(learner: LearnerChoice) -> str:
    """What a learner is for, or why it is for nothing."""
    if learner.tasks:
        told = " or ".join(sorted(learner.tasks))
        single = [each.name for each in learner.nested if each.tasks < learner.entry.tasks]
        return f"{told}, as is its member {single[0]!r}" if single else told
    if learner.calibration is not None and "regression" in learner.entry.tasks:
        return f"none: its calibration {learner.calibration.name!r} is of probabilities, which it does not give"
    of_members = "; ".join(f"{each.name} for {tasks_in_words(each)}" for each in learner.nested)
    return f"none: its members are for different ones ({of_members}); take members for this one"
