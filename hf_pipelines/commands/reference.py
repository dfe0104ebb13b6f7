"""Reference: pages of the docs that are made of the code, so that they say what the code does.

Lives here: fields of the YAML, entries of the registries, commands, environment variables and the Python API as Markdown. Does not
live here: the site (`docs/`), what the pages describe, which names are public (`public_api`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from hf_pipelines.commands.app import app
from hf_pipelines.commands.cli import app_parameters, commands
from hf_pipelines.commands.entries import PLURALS, abilities_of, summary_of
from hf_pipelines.commands.literature import places, source_of
from hf_pipelines.commands.public_api import API
from hf_pipelines.components import Market, Strategy
from hf_pipelines.components.modules import REGISTRIES
from hf_pipelines.components.yaml_schema import component_schema, model_schema
from hf_pipelines.research.features.registry import FEATURES
from hf_pipelines.research.learners.learner import Learner
from hf_pipelines.research.params import describe_params, search_space
from hf_pipelines.resources import settings
from hf_pipelines.resources.market_data.registry import SOURCES
from hf_pipelines.resources.market_data.source_entry import SourceEntry


def reference_pages() -> Iterator[tuple[str, str]]:
    """Name (without `.md`) and text of every page, in a fixed order."""
    yield "market-yaml", _yaml_page("Market", Market, "defs/markets/NAME/defs.yaml")
    yield "strategy-yaml", _yaml_page("Strategy", Strategy, "defs/strategies/NAME/defs.yaml")
    yield "features", _features_page()
    for table in REGISTRIES:
        yield f"entries-{table.lower()}", _entries_page(table)
    yield "literature", _literature_page()
    yield "commands", _commands_page()
    yield "environment", _environment_page()
    for name, modules in API.items():
        yield f"api-{name}", _api_page(name, modules)


def table_of(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table; empty cells stay empty."""
    cells = [[_cell(each) for each in row] for row in rows]
    return [
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(row)} |" for row in cells),
        "",
    ]


def _cell(value: object) -> str:
    """A text that neither ends its cell nor, outside of code, is read as HTML."""
    text = str(value).replace("|", "\\|").replace("\n", " ")
    return "`".join(part if at % 2 else part.replace("<", "&lt;") for at, part in enumerate(text.split("`")))


def page(title: str, lines: Sequence[str]) -> str:
    """A page of Markdown."""
    return "\n".join([f"# {title}", "", *lines]).rstrip() + "\n"


def _yaml_page(title: str, kind: Any, path: str) -> str:
    schema = component_schema(kind)
    parts = [f"Fields of `{path}`, below `attributes`. {schema['description'].splitlines()[0]}", ""]
    return page(f"{title} YAML", [*parts, *_fields_of(schema, ())])


def _fields_of(schema: Mapping[str, Any], place: tuple[str, ...]) -> Iterator[str]:
    """A table of the fields of a mapping, then one of each mapping among them."""
    required = {*schema.get("required", ())}
    shown = {name: _parts_of(field) for name, field in schema["properties"].items()}
    yield from table_of(
        ("field", "type", "default", "meaning"),
        [
            (
                f"`{name}`",
                _type_in_words(parts),
                _default_in_words(name, field, required),
                _linked(field.get("description", "")),
            )
            for (name, field), parts in zip(schema["properties"].items(), shown.values(), strict=True)
        ],
    )
    for name, parts in shown.items():
        for part in parts:
            below = part.get("items", part)
            inner = [each for each in _parts_of(below) if "properties" in each]
            for each in inner:
                kind = each["properties"].get("type", {}).get("const")
                if "properties" in each and (kind or each.get("title")):
                    dotted = ".".join((*place, name)) + ("[]" if "items" in part else "")
                    yield f"## {dotted}{f', type {kind}' if kind else ''}"
                    yield ""
                    source = SOURCES.get(kind or "")
                    yield _sentence(summary_of(source) if source else each["description"].splitlines()[0])
                    yield ""
                    yield from _fields_of(each, (*place, name))


