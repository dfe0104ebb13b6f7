"""Words of an explanation: the lines of `hfp explain`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hf_pipelines.research.explanations.contributions import Contributions, Floats
from hf_pipelines.research.explanations.local_line import LocalLine
from hf_pipelines.research.explanations.own import OwnContributions
from hf_pipelines.research.explanations.turning import Turn
from hf_pipelines.research.learners import LearnerChoice

# Features with a line of their own; the rest are added up.
N_SHOWN = 15
N_TURNS = 3

# Below this share of the variance a line says nothing of a model.
MIN_R2 = 0.8


def explanation_lines(
    found: Contributions,
    *,
    names: Sequence[str],
    values: Floats,
    percentiles: Sequence[float],
    turns: Sequence[Turn],
    line: LocalLine,
    prediction: float | None = None,
    sums: str = "prediction",
    method: str = "",
) -> Iterator[str]:
    """Lines of a table of contributions, of what would turn the prediction, and of the line around the row.

    Parameters
    ----------
    found : Contributions
        Of one row.
    names, values, percentiles
        Of its features.
    prediction : float, optional
        Where it is not what contributions add up to.
    sums : str
        What they add up to.
    method : str
        A sentence on how exact they are; left out: they are sampled.
    """
    sizes, errors = found.values[0], found.standard_error[0]
    order = sorted(range(len(names)), key=lambda at: (-abs(sizes[at]), names[at]))
    shown, rest = order[:N_SHOWN], order[N_SHOWN:]
    base = f"mean {sums} of training rows"
    width = max(len(name) for name in (*names, base))
    yield f"  {'feature':<{width}}  {'value':>12}  {'percentile':>10}  {'adds':>12}"
    yield f"  {base:<{width}}  {'':>12}  {'':>10}  {found.base[0]:>+12.6f}"
    for at in shown:
        place = "unknown" if np.isnan(percentiles[at]) else f"{100 * percentiles[at]:.0f}"
        value = "unknown" if np.isnan(values[at]) else f"{values[at]:.6g}"
        yield f"  {names[at]:<{width}}  {value:>12}  {place:>10}  {sizes[at]:>+12.6f}"
    if rest:
        yield f"  {f'{len(rest)} others':<{width}}  {'':>12}  {'':>10}  {sizes[rest].sum():>+12.6f}"
    total = found.base[0] + sizes.sum()
    yield f"  {sums:<{width}}  {'':>12}  {'':>10}  {total:>+12.6f}"
    yield method or sampled_in_words(errors)
    side = "above" if (total if prediction is None else prediction) > 0 else "at or below"
    yield f"The prediction is {side} 0. " + (
        "A single feature that would turn it, the nearest first:"
        if turns
        else "No single feature turns it within the values seen in training."
    )
    for turn in turns[:N_TURNS]:
        yield (
            f"  {turn.feature} at {turn.value:.6g} (percentile {100 * turn.percentile:.0f}, {100 * turn.distance:.0f} away): prediction "
            f"{turn.prediction:+.6f}"
        )
    yield from _local_lines(line, names)


def sampled_in_words(errors: Floats) -> str:
    """How exact sampled contributions are."""
    return f"Contributions are sampled: each is known to about {errors.max():.2g}; they add up exactly."


def window_in_words(found: Contributions, n_bars: int) -> str:
    """How exact they are, and what they are of, where a learner reads the last bars."""
    return (
        f"{sampled_in_words(found.standard_error[0])} Each is of the feature's last {n_bars} bars together; the value and what would turn the "
        "prediction are of the last bar alone."
    )


def own_in_words(own: OwnContributions, *, choice: LearnerChoice, classes: Sequence[str]) -> dict[str, str]:
    """What exact contributions add up to, as `sums` and `method` of `explanation_lines`."""
    if own.space == "log_odds":
        sums = f"log-odds, {classes[-1]} : {classes[0]}"
        meaning = f"they add up to the logarithm of P({classes[-1]}) / P({classes[0]})"
    else:
        sums, meaning = "prediction", "they add up to the prediction"
    if choice.calibration is not None:
        sums, meaning = f"{sums}, uncalibrated", f"{meaning} before its calibration ({choice.calibration.name})"
    return {"sums": sums, "method": f"Contributions are exact, by {choice.name}'s own method; {meaning}."}


def _local_lines(line: LocalLine, names: Sequence[str]) -> Iterator[str]:
    if np.isnan(line.r2):
        yield "Around this row the prediction does not change."
        return
    if line.r2 < MIN_R2:
        yield f"Around this row no line holds (R2 {line.r2:.2f}): how much one feature counts depends on the others."
        return
    known = [at for at in range(len(names)) if np.isfinite(line.effects[at])]
    strong = sorted(known, key=lambda at: (-abs(line.effects[at]), names[at]))[:N_TURNS]
    told = ", ".join(f"{names[at]} {line.effects[at]:+.3g}" for at in strong)
    yield f"Around this row it is nearly a line (R2 {line.r2:.2f}); what a deviation of a feature adds, the strongest: {told}."
