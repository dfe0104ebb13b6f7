"""Models: the releases of strategies, what each is made from, and what changed."""

from typing import Annotated

import typer

from hf_pipelines.commands.actions.looking import say_judged
from hf_pipelines.commands.app import JUDGE, AsJson, StrategyName, command, model_group
from hf_pipelines.commands.completion import strategies
from hf_pipelines.commands.console import say, say_json

ReleaseName = Annotated[
    str,
    typer.Argument(
        metavar="RELEASE",
        help="STRATEGY for its champion, STRATEGY@VERSION such as tech_ranking@v1.2.0, or STRATEGY@previous.",
        autocompletion=strategies,
    ),
]


@command(
    group=model_group, panel=JUDGE, writes=False, name="list", examples=("hfp model list", "hfp model list --json")
)
def list_models(as_json: AsJson = False) -> int:
    """Print every strategy with its champion, stage, week and age, gated or ungated; status 1 if a history is damaged.

    Strategies that have left the project are shown while they have a history.
    """
    from hf_pipelines.commands.models import models_lines, models_told
    from hf_pipelines.commands.runs import Pipeline

    found = models_told(Pipeline.open())
    if as_json:
        say_json(found)
        return int(any(each["fault"] for each in found))
    return say_judged(models_lines(found))


@command(
    group=model_group,
    panel=JUDGE,
    writes=False,
    examples=("hfp model show tech_ranking", "hfp model show tech_ranking@v1.0.0 --json"),
)
def show(release: ReleaseName, as_json: AsJson = False) -> None:
    """Print a release: who promoted it and why, its configuration, metrics, evidence and artifacts with their hashes."""
    from hf_pipelines.commands.models import release_lines, release_told
    from hf_pipelines.commands.runs import Pipeline

    found = release_told(Pipeline.open(), release)
    if as_json:
        say_json(found)
    else:
        say(release_lines(found))


@command(
    group=model_group,
    panel=JUDGE,
    writes=False,
    examples=("hfp model lineage tech_ranking", "hfp model lineage tech_ranking@v1.0.0 --json"),
)
def lineage(release: ReleaseName, as_json: AsJson = False) -> int:
    """Print what a release descends from and was made from, up to the bars; status 1 if some of it cannot be read any more."""
    from hf_pipelines.commands.models import lineage_lines, lineage_told
    from hf_pipelines.commands.runs import Pipeline

    found = lineage_told(Pipeline.open(), release)
    if as_json:
        say_json(found)
        return int(any(each["lost"] for each in found["made_from"]))
    return say_judged(lineage_lines(found))


@command(
    group=model_group,
    panel=JUDGE,
    writes=False,
    examples=("hfp model changelog tech_ranking", "hfp model changelog tech_ranking --json"),
)
def changelog(strategy: StrategyName, as_json: AsJson = False) -> None:
    """Print what each release changed of its parent: features, parameters, metrics; the newest first."""
    from hf_pipelines.commands.release_changes import changelog_lines, changelog_told
    from hf_pipelines.commands.runs import Pipeline

    found = changelog_told(Pipeline.open(), strategy)
    if as_json:
        say_json(found)
    else:
        say(changelog_lines(strategy, found))


@command(
    group=model_group,
    panel=JUDGE,
    writes=False,
    name="diff",
    examples=(
        "hfp model diff tech_ranking@v1.0.0 tech_ranking@v1.1.0",
        "hfp model diff tech_ranking@previous tech_ranking",
    ),
)
def diff_releases(release: ReleaseName, other: ReleaseName, as_json: AsJson = False) -> None:
    """Print two releases beside each other: features, parameters, metrics, and how far their predictions agree on the same rows."""
    from hf_pipelines.commands.release_changes import diff_lines, diff_told
    from hf_pipelines.commands.runs import Pipeline

    found = diff_told(Pipeline.open(), release, other)
    if as_json:
        say_json(found)
    else:
        say(diff_lines(found))
