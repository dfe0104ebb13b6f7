"""`hfp explain`: what it says of issued predictions adds up to them, of a line, of trees, and of ranks among the members."""

import re

import numpy as np
import pytest

from hf_pipelines.commands.explain import explain_lines
from hf_pipelines_tests.pipeline import Project, ridge_strategy, trees_strategy

WEEK, DAY = "2012-04-01", "2012-04-03"


@pytest.fixture(scope="module")
def issued(small_project: Project, tmp_path_factory) -> Project:
    project = small_project.copy(tmp_path_factory.mktemp("explain"))
    # Neighbours have no contributions of their own, and ranks compare the members.
    ranks = ridge_strategy("ranks", learner={"type": "nearest_neighbours", "preprocessing": ["cross_sectional_rank"]})
    network = {"type": "gru", "params": {"window": 5, "hidden": 4, "epochs": 3}}
    windows = ridge_strategy("windows", learner=network)
    trees = trees_strategy()
    project.rewrite(
        strategies=[
            {**trees, "learner": {**trees["learner"], "calibration": "temperature"}},
            ridge_strategy(),
            ranks,
            windows,
        ]
    )
    for name in ("direction", "ranking", "ranks", "windows"):
        project.retrain(name, WEEK)
        project.make(f"{name}/signals", DAY)
    return project


def prediction_of(project: Project, strategy: str, symbol: str) -> float:
    frame = project.store.read(f"{strategy}/signals", DAY).frame
    return float(frame.filter(symbol=symbol)["prediction"][0])


def adds(lines: list[str]) -> tuple[list[float], float]:
    """Numbers of the last column of the table, and that of the prediction below it."""
    begin, end = (
        next(at for at, each in enumerate(lines) if "percentile" in each),
        next(at for at, each in enumerate(lines) if each.startswith(("  prediction ", "  log-odds, "))),
    )
    return [float(each.split()[-1]) for each in lines[begin + 1 : end]], float(lines[end].split()[-1])


def header_of(project: Project, strategy: str, symbol: str, lines: list[str]) -> float:
    prediction = prediction_of(project, strategy, symbol)
    assert lines[0].startswith(f"{strategy} {symbol} {DAY}: prediction {prediction:+.6f}, issued ")
    assert f"by the model of week {WEEK}" in lines[0] and "revised" not in lines[1]
    side = "above 0" if prediction > 0 else "at or below 0"
    assert any(each.startswith(f"The prediction is {side}.") for each in lines)
    return prediction


@pytest.mark.parametrize("strategy", ["ranking", "ranks", "windows"])
def test_contributions_add_up_to_the_issued_prediction(issued, strategy):
    lines = list(explain_lines(issued.pipeline, strategy, "S001", DAY))
    prediction = header_of(issued, strategy, "S001", lines)
    parts, total = adds(lines)
    assert total == pytest.approx(prediction, abs=1e-6)
    assert sum(parts) == pytest.approx(total, abs=1e-6 * len(parts))
    words = "\n".join(lines)
    assert ("Contributions are sampled" in words) == (strategy != "ranking")
    assert ("Each is of the feature's last 5 bars together;" in words) == (strategy == "windows")
    assert ("Contributions are exact, by ridge's own method; they add up to the prediction." in words) == (
        strategy == "ranking"
    )


def test_contributions_of_trees_add_up_to_log_odds_before_their_calibration(issued):
    for symbol in ("S001", "S002"):
        lines = list(explain_lines(issued.pipeline, "direction", symbol, DAY))
        prediction = header_of(issued, "direction", symbol, lines)
        parts, total = adds(lines)
        assert sum(parts) == pytest.approx(total, abs=1e-6 * len(parts))
        words = "\n".join(lines)
        assert "log-odds, up : down, uncalibrated" in words
        assert "the logarithm of P(up) / P(down) before its calibration (temperature)." in words
        # Of down, flat and up, a temperature changes no sign.
        assert np.sign(total) == np.sign(prediction) and abs(total) != pytest.approx(abs(prediction), rel=1e-3)


def test_a_line_is_said_to_be_one(issued):
    *_, last = explain_lines(issued.pipeline, "ranking", "S001", DAY)
    assert re.match(r"Around this row it is nearly a line \(R2 1\.00\); what a deviation of a feature adds", last)


@pytest.mark.parametrize(
    ("symbol", "day", "said"),
    [
        ("NOPE", DAY, r"`symbol` must be a member on 2012-04-03, one of S000, S001, .*, was 'NOPE'"),
        (
            "S001",
            "2012-04-04",
            r"`day` must be one whose signals were issued, was 2012-04-04; issue them: hfp materialise",
        ),
        ("S001", "2012-04-07", "must be a session"),
    ],
)
def test_what_was_not_issued_is_said_with_what_to_do(issued, symbol, day, said):
    with pytest.raises(ValueError, match=said):
        list(explain_lines(issued.pipeline, "ranking", symbol, day))
    with pytest.raises(ValueError, match="`strategy` must be one of direction, ranking, ranks, windows, was 'rank'"):
        list(explain_lines(issued.pipeline, "rank", symbol, day))
