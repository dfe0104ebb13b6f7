"""YAML files: 300 seeded faults of structure, type, range, name and template; each is told in lines, none hangs."""

import os
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from hf_pipelines.components import yaml_files
from hf_pipelines.components.component_tree import load_components, read_components
from hf_pipelines.components.market import Market
from hf_pipelines.components.strategy import Strategy
from hf_pipelines.components.yaml_components import component_of
from hf_pipelines.components.yaml_files import read_values
from hf_pipelines.components.yaml_lines import FaultyYAMLError
from hf_pipelines_tests.pipeline import PROJECT_FILE

DEFS = Path(__file__).resolve().parents[2] / "hf_pipelines" / "defs"
MARKET = {
    "name": "m",
    "universe": [{"symbol": "A", "since": "2012-01-03"}, {"symbol": "300027"}],
    "benchmark": "0700",
    "timeframe": "1d",
    "bars_end": "clock",
    "calendar": "XNYS",
    "timezone": "America/New_York",
    "source": {"type": "files", "uri": "landing"},
    "start": "2012-01-03",
    "end": "2012-12-31",
    "features": ["technical/roc_5", "temporal"],
    "known_gaps": ["2012-10-28"],
    "max_faulty_share": 0.2,
    "periods_per_year": 252,
    "news_scorer": "lexicon",
}
STRATEGY = {
    "name": "s",
    "market": "m",
    "features": ["technical"],
    "target": {"type": "direction", "horizon_bars": 5, "params": {"upper": 0.01, "lower": -0.01}},
    "training": {"weeks": 100, "minimum_rows": 50, "weighting": "none"},
    "cross_validation": {"n_splits": 3, "test_sessions": 20, "min_train_sessions": 60, "embargo_sessions": 1},
    "learner": {"type": "xgboost_classifier", "params": {"max_depth": 3, "learning_rate": 0.1, "tree_method": "hist"}, "seed": 1},
    "signal": {"type": "probability_threshold", "params": {"threshold": 0.6, "long_short": True, "max_gross": 1.0}},
    "backtest": {"engine": "reference", "fill": "next_open", "initial_cash_usd": 1000.0, "fee_bps": 1.0, "slippage_bps": 1.0},
    "max_model_age_weeks": 1,
    "track_record_weeks": 10,
    "drift": {"window_sessions": 21, "family_error": 0.1, "retrain_on": ["decay"], "cooldown_days": 14, "most_a_quarter": 2},
}  # fmt: skip
KINDS = {"Market": (Market, MARKET), "Strategy": (Strategy, STRATEGY)}

# Fields that may hold any text.
FREE = {"name", "uri", "market", "symbol", "benchmark"}
ENDLESS = "{% for i in range(10**9) %}{% for j in range(10**9) %}x{% endfor %}{% endfor %}"
Fault = Callable[[random.Random, str, dict], str | bytes]


def _written(kind: str, attributes: dict) -> str:
    return yaml.safe_dump({"type": f"hf_pipelines.components.{kind}", "attributes": attributes}, sort_keys=False)


def _leaves(value, place=()) -> Iterator[tuple]:
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*place, key)
        if isinstance(each, dict | list):
            yield from _leaves(each, (*place, key))


def _at(value, place):
    for part in place:
        value = value[part]
    return value


def _with(attributes: dict, place: tuple, new) -> dict:
    copied = yaml.safe_load(yaml.safe_dump(attributes))
    _at(copied, place[:-1])[place[-1]] = new
    return copied


def _any(rng: random.Random, attributes: dict, wanted: Callable[[tuple, object], bool]) -> tuple:
    return rng.choice([each for each in _leaves(attributes) if wanted(each, _at(attributes, each))])


def _aliases(width: int, n: int) -> str:
    """A list of lists of lists, by aliases: width**n values, n levels deep."""
    lines = [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, n + 1)]
    return "type: hf_pipelines.components.Market\nattributes:\n  a0: &a0 [x]\n" + "\n".join(lines) + "\n"


