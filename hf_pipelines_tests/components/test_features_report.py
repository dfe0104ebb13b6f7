"""What the UI shows of features: numbers of each partition, the report in pictures, and when the report is asked for."""

import base64
import io
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import numpy as np
import polars as pl
import pytest
from PIL import Image

from hf_pipelines.components.automation.reporting import request_report
from hf_pipelines.components.market_stages import build_report_stages, build_stages, code_versions
from hf_pipelines_tests.conftest import FIRST_SESSION
from hf_pipelines_tests.pipeline import Project, files_market, market_of, session_bars, sessions_from

pytestmark = pytest.mark.pictures

WEEKS = 5
REPORT, QUICK, BARS = "small/features_report", "small/features/quick", "small/bars"
NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, quick: list) -> Iterator[Project]:
    """Three symbols over five weeks of 2012: 4, 5, 4, 5 and 5 sessions (2 and 16 January are holidays).

    S001 is listed on the ninth session, S002 on the seventeenth.
    """
    folder = tmp_path_factory.mktemp("report")
    bars = session_bars(sessions_from(FIRST_SESSION, WEEKS), symbols=3, seed=4, late_bars=8)
    # One bar of S000 never came, and one has its high below its low.
    is_absent = (pl.col("symbol") == "S000") & (pl.col("session") == date(2012, 1, 31))
    is_faulty = (pl.col("symbol") == "S001") & (pl.col("session") == date(2012, 2, 2))
    bars = bars.filter(~is_absent).with_columns(high=pl.when(is_faulty).then(pl.col("low") / 2).otherwise("high"))
    # One row of three may be faulty.
    yield Project(folder, files_market(folder / "source", bars, features=["quick"], max_faulty_share=0.5))


@pytest.fixture(scope="module")
def noted(project: Project) -> dict[str, dict]:
    """Metadata of every partition of bars and features."""
    return project.make([BARS, QUICK], project.weeks[0], project.weeks[-1]).materialised


def _image(markdown: str) -> np.ndarray:
    encoded = markdown.removeprefix("![picture](data:image/png;base64,").removesuffix(")")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))


def _table(markdown: str) -> list[tuple[str, ...]]:
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in markdown.strip().splitlines()[2:]]


def test_features_metadata_gives_null_share_of_every_feature(project: Project, noted: dict[str, dict]) -> None:
    weeks = project.weeks
    # Six bars for quick_roc_5, three for quick_roc_2, five for quick_gap_5: of the four sessions of the first week
    # 4, 2 and 4 have no value.
    first = noted[QUICK][weeks[0]]
    assert (first["rows"], first["symbols"]) == (4, 1)
    assert _table(first["null_shares"]) == [("quick_roc_5", "1"), ("quick_gap_5", "1"), ("quick_roc_2", "0.5")]
    assert first["null_share"] == pytest.approx(10 / 12, rel=1e-5)
    # In the third week S001 has sessions 8 to 12 of which the week holds 9 to 12: 4 rows each for two symbols.
    third = noted[QUICK][weeks[2]]
    assert (third["rows"], third["symbols"]) == (8, 2)
    lacking = {"quick_roc_2": 1, "quick_roc_5": 4, "quick_gap_5": 3}
    assert dict(_table(third["null_shares"])) == {name: f"{n / 8:.4g}" for name, n in lacking.items()}
    # In the last, S002 has its third to seventh bar: three and two of 13 rows lack values.
    last = _table(noted[QUICK][weeks[4]]["null_shares"])
    assert last == [("quick_roc_5", f"{3 / 13:.4g}"), ("quick_gap_5", f"{2 / 13:.4g}"), ("1 more, each", "0")]


def test_metadata_of_a_partition_says_what_is_stored_and_what_it_cost(project: Project, noted: dict[str, dict]) -> None:
    week = project.weeks[-1]
    for asset in (BARS, QUICK):
        note, footer = noted[asset][week], project.store.footer(asset, week)
        assert note["content_hash"].replace(" ", "") == footer.content_hash
        # The session of Friday 3 February closes at 16:00 in New York.
        assert datetime.fromisoformat(note["available_at"]) == datetime(2012, 2, 3, 16, tzinfo=NEW_YORK)
        assert 0 < note["write_s"] < 60 and 0 < note["compute_s"] < 60 and 0 < note["checks_s"] < 60
    # Three symbols and the index on five sessions, less the bar that never came and the faulty one.
    assert (noted[BARS][week]["rows"], noted[BARS][week]["symbols"]) == (18, 4)
    assert noted[BARS][week]["quarantined"] == 1
    assert [noted[BARS][each]["quarantined"] for each in project.weeks[:-1]] == [0] * 4


def test_features_columns_say_formula_lookback_and_source(project: Project) -> None:
    node = project.definitions.resolve_asset_graph().get(dg.AssetKey(QUICK.split("/")))
    columns = {each.name: each for each in node.metadata["dagster/column_schema"].columns}
    assert list(columns) == ["quick_roc_2", "quick_roc_5", "quick_gap_5"]
    assert columns["quick_roc_5"].description == "change over 5 bars (6 bars)"
    assert columns["quick_roc_5"].type == "Float32"
    # What the catalogue is searched by.
    assert {name for name in node.tags if name.startswith("feature/")} == {f"feature/{name}" for name in columns}


