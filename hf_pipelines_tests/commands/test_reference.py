"""The reference: made of the code, so every field, entry, command, variable and public name is in it, with words."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from hf_pipelines.commands.cli import commands
from hf_pipelines.commands.literature import places, source_of
from hf_pipelines.commands.public_api import API
from hf_pipelines.commands.reference import environment_variables, reference_pages
from hf_pipelines.components import Market, Strategy
from hf_pipelines.components.modules import REGISTRIES
from hf_pipelines.research.cost_kinds import COST_KINDS
from hf_pipelines.research.features.registry import FEATURES
from hf_pipelines.research.learners import LEARNERS
from hf_pipelines.research.learners.registry import SUMMARIES
from hf_pipelines.research.promotion import GATES
from hf_pipelines.research.tuning.samplers import SAMPLERS
from hf_pipelines.resources.project import PACKAGE_ROOT

# Between processes of one stack; nobody sets it.
INTERNAL = {"HF_STACK_ID"}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return dict(reference_pages())


def _rows(text: str) -> list[list[str]]:
    """Cells of the rows of a page's tables, without their headers."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[each.strip() for each in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_pages_are_the_same_at_each_build(pages):
    assert dict(reference_pages()) == pages


@pytest.mark.parametrize(("page", "kind"), [("market-yaml", Market), ("strategy-yaml", Strategy)])
def test_every_yaml_field_is_a_row_with_type_default_and_meaning(pages, page, kind):
    rows = {row[0]: row for row in _rows(pages[page])}
    for name in kind.model_fields:
        assert all(rows[f"`{name}`"]), name
    # Of mappings in it too.
    for name in (
        ("horizon_bars", "weeks", "n_splits", "validation_share", "fee_bps", "from")
        if kind is Strategy
        else ("verdict", "since", "uri")
    ):
        assert all(rows[f"`{name}`"]), name


def test_a_range_and_a_default_are_those_of_the_code(pages):
    rows = {row[0]: row for row in _rows(pages["strategy-yaml"])}
    assert rows["`validation_share`"][1:3] == ["number from 0.01 to 0.5", "0.2"]
    assert rows["`max_model_age_weeks`"][1:3] == ["whole number from 0 to 520", "0"]
    assert rows["`learner`"][1:3] == ["mapping", "required"]
    # What is code stays as it is; elsewhere a table is a link.
    assert "`LEARNERS`, `RULES`" in rows["`modules`"][3]
    assert rows["`engine`"][3] == "What simulates the account: a key of [ENGINES](entries-engines.md)."


@pytest.mark.parametrize("table", REGISTRIES)
def test_every_entry_has_a_heading_a_summary_and_its_parameters(pages, table):
    text = pages[f"entries-{table.lower()}"]
    for name, entry in REGISTRIES[table].entries.items():
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert re.match(r"\n[A-Z0-9(].*\.\n", section), f"{table}.{name} has no summary: {section[:80]!r}"
        rows = {row[0]: row for row in _rows(section)}
        for param in getattr(entry, "params", {}):
            default, allowed, _, meaning = rows[f"`{param}`"][1:]
            assert default and allowed and meaning, f"{table}.{name}.{param}"


def test_every_shipped_learner_has_a_summary_and_none_that_is_gone():
    shipped = {name for name, each in LEARNERS.items() if each.build.__module__.startswith("hf_pipelines.")}
    assert {*SUMMARIES} >= shipped and {*SUMMARIES} <= {*LEARNERS}


def _is_shipped(entry: Any) -> bool:
    """Whether none of its functions is of a module of somebody's own, which other tests may have registered."""
    functions = [each for each in vars(entry).values() if callable(each)]
    return all(each.__module__.startswith(("hf_pipelines.", "functools")) for each in functions)


def test_every_method_has_a_source_and_none_that_is_gone(pages):
    shipped = {"FEATURES": FEATURES, "COST_KINDS": COST_KINDS, "SAMPLERS": SAMPLERS, "GATES": GATES}
    shipped |= {table: each.entries for table, each in REGISTRIES.items() if table != "SOURCES"}
    ours = {(table, name) for table, entries in shipped.items() for name, each in entries.items() if _is_shipped(each)}
    lacking = sorted(place for place in ours if not source_of(*place))
    assert lacking == [] and {*places()} <= ours
    # One place: a feature that tells its own source has no second one.
    assert [name for table, name in places() if table == "FEATURES" and FEATURES[name].source] == []
    assert "Source: Harvey et al. (2018)" in pages["entries-sizings"]
    assert "| `deflated_sharpe` | Bailey & López de Prado (2014)" in pages["literature"]


def test_every_feature_is_a_row_with_its_formula(pages):
    rows = {row[0]: row for row in _rows(pages["features"])}
    for feature in FEATURES.values():
        assert all(rows[f"`{feature.name}`"][:4]), feature.name
        assert f"## {feature.group}\n" in pages["features"]


def test_every_command_and_option_is_there_with_its_meaning(pages):
    text = pages["commands"]
    names = [name for name, _ in commands()]
    assert len(names) > 20 and {"demo", "ledger summary", "feature test", "stack"} <= {*names}
    for name, command in commands():
        section = text.partition(f"\n## hfp {name}\n")[2].partition("\n## ")[0]
        assert re.match(r"\n[A-Z].+\.\n", section), name
        told = " ".join(row[0] for row in _rows(section))
        for each in command.params:
            is_option = each.param_type_name == "option"
            assert (each.opts[0] if is_option else each.metavar or each.name.upper()) in told
        assert all(row[2] for row in _rows(section)), name


def test_every_variable_that_the_code_reads_is_there(pages):
    read = {
        name
        for path in PACKAGE_ROOT.rglob("*.py")
        for name in re.findall(r"""["'](HF_[A-Z0-9_]+)["']""", path.read_text(encoding="utf-8"))
    }
    known = environment_variables()
    assert read - INTERNAL <= {*known}
    assert {name for name in known if name.startswith("HF_")} <= read
    for name, (default, meaning) in known.items():
        assert default and meaning and f"| `{name}` |" in pages["environment"]
        # A default of one is not that of another.
        assert not re.fullmatch(r"\d+, \d+", default), name
    # The page for who sets them groups all of them by purpose, and repeats no default.
    told = (PACKAGE_ROOT.parent / "docs" / "operate" / "settings.md").read_text(encoding="utf-8")
    assert {*re.findall(r"`(HF_[A-Z0-9_]+)`", told)} == {name for name in known if name.startswith("HF_")}


def test_every_public_name_is_there_and_can_be_imported(pages):
    for name, modules in API.items():
        for module, names in modules.items():
            for each in names:
                found = getattr(import_module(module), each)
                assert found.__doc__ and f":: {module}.{each}\n" in pages[f"api-{name}"]


def test_no_page_of_the_site_that_is_made_of_the_code_is_kept_in_git():
    docs = PACKAGE_ROOT.parent / "docs"
    for folder, kept in (("reference", {"index.md", "editors.md"}), ("contracts", {"index.md"})):
        rules = Path(docs, folder, ".gitignore").read_text().splitlines()
        assert {each.removeprefix("!") for each in rules if each.startswith("!")} == kept
        assert all(Path(docs, folder, each).exists() for each in kept)
