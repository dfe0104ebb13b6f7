"""Releases: which release of a strategy a word means, and what is stored of it still.

Lives here: finding a release in the history, and the contents that its record names. Does not live here: the history
(`resources.promotions`), what is told of releases (`models`, `release_changes`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hf_pipelines.commands.promoting import stored_history
from hf_pipelines.commands.runs import Pipeline
from hf_pipelines.components.strategy_stages.shown_settings import flat_settings
from hf_pipelines.research.promotion.evidence import plain_number
from hf_pipelines.research.promotion.lifecycle import ARCHIVED, Lifecycle, Release
from hf_pipelines.research.wording import excerpt
from hf_pipelines.resources.footer import Footer
from hf_pipelines.resources.lineage import footer_of_content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.promotions.history import History
from hf_pipelines.resources.storage_errors import StoredPartitionError

PREVIOUS = "previous"

# Where the numbers of a release lie: what its evidence calls the asset, and how they are told.
MEASURED = {"cv_results": "scores", "backtest": "account"}

GONE = "stored no more"


@dataclass(frozen=True)
class Content:
    """A content that the record of a release names.

    Attributes
    ----------
    footer : Footer or None
        None of one that cannot be read.
    fault : str
        Why it cannot be; else "".
    """

    asset: str
    partition: str
    digest: str
    footer: Footer | None
    fault: str = ""

    @property
    def stage(self) -> str:
        """What it holds, such as `backtest`."""
        return self.asset.rpartition("/")[2]


@dataclass(frozen=True)
class StoredRelease:
    """A release, its record, and what is stored of its evidence.

    Attributes
    ----------
    contents : tuple of Content
        All that the gates have read, in the order of the record.
    """

    history: History
    release: Release
    record: Mapping[str, Any]
    contents: tuple[Content, ...] = field(default=())

    @property
    def name(self) -> str:
        return f"{self.history.strategy} {self.release.version}"

    @property
    def settings(self) -> dict[str, Any]:
        """Its configuration, one value a field; features apart."""
        learner = self.record["yaml"].get("learner")
        seed = learner.get("seed") if isinstance(learner, Mapping) else None
        return {
            name: value
            for name, value in flat_settings(self.record["settings"], seed=seed).items()
            if not name.startswith("features")
        }

    @property
    def features(self) -> list[str]:
        """Names of its features with their groups, sorted."""
        found = self.record["settings"].get("features")
        groups = found if isinstance(found, Mapping) else {}
        return sorted(f"{group}/{each}" for group, names in groups.items() for each in names)

    def content(self, stage: str) -> Content | None:
        """What the gates have read of a stage; None if they did not."""
        return next((each for each in self.contents if each.stage == stage), None)

    @property
    def metrics(self) -> dict[str, float | str | None]:
        """Scores and account as they were stored with its evidence, such as `account/sharpe_ratio`; None: undefined."""
        found: dict[str, float | str | None] = {}
        for stage, told in MEASURED.items():
            content = self.content(stage)
            if content is not None and content.footer is not None:
                stored: Any = content.footer.facts.get("metrics") or {}
                found |= {
                    f"{told}/{name}": None if value is None else plain_number(float(value))
                    for name, value in stored.items()
                }
        return found

    @property
    def unknown_metrics(self) -> list[str]:
        """Which numbers are not known any more, and why."""
        found = []
        for stage, told in MEASURED.items():
            content = self.content(stage)
            if content is None:
                found.append(f"{told} of {self.name}: its record names no {stage}")
            elif content.footer is None:
                found.append(f"{told} of {self.name}: {content.asset} {content.partition} is {content.fault}")
        return found


def release_of(pipeline: Pipeline, word: str) -> StoredRelease:
    """The release that `STRATEGY`, `STRATEGY@VERSION` or `STRATEGY@previous` means: the champion by default.

    Raises
    ------
    ValueError
        If there is none.
    PromotionHistoryError
        If the history is not as it was written.
    """
    strategy, at, version = word.partition("@")
    history = stored_history(pipeline, strategy)
    state = history.state
    known = {str(each.version): each for each in state.releases}
    if not known:
        raise ValueError(
            f"`release` must be of a strategy with one, {strategy} has none; hfp gates {strategy} says what it lacks."
        )
    release = known.get(version) if at and version != PREVIOUS else state.previous if at else state.champion
    if release is None:
        asked = f"no {excerpt(version)}" if at else state.headline
        raise ValueError(
            f"`release` must be STRATEGY@VERSION with one of {', '.join(known)}, there is {asked} of {strategy}; see hfp history {strategy}."
        )
    return stored_release(pipeline.store, history, release)


def stored_release(store: PartitionStore, history: History, release: Release) -> StoredRelease:
    """A release with what is stored of its evidence."""
    record = history.records[release.number - 1]
    return StoredRelease(history, release, record, tuple(_contents(store, record["evidence"])))


def content_of(store: PartitionStore, asset: str, partition: str, digest: str) -> Content:
    """A content by its hash, or why it cannot be read."""
    try:
        footer = footer_of_content(store, asset, partition, digest)
    except (StoredPartitionError, ValueError) as e:
        return Content(asset, partition, digest, None, getattr(e, "was", "") or str(e))
    return Content(asset, partition, digest, footer, "" if footer is not None else GONE)


def _contents(store: PartitionStore, evidence: Mapping[str, Mapping[str, str]]) -> Iterator[Content]:
    for asset, parts in evidence.items():
        for partition, digest in parts.items():
            yield content_of(store, asset, partition, digest)


def role_of(state: Lifecycle, release: Release) -> str:
    """What became of a release, in words."""
    champion, previous = state.champion, state.previous
    if champion is not None and champion.number == release.number:
        return f"champion since {state.since[:10]}"
    if previous is not None and previous.number == release.number:
        return "previous: a rollback makes it the champion"
    if any(each.number == release.number for each in state.served):
        return "before the previous: two rollbacks or more make it the champion"
    if state.stages[release.configuration] == ARCHIVED:
        return "withdrawn"
    return "not reached by rollbacks: one of them has left it, or a withdrawal took it away"