def test_report_of_a_week_shows_coverage_and_correlations_of_the_weeks_to_its_end(
    project: Project, noted: dict[str, dict]
) -> None:
    week = project.weeks[-1]
    note = project.make(REPORT, week).materialised[REPORT][week]

    # 23 sessions for S000, 15 since the ninth, 7 since the seventeenth.
    assert (note["symbols"], note["features"], note["sessions"], note["weeks"]) == (3, 3, 23, 5)
    assert note["rows"] == 23 + 15 + 7
    stored = project.store.read(REPORT, week).frame
    shares = {symbol: of.sort("session")["coverage"].to_list() for (symbol,), of in stored.group_by("symbol")}
    # Bars 1-2: nothing; 3-4: the change over 2; 5: also the distance from the mean of 5; from 6 on all three.
    warm_up = [0.0, 0.0, 1 / 3, 1 / 3, 2 / 3]
    # No row on 31 January; and S001 none on 2 February, when it was quarantined.
    assert shares["S000"] == pytest.approx([*warm_up, *[1.0] * 14, 0.0, *[1.0] * 3])
    assert shares["S001"] == pytest.approx([*warm_up, *[1.0] * 8, 0.0, 1.0])
    assert shares["S002"] == pytest.approx([*warm_up, 1.0, 1.0])
    assert [name for name, _ in _table(note["least_covered"])] == ["S002", "S001", "S000"]
    assert note["mean_coverage"] == pytest.approx(stored["coverage"].mean(), rel=1e-5)

    features = pl.concat([project.store.read(QUICK, each).frame for each in project.weeks])
    expected = features.select(pl.col(pl.Float32)).to_pandas().rank().corr()
    closest = _table(note["most_correlated"])
    assert {frozenset(row[:2]) for row in closest} == {
        frozenset(pair)
        for pair in (("quick_roc_2", "quick_roc_5"), ("quick_roc_2", "quick_gap_5"), ("quick_roc_5", "quick_gap_5"))
    }
    for one, other, value in closest:
        assert float(value) == pytest.approx(expected.loc[one, other], abs=1e-4)
    for name in ("coverage", "correlations"):
        image = _image(note[name])
        assert image.shape[0] > 200 and len(np.unique(image.reshape(-1, 3), axis=0)) > 20


def test_report_of_a_week_is_the_same_when_later_weeks_exist(project: Project, noted: dict[str, dict]) -> None:
    week = project.weeks[2]
    note = project.make(REPORT, week).materialised[REPORT][week]
    # Five weeks are stored, only the three to this one are read.
    assert (note["weeks"], note["sessions"]) == (3, 13)
    assert project.store.read(REPORT, week).frame["session"].max() == date(2012, 1, 20)
    assert project.make(REPORT, week).materialised[REPORT][week]["outcome"] == "unchanged"
    assert project.out_of_date(REPORT) == {}


def test_report_of_a_week_without_features_names_the_command(project: Project, tmp_path: Path) -> None:
    empty = Project(tmp_path, project.market)
    run = empty.run(REPORT, "2012-01-22")
    assert not run.success
    assert f"hfp materialise {QUICK} --from 2012-01-22 --to 2012-01-22" in run.message


def test_update_job_and_history_leave_the_report_out(project: Project) -> None:
    market = market_of(project.market)
    assert REPORT not in {stage.asset for stage in build_stages(market)}
    job = project.definitions.get_job_def("small_update")
    assert {"/".join(key.path) for key in job.asset_layer.selected_asset_keys} == {BARS, QUICK}
    (report,) = build_report_stages(market)
    # A quarter of daily bars: 63 of 4.83 a week.
    assert [(each.asset, each.first_week, each.guards) for each in report.inputs] == [(QUICK, -13, ("replay",))]


def test_report_is_asked_for_on_sunday_for_the_week_that_has_ended_once(
    project: Project, noted: dict[str, dict]
) -> None:
    market, week = market_of(project.market), project.weeks[1]
    sunday = datetime(2012, 1, 15, 6, tzinfo=NEW_YORK)
    request = request_report(market, sunday, project.store, code_versions(market))
    assert isinstance(request, dg.RunRequest)
    assert (request.partition_key, request.run_key) == ("2012-01-08", f"{REPORT}:2012-01-08")

    project.make(REPORT, week)
    again = request_report(market, sunday, project.store, code_versions(market))
    assert isinstance(again, dg.SkipReason) and "is made from what is stored now" in str(again.skip_message)

    # A report on features that have changed since is asked for again.
    source = Path(project.market["source"]["uri"]) / "2012-01-10.parquet"
    kept = source.read_bytes()
    pl.read_parquet(source).with_columns(pl.col("close") * 1.001).write_parquet(source)
    project.make([BARS, QUICK], week)
    stale = request_report(market, sunday, project.store, code_versions(market))
    assert isinstance(stale, dg.RunRequest) and stale.partition_key == week
    source.write_bytes(kept)
    project.make([BARS, QUICK], week)
    assert isinstance(request_report(market, sunday, project.store, code_versions(market)), dg.SkipReason)

    early = request_report(market, datetime(2012, 2, 12, 6, tzinfo=NEW_YORK), project.store, code_versions(market))
    assert isinstance(early, dg.SkipReason) and "has no features of group quick in week 2012-02-05" in str(
        early.skip_message
    )
