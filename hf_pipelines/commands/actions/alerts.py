"""Alerts: trying the channels that people are alerted by."""

from typing import Annotated

import typer

from hf_pipelines.commands.app import LOOK, alert_group, command
from hf_pipelines.commands.console import say


@command(
    panel=LOOK,
    group=alert_group,
    writes=False,
    name="test",
    examples=("hfp alert test", "hfp alert test --channel oncall"),
)
def alert_test(
    channel: Annotated[str | None, typer.Option(help="Try this one alone (default: each of HF_ALERT_URLS).")] = None,
) -> int:
    """Send a test message to each channel of HF_ALERT_URLS, whatever the hour, and say what each takes; status 1 if one fails."""
    from hf_pipelines.commands.alerts import try_channels
    from hf_pipelines.commands.runs import Pipeline

    pipeline = Pipeline.open()
    owners = [*pipeline.markets(), *(each.name for each in pipeline.strategies())]
    lines, is_well = try_channels(channel, owners)
    say(lines)
    return 0 if is_well else 1
