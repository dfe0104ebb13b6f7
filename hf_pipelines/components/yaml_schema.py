"""YAML schema: what the file of a market or a strategy may hold, as JSON Schema, for editors and for the reference.

Lives here: the schema of a component's fields with the ranges that its validators check, and the names and parameters of the
registries' entries. Does not live here: the fields (`market`, `strategy`), and reading a file (`yaml_files`): what loads a file
knows more, such as entries of modules of one's own and fields that must fit together.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from hf_pipelines.components.modules import REGISTRIES
from hf_pipelines.research.features.registry import FEATURES
from hf_pipelines.research.params import param_schema
from hf_pipelines.resources.market_data.registry import SOURCES
from hf_pipelines.resources.ranges import ranges_of

Schema = dict[str, Any]

# A value that the environment fills in when the file is loaded.
VARIABLE = {"type": "string", "pattern": r"^\{\{ *env"}

# Parameters of an entry of a module of one's own are known when the module is imported.
OWN_ENTRY = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}

# YAML reads 0101 as 65 and TRUE as a truth value.
QUOTED = 'text in quotes, such as "0101"'


class YamlSchema:
    """Beside `dg.Resolvable`: Dagster's commands get the schema of the component's YAML instead of that of its Python fields."""

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Dagster's own model of the fields, with our schema."""
        kind: Any = cls
        return _described(kind)


@cache
def _described(kind: Any) -> type[BaseModel]:
    def schema(cls: type[BaseModel], core: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        return with_quotes_said(component_schema(kind))

    base: Any = kind.model()
    # By this name it stands among the definitions of the schema that `dg` writes.
    described: type[BaseModel] = type(base)(
        f"{kind.__name__}Attributes", (base,), {"__get_pydantic_json_schema__": classmethod(schema)}
    )
    return described


def with_quotes_said(schema: Schema) -> Schema:
    """The schema whose refusal of a number in the place of text says the remedy: `dg check defs` shows the words of the schema alone.

    Examples
    --------
    >>> with_quotes_said({"properties": {"symbol": {"type": "string", "description": "Ticker."}}})["properties"]["symbol"]["then"]
    {'const': 'text in quotes, such as "0101"'}
    """
    told = dict(schema)
    if "properties" in schema:
        told["properties"] = {name: with_quotes_said(each) for name, each in schema["properties"].items()}
    if isinstance(schema.get("items"), dict):
        told["items"] = with_quotes_said(schema["items"])
    if schema.get("type") == "string" and not {"enum", "pattern", "const"} & {*schema}:
        # Of `type` the refusal would be: 65 is not of type 'string'.
        del told["type"]
        told |= {"if": {"not": {"type": "string"}}, "then": {"const": QUOTED}}
    return told


def component_schema(kind: type[BaseModel]) -> Schema:
    """Schema of the `attributes` of a component's YAML, without references to other schemas.

    Parameters
    ----------
    kind : type
        `Market` or `Strategy`.
    """
    schema = model_schema(kind)
    fields = schema["properties"]
    for name, refine in _REFINED.items():
        if name in fields:
            fields[name] = {**refine(fields[name]), "description": fields[name]["description"]}
    return schema


def model_schema(model: type[BaseModel]) -> Schema:
    """Schema of the fields of a model, with the ranges of `ranged` and a variable of the environment for any number."""
    whole = model.model_json_schema(by_alias=True)
    found: Schema = _resolved(_ranged(whole, model), whole.get("$defs", {}), _models_below(model))
    return found


def _models_below(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}
    for field in model.model_fields.values():
        for each in _models_of(field.annotation):
            found |= {each.__name__: each} | _models_below(each)
    return found


def _models_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for each in getattr(annotation, "__args__", ()) for model in _models_of(each)]


def _ranged(schema: Schema, model: type[BaseModel]) -> Schema:
    """The schema of a model with the ranges of its fields."""
    ranges = ranges_of(model)
    fields = {name: dict(each) for name, each in schema.get("properties", {}).items()}
    for name, allowed in ranges.items():
        field = fields[model.model_fields[name].alias or name]
        for part in (field, *field.get("anyOf", [])):
            if part.get("type") in ("integer", "number"):
                part["exclusiveMinimum" if allowed.above else "minimum"] = allowed.low
                part["maximum"] = allowed.high
    for field in fields.values():
        field.pop("title", None)
        if field.get("type") in ("integer", "number", "boolean"):
            kept = {key: field.pop(key) for key in ("default", "description") if key in field}
            field |= {"anyOf": [{**field}, VARIABLE], **kept}
            for key in [each for each in field if each not in ("anyOf", *kept)]:
                del field[key]
    return {**{key: each for key, each in schema.items() if key != "$defs"}, "properties": fields}