def _parts_of(field: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The kinds that a field may be of, each a schema of its own."""
    if "anyOf" in field:
        return [part for each in field["anyOf"] for part in _parts_of(each)]
    return [field]


def _type_in_words(parts: Sequence[Mapping[str, Any]]) -> str:
    words = [_kind_in_words(each) for each in parts]
    told = " or ".join(dict.fromkeys(each for each in words if each))
    # A text of a form of its own, such as the letters of a currency.
    own = [each["pattern"] for each in parts if each.get("type") == "string" and "pattern" in each]
    return told or f"text like `{own[0]}`" if own else told


def _kind_in_words(part: Mapping[str, Any]) -> str:
    """One kind; "" for what any field may be, a variable of the environment."""
    if "enum" in part:
        names = [str(each) for each in part["enum"]]
        return ", ".join(names) if len(names) < 40 else "names"
    if "const" in part:
        return str(part["const"])
    match part.get("type"):
        case "integer" | "number" as kind:
            low = part.get("minimum", part.get("exclusiveMinimum"))
            words = "whole number" if kind == "integer" else "number"
            if low is None:
                return words
            begin = f"above {low:,}, at most" if "exclusiveMinimum" in part else f"from {low:,} to"
            return f"{words} {begin} {part['maximum']:,}"
        case "string":
            # Not shown: any field takes a variable, and any name may be that of an entry of one's own.
            return "" if "pattern" in part else "text"
        case "array":
            return f"list of {_type_in_words(_parts_of(part['items'])) or 'any'}" if part.get("items") else "list"
        case "object":
            return "mapping"
        case "boolean":
            return "true or false"
        case "null":
            return "null"
    return "any"


def _default_in_words(name: str, field: Mapping[str, Any], required: set[str]) -> str:
    if name in required:
        return "required"
    value = field.get("default")
    if value is None or value == "":
        return "see below" if "properties" in field else "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _linked(text: str) -> str:
    """A meaning with links to the tables that it names outside of code."""

    def link(found: re.Match[str]) -> str:
        return f"[{found[0]}](entries-{found[0].lower()}.md)" if found[0] in REGISTRIES else found[0]

    parts = text.split("`")
    return "`".join(part if at % 2 else re.sub(r"\b[A-Z]{4,}\b", link, part) for at, part in enumerate(parts))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _features_page() -> str:
    lines = [
        "What a market's `features` may name: a group, or `group/name`. A value reads the bars and tables that are told, no more; where it",
        "has too few it is NaN. `hfp list features` prints the same, with the markets that store a feature.",
        "",
    ]
    groups = list(dict.fromkeys(each.group for each in FEATURES.values()))
    for group in groups:
        found = [each for each in FEATURES.values() if each.group == group]
        rows = [
            (f"`{each.name}`", each.formula, each.window, ", ".join(each.inputs), source_of("FEATURES", each.name))
            for each in found
        ]
        lines += [f"## {group}", "", f"{len(found)} features.", ""]
        lines += table_of(("feature", "formula", "reads", "inputs", "source"), rows)
    return page("Features", lines)


def _entries_page(table: str) -> str:
    registry = REGISTRIES[table]
    lines = [f"Values of `{registry.field}`. `hfp list {PLURALS[table]}` prints the same.", ""]
    lines += table_of(
        ("entry", "what it is"),
        [(f"[`{name}`](#{_anchor(name)})", _sentence(summary_of(entry))) for name, entry in registry.entries.items()],
    )
    for name, entry in registry.entries.items():
        lines += [f"## {name}", "", _sentence(summary_of(entry)), ""]
        if isinstance(entry, Learner):
            lines += [f"Family {entry.family}; {', '.join(abilities_of(entry))}.", ""]
        if source := source_of(table, name):
            lines += [f"Source: {_cell(source)}.", ""]
        if isinstance(entry, SourceEntry):
            lines += _fields_of(model_schema(entry.spec), ())
            continue
        params: Any = getattr(entry, "params", {})
        if params:
            rows = [(f"`{row[0]}`", *row[1:3], search_space(params[row[0]]), row[3]) for row in describe_params(params)]
            lines += table_of(("parameter", "default", "allowed", "search space", "meaning"), rows)
    return page(f"{table.capitalize()}: {registry.field}", lines)


def _literature_page() -> str:
    """Sources by table; those of features are on their own page."""
    lines = [
        "What each entry follows: a paper, a book, a library, or this project's own definition. Where the code differs from what it follows,",
        "the line or the module of the entry says how. [Features](features.md) name theirs; functions of the Python API theirs below `References`.",
        "",
    ]
    sources = [(table, name) for table, name in places() if table != "FEATURES"]
    for table in dict.fromkeys(table for table, _ in sources):
        rows = [(f"`{name}`", source_of(table, name)) for each, name in sources if each == table]
        lines += [f"## {table}", "", *table_of(("entry", "source"), rows)]
    return page("Literature", lines)


def _anchor(heading: str) -> str:
    """As the site makes it of a heading."""
    return re.sub(r"[^a-z0-9_-]", "", heading.lower().replace(" ", "-"))


def _commands_page() -> str:
    lines = [str(app.info.help), "", *_options_of(app_parameters())]
    for name, command in commands():
        lines += [f"## hfp {name}", "", command.help, ""]
        lines += _options_of(command.params)
        if command.epilog:
            examples = [line.strip() for line in command.epilog.replace("\b", "").splitlines() if line.strip()]
            lines += ["```console", *examples[1:], "```", ""]
    return page("Commands", lines)


def _options_of(parameters: Sequence[Any]) -> list[str]:
    rows = []
    for each in parameters:
        is_option = each.param_type_name == "option"
        value = each.metavar or each.name.upper()
        names = ", ".join(each.opts) + ("" if each.is_flag else f" {value}") if is_option else value
        is_told = each.required or each.default in (None, False) or "default:" in each.help
        default = "" if is_told else f" Default: {each.default}."
        rows.append((f"`{names}`", "required" if each.required else "optional", f"{each.help}{default}"))
    return table_of(("argument", "", "meaning"), rows) if rows else []


def environment_variables() -> dict[str, tuple[str, str]]:
    """Default and meaning of each variable that the project reads, from the table of `resources.settings`."""
    found = {}
    for line in (settings.__doc__ or "").splitlines():
        cells = [each.strip() for each in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and re.match(r"[A-Z]", cells[0]):
            names, defaults = cells[0].split(", "), cells[1].split(", ")
            # Of several in a line each has its own default, or one is that of all.
            each_has = len(defaults) == len(names)
            for at, name in enumerate(names):
                found[name] = (defaults[at] if each_has else cells[1], cells[2])
    return found


def _environment_page() -> str:
    rows = [(f"`{name}`", default, meaning) for name, (default, meaning) in environment_variables().items()]
    lines = [
        "Read when a process starts. `hfp` refuses a value that it cannot use before it does anything. What to set where is in",
        "[Settings](../operate/settings.md).",
        "",
    ]
    return page("Environment variables", [*lines, *table_of(("variable", "default", "meaning"), rows)])


def _api_page(name: str, modules: Mapping[str, Sequence[str]]) -> str:
    lines = []
    for module, names in modules.items():
        lines += [f"## {module}", ""]
        if summary := (import_module(module).__doc__ or "").strip().splitlines()[:1]:
            lines += [summary[0], ""]
        for each in names:
            is_class = isinstance(getattr(import_module(module), each), type)
            directive = "autoclass" if is_class else "autofunction"
            lines += ["```{eval-rst}", f".. {directive}:: {module}.{each}", "```", ""]
    return page(f"Python: {name}", lines)