def structure(rng: random.Random, kind: str, attributes: dict) -> str | bytes:
    text = _written(kind, attributes)
    cut = rng.randrange(1, text.index("attributes:"))
    return rng.choice(
        [
            b"", b"\n \n", b"# only a comment\n", bytes(rng.randrange(256) for _ in range(200)) + b"\xff", text.encode("utf-16"),
            text.encode() + b"\0", text + "---\n" + text, f"- {text}", "plain text", text[:cut] if text[:cut].strip() else b"",
            "type: " + "[" * 2_000, text + "  deep: " + "{a: " * 500 + "1" + "}" * 500 + "\n", text.replace("attributes:", "attributes: [", 1),
            text.replace("type:", "type: !!python/object/apply:os.system", 1), _aliases(*rng.choice([(10, 8), (1, 30), (2, 300)])), text + "  a: &a [*a]\n", text + "  a: *a\n",
            text.replace("type:", "kind:", 1), text + "more: 1\n", text.replace("hf_pipelines.components", rng.choice(["os", "os.path", "../x", "nowhere"]), 1),
        ]
    )  # fmt: skip


def repeated(rng: random.Random, kind: str, attributes: dict) -> str:
    lines = _written(kind, attributes).splitlines(keepends=True)
    once = [i for i, line in enumerate(lines) if re.match(r"\s*\w+: \S", line)]
    i = rng.choice(once)
    return "".join([*lines[: i + 1], lines[i], *lines[i + 1 :]])


def wrong_type(rng: random.Random, kind: str, attributes: dict) -> str:
    place = _any(rng, attributes, lambda place, value: True)
    value = _at(attributes, place)
    wrong = {
        dict: ["text", 7, [1]],
        list: ["text", 7, {"a": 1}],
        str: [[1], {"a": 1}, 7],
        bool: ["maybe", [1]],
        int: ["abc", [1], {"a": 1}, 1.5],
        float: ["abc", [1], {"a": 1}],
    }
    return _written(kind, _with(attributes, place, rng.choice(wrong[type(value)])))  # fmt: skip


def out_of_range(rng: random.Random, kind: str, attributes: dict) -> str:
    place = _any(rng, attributes, lambda place, value: type(value) in (int, float))
    number = rng.choice([float("nan"), float("inf"), -float("inf"), -5, 10**30, 1e300])
    return _written(kind, _with(attributes, place, number))


def unknown_name(rng: random.Random, kind: str, attributes: dict) -> str:
    if rng.random() < 0.5:
        place = _any(rng, attributes, lambda place, value: isinstance(place[-1], str))
        parent = _with(attributes, place, _at(attributes, place))
        _at(parent, place[:-1])[f"{place[-1]}_x"] = _at(parent, place[:-1]).pop(place[-1])
        return _written(kind, parent)
    place = _any(rng, attributes, lambda place, value: isinstance(value, str) and place[-1] not in FREE)
    return _written(
        kind, _with(attributes, place, rng.choice(["nope", "", "../x", "os.system", "x" * 20_000, "ftp://x"]))
    )


def template(rng: random.Random, kind: str, attributes: dict) -> str:
    place = _any(rng, attributes, lambda place, value: isinstance(value, str))
    wrong = [
        ENDLESS,
        "{{ 9**9**9 }}",
        "{{ env }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ env.HF_NOT_SET_ANYWHERE }}",
        "{# x #}",
        "{{",
        "{{ env.HOME",
        "x{{ context.project_root }}",
    ]
    return _written(kind, _with(attributes, place, rng.choice(wrong)))  # fmt: skip


FAULTS: list[Fault] = [structure, repeated, wrong_type, out_of_range, unknown_name, template]