def _resolved(schema: Any, known: Mapping[str, Schema], models: Mapping[str, type[BaseModel]]) -> Any:
    """The schema with each reference replaced by what it refers to."""
    if isinstance(schema, list):
        return [_resolved(each, known, models) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if (reference := schema.get("$ref")) is not None:
        name = str(reference).rpartition("/")[2]
        beside = {key: each for key, each in schema.items() if key != "$ref"}
        target = _ranged(known[name], models[name]) if name in models else known[name]
        return {**_resolved(target, known, models), **beside}
    return {key: _resolved(each, known, models) for key, each in schema.items()}


def _entries(table: str) -> list[str]:
    registry = REGISTRIES[table]
    return sorted({*registry.entries, *registry.others})


def _named(names: list[str]) -> Schema:
    """A name of an entry: the known ones are offered, others may come from modules of one's own."""
    return {"anyOf": [{"enum": names}, OWN_ENTRY]}


def _params_of(table: str, *, key: str = "type") -> list[Schema]:
    """For each entry the parameters that it has: what is not among them is refused."""
    registry = REGISTRIES[table]
    found = []
    for name in _entries(table):
        entry = registry.entries.get(name) or registry.entries.get(_entry_of(registry.others[name]))
        params = getattr(entry, "params", None)
        if not isinstance(params, Mapping):
            continue
        found.append(
            {
                "if": {"properties": {key: {"const": name}}, "required": [key]},
                "then": {
                    "properties": {
                        "params": {
                            "type": "object",
                            "properties": {each: param_schema(param) for each, param in params.items()},
                            "additionalProperties": False,
                        }
                    }
                },
            }
        )
    return found


def _entry_of(alias: Any) -> str:
    """Name of the entry that another name leads to; "" for none."""
    return alias if isinstance(alias, str) else getattr(alias, "name", "")


def _choice(table: str) -> Schema:
    """`type` and `params` of an entry."""
    return {
        "type": "object",
        "properties": {"type": _named(_entries(table)), "params": {"type": "object"}},
        "required": ["type"],
        "additionalProperties": False,
        "allOf": _params_of(table),
    }


def _with_entries(table: str, field: Schema) -> Schema:
    """A field whose `type` names an entry, beside what else it has."""
    fields = {**field["properties"]}
    fields["type"] = {**fields["type"], **_named(_entries(table))}
    fields["type"].pop("type", None)
    return {**field, "properties": fields, "allOf": _params_of(table)}


def _splitter(field: Schema) -> Schema:
    """Parameters of a splitter may stand beside `type`, too."""
    found = _with_entries("SPLITTERS", field)
    beside = {
        name: param_schema(param)
        for entry in REGISTRIES["SPLITTERS"].entries.values()
        for name, param in entry.params.items()
        if name not in field["properties"]
    }
    return {**found, "properties": {**found["properties"], **{name: {} | each for name, each in beside.items()}}}


def _learner(field: Schema) -> Schema:
    found = _with_entries("LEARNERS", field)
    step = {"anyOf": [_named(_entries("PREPROCESSING")), _choice("PREPROCESSING")]}
    calibration = {"anyOf": [_named(_entries("CALIBRATIONS")), _choice("CALIBRATIONS"), {"type": "null"}]}
    fields = found["properties"]
    fields["preprocessing"] = {**fields["preprocessing"], "items": step}
    fields["calibration"] = {**fields["calibration"], **calibration}
    return found


def _training(field: Schema) -> Schema:
    one = {"anyOf": [_named(_entries("WEIGHTINGS")), _choice("WEIGHTINGS")]}
    weighting = {**field["properties"]["weighting"], "anyOf": [one, {"type": "array", "items": one}]}
    return {**field, "properties": {**field["properties"], "weighting": weighting}}


def _backtest(field: Schema) -> Schema:
    engine = {**field["properties"]["engine"], **_named(_entries("ENGINES"))}
    engine.pop("type", None)
    return {**field, "properties": {**field["properties"], "engine": engine}}


def _signal(field: Schema) -> Schema:
    found = _with_entries("RULES", field)
    steps = {"sizing": "SIZINGS", "limits": "LIMITS"}
    listed = {
        name: {**found["properties"][name], "items": {"anyOf": [_named(_entries(table)), _choice(table)]}}
        for name, table in steps.items()
    }
    return {**found, "properties": {**found["properties"], **listed}}


def _intervals(field: Schema) -> Schema:
    given, none = field["anyOf"]
    method = {**given["properties"]["method"], **_named(_entries("INTERVALS"))}
    method.pop("type", None)
    fields = {**given["properties"], "method": method}
    return {**field, "anyOf": [{**given, "properties": fields, "allOf": _params_of("INTERVALS", key="method")}, none]}


def _features(field: Schema) -> Schema:
    names = sorted(
        {each.group for each in FEATURES.values()} | {f"{each.group}/{each.name}" for each in FEATURES.values()}
    )
    # Groups and features of one's own look alike.
    own = {"type": "string", "pattern": "^-?[a-z][a-z0-9_]*(/[A-Za-z0-9_]+)?$"}
    return {"type": "array", "items": {"anyOf": [{"enum": names}, own]}}


def _source(*, tables_only: bool = False) -> Schema:
    kinds = {name: entry for name, entry in SOURCES.items() if not tables_only or entry.build_table is not None}
    cases = []
    for name, entry in kinds.items():
        schema = model_schema(entry.spec)
        schema["properties"]["type"] = {**schema["properties"]["type"], "const": name}
        cases.append(schema)
    known = {"properties": {"type": {"enum": list(kinds)}}}
    # Of a module of one's own the fields are not known here.
    own = {"type": "object", "properties": {"type": OWN_ENTRY}, "required": ["type"], "not": known}
    return {"anyOf": [*cases, own]}


def _references(field: Schema) -> Schema:
    item = field["items"]
    source = {**_source(tables_only=True), "description": item["properties"]["source"]["description"]}
    return {**field, "items": {**item, "properties": {**item["properties"], "source": source}}}


# Fields that name entries of registries, each with what it may hold beyond its type.
_REFINED = {
    "source": lambda field: _source(),
    "references": _references,
    "features": _features,
    "target": lambda field: _with_entries("TARGETS", field),
    "training": _training,
    "cross_validation": _splitter,
    "learner": _learner,
    "intervals": _intervals,
    "signal": _signal,
    "backtest": _backtest,
}
