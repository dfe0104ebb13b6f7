"""Loss curves: how the fits of a page went, epoch by epoch, as its metadata.

Lives here: finding the losses in what learners report. Does not live here: the drawing (`research.plots`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hf_pipelines.components.display import picture


def loss_curves(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A picture of the losses that learners report, by the name of each fit; nothing where none does."""
    from hf_pipelines.research.plots.losses import losses_png

    found = {name: curve for outer, report in reports.items() for name, curve in _curves(outer, report)}
    return {"losses": picture(losses_png, found)} if found else {}


def _curves(name: str, report: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Sequence[float], Sequence[float]]]]:
    """Losses of training and validation rows, of members by their place."""
    if "training_losses" in report:
        yield name, (report["training_losses"], report["validation_losses"])
    for at, member in enumerate(report.get("members", ())):
        yield from _curves(f"{name}, members.{at}", member)
