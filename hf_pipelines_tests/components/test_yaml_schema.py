"""The JSON Schema that editors get: takes every file that is shipped, refuses what loading refuses, describes every field."""

import json
from copy import deepcopy
from typing import Any

import pytest
import yaml
from dagster.components.list.list import list_all_components_schema
from jsonschema import Draft202012Validator

from hf_pipelines.commands.scaffolding import project_files
from hf_pipelines.components import Market, Strategy
from hf_pipelines.components.modules import REGISTRIES
from hf_pipelines.components.yaml_files import component_files, read_values
from hf_pipelines.components.yaml_schema import component_schema
from hf_pipelines.research.params import complete_params, param_schema
from hf_pipelines.resources.project import PACKAGE_ROOT
from hf_pipelines.resources.ranges import ranges_of

KINDS = {"hf_pipelines.components.Market": Market, "hf_pipelines.components.Strategy": Strategy}
SHIPPED = {path.parent.name: read_values(path) for path in component_files(PACKAGE_ROOT / "defs")}


@pytest.fixture(scope="module")
def validators() -> dict[str, Any]:
    found = {name: component_schema(kind) for name, kind in KINDS.items()}
    for schema in found.values():
        Draft202012Validator.check_schema(schema)
    return {name: Draft202012Validator(schema) for name, schema in found.items()}


def _faults(validators, values, attributes=None) -> list[str]:
    return [each.json_path for each in validators[values.type].iter_errors(attributes or values.attributes)]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_is_taken(name, validators):
    assert not _faults(validators, SHIPPED[name])


def _changed(name: str, place: tuple[str, ...], value: Any) -> dict[str, Any]:
    attributes = deepcopy(SHIPPED[name].attributes)
    below = attributes
    for key in place[:-1]:
        below = below.setdefault(key, {})
    below[place[-1]] = value
    return attributes


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("us_tech", ("benchmarck",), "SPX"),
        ("us_tech", ("timeframe",), "2d"),
        ("us_tech", ("max_faulty_share",), 0),
        ("us_tech", ("source", "url"), "somewhere"),
        ("us_tech_feed", ("source", "path"), "somewhere"),
        ("tech_direction", ("training", "week"), 52),
        ("tech_direction", ("training", "weeks"), 0),
        ("tech_direction", ("training", "weeks"), "many"),
        ("tech_direction", ("learner", "params", "max_dept"), 4),
        ("tech_direction", ("learner", "params", "max_depth"), 4.5),
        ("tech_direction", ("learner", "params", "learning_rate"), 1e9),
        ("tech_direction", ("learner", "preprocessing"), [{"type": "imputation", "parms": {}}]),
        ("tech_direction", ("target", "params", "uper"), 0.01),
        ("tech_direction", ("signal", "params", "threshhold"), 0.5),
        ("tech_direction", ("cross_validation", "embargo"), 1),
        ("tech_direction", ("holdout",), {"weeks": 0}),
        ("tech_direction", ("backtest", "fill"), "same_close"),
    ],
    ids=lambda each: ".".join(each) if isinstance(each, tuple) else None,
)
def test_what_loading_refuses_of_one_field_is_refused(name, place, value, validators):
    attributes = _changed(name, place, value)
    assert _faults(validators, SHIPPED[name], attributes)
    with pytest.raises(ValueError):
        KINDS[SHIPPED[name].type].model_validate(attributes)


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("us_tech", ("max_faulty_share",), "{{ env('SHARE', '0.1') }}"),
        ("us_tech", ("features",), ["technical", "-technical/rsi_14", "own/pullback_10"]),
        ("us_tech", ("source",), {"type": "desk_source", "key": 1}),
        ("tech_direction", ("learner",), {"type": "own_learner", "params": {"any": 1}}),
        ("tech_direction", ("training", "weighting"), ["class_balance", {"type": "time_decay", "params": {}}]),
        ("tech_direction", ("cross_validation",), {"type": "combinatorial_purged", "n_folds": 6, "n_test_folds": 2}),
    ],
    ids=lambda each: ".".join(each) if isinstance(each, tuple) else None,
)
def test_variables_and_entries_of_ones_own_are_taken(name, place, value, validators):
    assert not _faults(validators, SHIPPED[name], _changed(name, place, value))


