"""Noticing: gaps of sources and decisions on strategies, from a real store to a real receiver."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from hf_pipelines.components.operations.inventory import Watched
from hf_pipelines.components.operations.noticing import SOURCES, Noticed, View, notice
from hf_pipelines.research.alerts.kinds import KINDS
from hf_pipelines.research.promotion.lifecycle import OVERRIDDEN, PROMOTED, REFUSED, ROLLED_BACK, STAGED
from hf_pipelines.resources.incidents import Book
from hf_pipelines.resources.notifier import KIND_WORDS
from hf_pipelines.resources.promotions.history import record_decision
from hf_pipelines_tests.pipeline import Project, files_market, session_bars, sessions_from, shipped_features
from hf_pipelines_tests.resources.promotions.deciding import FAILED, draft

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


def test_gap_opens_once_it_has_lasted_and_heals_when_it_is_filled_and_decisions_are_told_once(tmp_path: Path) -> None:
    bars = session_bars(sessions_from(date(2012, 1, 3), 4), symbols=2, seed=1)
    project = Project(tmp_path, files_market(tmp_path / "source", bars, features=shipped_features("temporal")))
    weeks = project.weeks
    project.make("small/bars", weeks[0], weeks[3])
    store = project.store
    gone = {week: store.objects.get(store.key("small/bars", week)) for week in weeks[1:3]}
    for week in gone:
        Path(store.objects.uri, store.key("small/bars", week)).unlink()
    watched = Watched.of(dg.ComponentTree.for_project(project.folder / project.package))
    book, seen = Book(), Noticed()

    def look(at: datetime) -> list[str]:
        nonlocal seen
        n_before = len(book.pending)
        seen = Noticed.of_cursor(notice(View(watched, store, at, HOUR), book, seen).cursor)
        told = [each.message for each in book.pending[n_before:]]
        return [f"{each.event} {each.kind} {each.asset} {each.partition} {each.severity}" for each in told]

    record_decision(store.objects, "ranking", draft(REFUSED, gates=[FAILED]))
    # A backfill may be under way, and what was decided before anybody looked is no news.
    assert look(NOW) == []
    assert look(NOW + 2 * HOUR) == [f"opened gap small/bars {weeks[1]}..{weeks[2]} (2) WARN"]
    assert book.open[0].cause.startswith("2 weeks have no bars, between weeks that have some: ")
    assert look(NOW + 3 * HOUR) == []
    for week, content in gone.items():
        store.objects.put(store.key("small/bars", week), content)
    # Not every look reads the store.
    assert look(NOW + 3 * HOUR + timedelta(minutes=1)) == []
    assert look(NOW + 4 * HOUR) == [f"healed gap small/bars {weeks[1]}..{weeks[2]} (2) WARN"]

    for each in (
        draft(REFUSED, gates=[FAILED]),
        draft(OVERRIDDEN),
        draft(PROMOTED, "short"),
        draft(STAGED, "third"),
        draft(ROLLED_BACK),
    ):
        record_decision(store.objects, "ranking", each)
    assert look(NOW + 5 * HOUR) == [
        "noted refusal ranking 2020-01-12 INFO",
        "noted promotion ranking 2020-01-12 INFO",
        "noted promotion ranking 2020-01-12 INFO",
        "noted promotion ranking 2020-01-12 INFO",
        "noted rollback ranking  INFO",
    ]
    causes = [each.message.cause for each in book.pending[-5:]]
    assert causes[0] == "refused by ann: why; gates that stood in the way: rows"
    assert causes[1].startswith("overridden by ann, in the name of Ann: why")
    assert len({each.message.id for each in book.pending[-5:]}) == 5
    # A clock that goes back looks, and tells nothing again.
    assert look(NOW - 9 * HOUR) == look(NOW + 6 * HOUR) == []


@pytest.mark.parametrize(
    "kind", [*SOURCES, "drift", "decay", "run", "check", "late", "promotion", "rollback", "refusal"]
)
def test_every_kind_of_incident_has_words_and_a_route(kind: str) -> None:
    assert kind in KINDS and kind in KIND_WORDS


def test_guide_names_every_kind() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "operate" / "alerts.md").read_text()
    assert [each for each in KINDS if f"`{each}`" not in guide] == []