def _component(folder: Path, kind: str, text: str | bytes):
    name = KINDS[kind][1]["name"]
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "defs.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return component_of(KINDS[kind][0], folder / name)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_component_of_fifty_faulty_files_tells_each_in_lines_with_rule_and_place(tmp_path, fault):
    for seed in range(50):
        rng = random.Random(f"{fault.__name__} {seed}")
        kind = rng.choice(list(KINDS))
        text = fault(rng, kind, KINDS[kind][1])
        began = time.process_time()
        with pytest.raises(FaultyYAMLError) as caught:
            _component(tmp_path, kind, text)
        assert time.process_time() - began < 5.0
        for line in str(caught.value).splitlines():
            assert re.match(rf"{re.escape(str(tmp_path))}/[ms]/defs\.yaml:\d+: ", line), (seed, line)
            assert " must " in line and line.endswith((".", "?")) and len(line) < 3_000, (seed, line)
            assert "Traceback" not in line and "pydantic" not in line and "Error" not in line, (seed, line)
        assert len(str(caught.value).splitlines()) <= 6, (seed, str(caught.value))


@pytest.mark.parametrize("kind", list(KINDS))
def test_component_of_the_sound_file_gives_text_as_text(tmp_path, kind):
    found = _component(tmp_path, kind, _written(kind, KINDS[kind][1]))
    assert found.name == KINDS[kind][1]["name"]
    if kind == "Market":
        # Digits, and a leading zero, in quotes: Dagster's own reading makes the number 300027 of the first.
        assert (found.universe[1].symbol, found.benchmark) == ("300027", "0700")


def test_component_of_a_value_that_an_alias_repeats_has_it_twice(tmp_path):
    text = _written("Strategy", STRATEGY).replace("  - technical\n", "  - &group technical\n  - *group\n", 1)
    assert _component(tmp_path, "Strategy", text).features == ["technical", "technical"]


def test_read_values_fills_in_variables_of_the_environment_and_their_defaults(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TEST_FOLDER", "s3://bucket/a")
    path = tmp_path / "defs.yaml"
    path.write_text(
        "type: hf_pipelines.components.Market\nattributes:\n  a: '{{ env.HF_TEST_FOLDER }}/x'\n"
        "  b: \"{{ env('HF_TEST_NONE', 'y') }}\"\n  c: \"{{ env('HF_TEST_FOLDER') }}\"\n  d: 2012-01-03\n"
    )
    assert read_values(path).attributes == {"a": "s3://bucket/a/x", "b": "y", "c": "s3://bucket/a", "d": "2012-01-03"}


def test_faulty_files_name_what_is_no_regular_file_at_once(tmp_path):
    (tmp_path / "folder" / "defs.yaml").mkdir(parents=True)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "defs.yaml")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "defs.yaml").symlink_to(tmp_path / "loop" / "defs.yaml")
    (tmp_path / "large").mkdir()
    with (tmp_path / "large" / "defs.yaml").open("wb") as file:
        file.truncate(400 * 2**30)
    faults = read_components(tmp_path)[1]
    for name, told in (("folder", "regular file"), ("pipe", "regular file"), ("loop", "be"), ("large", "at most")):
        assert faults[tmp_path / name].startswith(f"{tmp_path / name / 'defs.yaml'}:1: the file must ")
        assert told in faults[tmp_path / name] and "\n" not in faults[tmp_path / name]


def test_faulty_files_of_the_project_are_none():
    assert len(list(DEFS.rglob("defs.yaml"))) >= 5
    assert read_components(DEFS)[1] == {}


def test_file_of_a_component_is_read_once_when_a_project_is_loaded(tmp_path, monkeypatch):
    folder = tmp_path / "once" / "defs" / "markets" / "m"
    folder.mkdir(parents=True)
    (tmp_path / "once" / "__init__.py").touch()
    (folder.parents[1] / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(PROJECT_FILE.format(package="once"))
    (folder / "defs.yaml").write_text(
        yaml.safe_dump({"type": "hf_pipelines.components.Market", "attributes": MARKET}, sort_keys=False)
    )
    read: list[str] = []
    monkeypatch.setattr(yaml_files, "_text_of", lambda path, of=yaml_files._text_of: read.append(path.name) or of(path))
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = load_components(tmp_path)
    assert [each.name for each in loaded.tree.get_all_components(of_type=Market)] == ["m"]
    assert read == ["defs.yaml"]