@pytest.mark.parametrize("place", ["universe", "benchmark"])
def test_a_ticker_of_digits_without_quotes_is_answered_with_the_quotes(place):
    """`dg check defs` shows the words of the schema alone, and looks at it before a file is loaded."""
    # Octal: what YAML makes of 0101.
    attributes = _changed("us_tech", (place,), [{"symbol": 65}] if place == "universe" else 65)
    validator = Draft202012Validator(Market.get_model_cls().model_json_schema())
    assert [each.message for each in validator.iter_errors(attributes)] == [
        """'text in quotes, such as "0101"' was expected"""
    ]
    assert not list(validator.iter_errors(SHIPPED["us_tech"].attributes))


def test_dagster_writes_this_schema_for_its_editors_and_it_takes_a_new_project():
    schema = list_all_components_schema(entry_points=True, extra_modules=())
    validator = Draft202012Validator(schema)
    files = [text for path, text in project_files("myfund") if path.name == "defs.yaml"]
    assert len(files) == 2
    for text in files:
        values = yaml.safe_load(text)
        assert validator.is_valid(values)
        values["attributes"]["descripton"] = "A typo."
        assert not validator.is_valid(values)
    assert {"MarketAttributes", "StrategyAttributes"} <= {*schema["$defs"]}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda each: each.__name__)
def test_every_field_is_described(kind):
    def undescribed(schema: Any, place: str) -> list[str]:
        if isinstance(schema, list):
            return [each for item in schema for each in undescribed(item, place)]
        if not isinstance(schema, dict):
            return []
        fields = schema.get("properties", {})
        # Of a condition and of what begins a choice no meaning is shown.
        missing = [f"{place}.{name}" for name, each in fields.items() if not each.get("description")]
        below = [found for name, each in fields.items() for found in undescribed(each, f"{place}.{name}")]
        others = [schema.get(key) for key in ("items", "anyOf")]
        return [*missing, *below, *(found for each in others for found in undescribed(each, place))]

    of_choices = {".type", ".params"}
    found = undescribed(component_schema(kind), "")
    assert [each for each in found if not any(each.endswith(end) for end in of_choices)] == []


def test_every_parameter_of_every_entry_is_described():
    bare = [
        f"{table}.{name}.{each}"
        for table, registry in REGISTRIES.items()
        for name, entry in registry.entries.items()
        for each, param in getattr(entry, "params", {}).items()
        if not param.meaning
    ]
    assert bare == []


def test_ranges_are_those_that_loading_checks():
    schema = component_schema(Strategy)["properties"]
    weeks = schema["training"]["properties"]["weeks"]["anyOf"][0]
    assert (weeks["minimum"], weeks["maximum"]) == (1, 2_600)
    for part in ("target", "training", "learner", "backtest"):
        model = Strategy.model_fields[part].annotation
        for name, allowed in ranges_of(model).items():
            number = schema[part]["properties"][name]["anyOf"][0]
            assert (number["minimum"], number["maximum"]) == (allowed.low, allowed.high), name
            for bad in (allowed.low - 1, allowed.high + 1):
                with pytest.raises(ValueError, match=name):
                    model.model_validate({"type": "any", name: bad})


def _nested(given: Any, place: str) -> Any:
    if not isinstance(given, dict):
        raise ValueError(place)
    return given


def test_a_parameter_takes_by_its_schema_what_the_check_takes():
    checked = 0
    for registry in REGISTRIES.values():
        for name, entry in registry.entries.items():
            for each, param in getattr(entry, "params", {}).items():
                validator = Draft202012Validator(param_schema(param))
                for value in (None, True, -1, 0, 0.5, 3, 1e12, "x", "mean", [], [1, 2], {"type": "ridge"}):
                    try:
                        complete_params(name, {each: value}, {each: param}, nested=_nested)
                        is_taken = True
                    except (ValueError, TypeError):
                        is_taken = False
                    checked += 1
                    assert validator.is_valid(value) == is_taken, f"{name}.{each}: {json.dumps(value)}"
    assert checked > 2_000
