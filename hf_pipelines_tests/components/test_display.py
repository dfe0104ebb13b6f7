"""How values are shown: units, order, and tables that are whole."""

from datetime import UTC, datetime

import polars as pl
import pytest

from hf_pipelines.components.asset_facts import docs_of, owners_field
from hf_pipelines.components.display import (
    MOST_COLUMNS,
    NOT_DRAWN,
    VALUES_A_BLOCK,
    in_a_window,
    in_words,
    markdown_table,
    picture,
    shown,
    summary_page,
)
from hf_pipelines.research.account_summary import ACCOUNT_METRICS
from hf_pipelines.resources import settings


def rows_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line]


def test_markdown_table_shows_fractions_as_percentages_dates_as_dates_and_nothing_for_unknown() -> None:
    day = datetime(2013, 2, 22, 21, tzinfo=UTC)
    frame = pl.DataFrame(
        {"fold": [0, 1], "test_start": [day, None], "accuracy": [0.3431, None], "log_loss": [1.46547, 2.0]}
    )
    assert rows_of(markdown_table(frame))[2:] == [["0", "2013-02-22", "34.3%", "1.465"], ["1", "", "", "2"]]


def test_markdown_table_of_times_within_a_day_keeps_them_apart() -> None:
    times = [datetime(2013, 2, 22, hour, 30, tzinfo=UTC) for hour in (14, 20)]
    assert rows_of(markdown_table(pl.DataFrame({"ts": times})))[2:] == [["2013-02-22 14:30"], ["2013-02-22 20:30"]]


def test_every_fraction_of_an_account_is_shown_as_a_percentage_and_nothing_else() -> None:
    """By the unit that the summary of an account says of each number; a turnover is a multiple of equity."""
    for metric in ACCOUNT_METRICS.values():
        is_fraction = metric.unit.startswith("fraction") and metric.name != "turnover_per_year"
        assert shown(metric.name, 0.25) == ("25.0%" if is_fraction else "0.25"), metric.name
    # Four in ten thousand is seen, and so is that it is below nothing; nothing is nothing.
    assert [shown("average_win", value) for value in (0.0004, -0.0004, 0.0, 0.01)] == [
        "0.04%",
        "-0.04%",
        "0.0%",
        "1.0%",
    ]


def test_interval_of_a_summary_has_the_unit_of_its_number() -> None:
    rows = {"group": "losses", "metric": "value_at_risk_95", "value": 0.0116, "low": 0.01, "high": 0.025, "unit": "x"}
    assert "value_at_risk_95 1.2% (1.0% to 2.5%)" in summary_page(pl.DataFrame([rows])).value


@pytest.mark.parametrize("n_folds", [5, 14])
def test_markdown_table_that_is_wide_lies_on_its_side_and_loses_nothing(n_folds: int) -> None:
    names = [f"score_{i}" for i in range(40)]
    frame = pl.DataFrame(
        {"fold": range(n_folds), **{name: [100 * i + at for at in range(n_folds)] for i, name in enumerate(names)}}
    )
    found = [rows_of(part) for part in markdown_table(frame).split("\n\n")]
    assert max(len(row) for part in found for row in part) <= min(MOST_COLUMNS, VALUES_A_BLOCK + 1)
    assert [cell for part in found for cell in part[0][1:]] == [str(at) for at in range(n_folds)]
    shown = {
        row[0]: [cell for part in found for line in part[2:] if line[0] == row[0] for cell in line[1:]]
        for row in found[0][2:]
    }
    assert shown == {name: [str(100 * i + at) for at in range(n_folds)] for i, name in enumerate(names)}


def test_table_in_a_window_is_long_enough_for_the_ui_and_reads_the_same() -> None:
    short, long = "| a |\n|---|\n| 1 |", "x" * 2_000
    # Markdown under 1,000 letters is shown in a column that cuts it off: dagster-webserver 1.13.
    assert len(in_a_window(short).value) >= 1_000 and in_a_window(short).value.strip() == short
    assert in_a_window(long).value == long


def test_markdown_table_keeps_a_bar_within_its_cell() -> None:
    assert "| a\\|b |" in markdown_table(pl.DataFrame({"reason": ["a|b"]}))


def test_in_words_leaves_out_what_is_undefined() -> None:
    metrics = {"total_return": -0.1131, "sharpe_ratio": float("nan"), "max_drawdown": 0.17}
    assert (
        in_words(metrics, ["total_return", "sharpe_ratio", "max_drawdown", "absent"])
        == "total return -11.3%, max drawdown 17.0%"
    )


@pytest.mark.parametrize(("wanted", "n_drawn"), [("all", 1), ("none", 0), ("", 1)])
def test_picture_is_drawn_unless_none_are_wanted(monkeypatch: pytest.MonkeyPatch, wanted: str, n_drawn: int) -> None:
    monkeypatch.setenv("HF_PICTURES", wanted)
    drawn: list[str] = []

    def draw(title: str, *, note: str) -> bytes:
        drawn.append(f"{title}, {note}")
        return b"png"

    shown = picture(draw, "equity", note="simulated").value
    assert drawn == ["equity, simulated"] * n_drawn
    assert shown == ("![picture](data:image/png;base64,cG5n)" if n_drawn else NOT_DRAWN)


def test_another_wish_than_all_or_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_PICTURES", "some")
    with pytest.raises(ValueError, match=r"`HF_PICTURES` must be one of all, none, was 'some'"):
        settings.require_sound()


def test_docs_of_a_kind_link_where_the_site_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_DOCS_URL", raising=False)
    assert docs_of("signals")["docs"].value == "docs/guides/signals.md" and docs_of("desk_table") == {}
    monkeypatch.setenv("HF_DOCS_URL", "https://docs.fund.example/")
    assert docs_of("signals")["docs"].value == "https://docs.fund.example/guides/signals.html"


@pytest.mark.parametrize("owner", ["research", "team:", "a@b", "x y@fund.com"])
def test_owner_that_is_neither_mail_nor_team_is_refused(owner: str) -> None:
    from pydantic import BaseModel

    class Owned(BaseModel):
        owners: list[str]
        _owners = owners_field()

    assert Owned(owners=["desk@fund.com", "team:research"]).owners == ["desk@fund.com", "team:research"]
    with pytest.raises(ValueError, match="`owners` must hold addresses of mail or teams such as team:research"):
        Owned(owners=[owner])


def test_pages_of_the_docs_are_there() -> None:
    from hf_pipelines.components.asset_facts import PAGES
    from hf_pipelines_tests.checkout import REPOSITORY

    assert [page for page in PAGES.values() if not (REPOSITORY / "docs" / f"{page}.md").exists()] == []
