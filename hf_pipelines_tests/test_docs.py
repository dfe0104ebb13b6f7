"""The docs: what they tell people to type, write and click is there, and recipes do what they say."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
import yaml
from pydantic import ValidationError

from hf_pipelines.commands.features import feature_test_lines
from hf_pipelines.commands.scaffolding import add_entry, make_project
from hf_pipelines.components import Market, Strategy, modules
from hf_pipelines.components.modules import REGISTRIES
from hf_pipelines.research.features import FEATURES, build_panel, technical
from hf_pipelines.resources.footer import Stamp
from hf_pipelines.resources.object_store import ObjectStore
from hf_pipelines.resources.partition_codec import Content
from hf_pipelines.resources.partition_store import PartitionStore
from hf_pipelines.resources.project import project_at
from hf_pipelines_tests.doc_pages import DOCS, ROOT, SHELLS, Block, blocks, command_fault, commands, links, pages
from hf_pipelines_tests.pipeline import Project, market_of
from hf_pipelines_tests.sample_bars import bars_of

MOST_README_LINES = 200

FEATURE_PAGE = DOCS / "guides" / "feature.md"

# Commands of `dg` that the pages may name: those that work in a project of ours.
DG = {
    "check defs",
    "check yaml",
    "list defs",
    "list components",
    "scaffold defs",
    "utils generate-component-schema",
    "utils inspect-component",
    "utils configure-editor",
}

OURS = ROOT / "hf_pipelines" / "defs"


def page_names() -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages()]


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """The registries, put back as they were: pages add entries."""
    held = [(each.entries, dict(each.entries)) for each in REGISTRIES.values()]
    held += [(each, dict(each)) for each in (FEATURES, modules._origins, modules._feature_origins)]
    imported = set(sys.modules)
    yield
    for entries, before in held:
        entries.clear()
        entries.update(before)
    for name in {name for name in set(sys.modules) - imported if name.split(".")[0] == "desk"}:
        # Another page writes a package of the same name.
        del sys.modules[name]


def test_readme_is_short_and_leads_into_the_docs():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= MOST_README_LINES
    assert {"docs/quickstart.md", "docs/guides/index.md", "docs/operate/index.md"} <= {
        target for _, target in links(ROOT / "README.md")
    }


def test_every_link_of_a_page_leads_to_a_file():
    # Of README, CONTRIBUTING and SECURITY, which Sphinx does not see where they lie.
    dead = [
        f"{page.relative_to(ROOT)}:{line}: {target}"
        for page in pages()
        for line, target in links(page)
        if not (page.parent / target.partition("#")[0]).exists()
    ]
    assert dead == []


def test_every_command_that_a_page_names_exists_with_its_options():
    faults = [
        f"{each.place}: {each.text}: {fault}"
        for page in pages()
        for each in commands(page)
        if (fault := command_fault(each, targets()))
    ]
    assert faults == []


def test_page_with_wrong_commands_names_each_with_its_line(tmp_path, monkeypatch):
    page = write_page(
        tmp_path,
        monkeypatch,
        "Type `hfp materialize` or `hfp retrain`.\n\n```\nhfp status --strikt\nmake demos\nhfp retrain tech_ranking\n```\n",
    )
    faults = [(each.place, fault) for each in commands(page) if (fault := command_fault(each, targets()))]
    assert [place for place, _ in faults] == ["page.md:4", "page.md:5", "page.md:6", "page.md:1"]
    said = [fault for _, fault in faults]
    assert "No such option: --strikt" in said[0] and said[1] == "make has no demos"
    assert "Missing option" in said[2] and "No such command 'materialize'" in said[3]


@pytest.mark.parametrize("name", page_names())
def test_recipes_of_a_page_run_and_load(name, tmp_path, monkeypatch):
    run_page(ROOT / name, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "```python\nfrom hf_pipelines.research.features.technical import _feature\n```\n",
            "cannot import name '_feature'",
        ),
        ("```yaml\nlearner: {type: rigde}\n```\n", "did you mean ridge"),
        (
            "```yaml\nbenchmark: SPX\ncalender_overrides: []\n```\n",
            "is of neither a market nor a strategy: calender_overrides",
        ),
        ("```rust\nfn main() {}\n```\n", "no language that is run"),
    ],
    ids=["a name that does not exist", "a misspelt learner", "a misspelt field", "a language that is not run"],
)
def test_page_with_a_wrong_recipe_fails_with_its_line(tmp_path, monkeypatch, text, message):
    page = write_page(tmp_path, monkeypatch, "# A page\n\n" + text)
    with pytest.raises(AssertionError, match=rf"page\.md:4: .*{message}"):
        run_page(page, tmp_path / "run", monkeypatch)


def test_recipe_of_a_feature_adds_one_to_a_project_that_init_has_made(tmp_path, monkeypatch):
    make_project("desk", tmp_path / "desk")
    project = project_at(tmp_path / "desk")
    said = add_entry("feature", "overnight", project)
    assert "  modules: [desk.overnight]" in said
    files = {each.file_name: each.text for each in blocks(FEATURE_PAGE) if each.file_name}
    assert set(files) == {"desk/overnight.py", "tests/test_overnight.py"}
    for name, text in files.items():
        # The command has written both: the page changes them.
        assert (project.root / name).exists()
        (project.root / name).write_text(text)
    path = project.defs / "markets" / "sample_tech" / "defs.yaml"
    named = path.read_text().replace("modules: [desk.features]", "modules: [desk.features, desk.overnight]")
    path.write_text(re.sub(r"^    own\n", "    own, overnight\n", named, flags=re.M))
    monkeypatch.syspath_prepend(str(project.root))
    market = market_of(yaml.safe_load(path.read_text())["attributes"])
    store = PartitionStore(ObjectStore(str(tmp_path / "storage")))
    for name in ("overnight_share", "depth_10"):
        assert name in market.feature_groups["overnight"]
        lines = list(feature_test_lines(store, market, name))
        assert all(passed for _, passed in lines), lines
        assert "sound: no look-ahead" in lines[3][0]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("target", "cut_return"), ("rule", "above_threshold"), ("source", "desk_table"), ("learner", "line")],
)
def test_code_of_a_guide_is_what_the_command_writes_and_is_named_as_it_says(kind, name, tmp_path):
    make_project("desk", tmp_path / "desk")
    project = project_at(tmp_path / "desk")
    page = DOCS / "guides" / f"{kind}.md"
    assert f"hfp new {kind} {name}" in {each.text for each in commands(page)}
    *_, modules_line, entry_line = add_entry(kind, name, project)
    files = {each.file_name: each.text for each in blocks(page) if each.file_name}
    for file in (f"desk/{name}.py", f"tests/test_{name}.py"):
        assert (project.root / file).read_text() == files[file].removeprefix(f"# {file}\n")
    (named,) = (each.text for each in blocks(page) if modules_line.strip() in each.text)
    assert f"{{type: {name}, " in named and entry_line.split(":")[0].strip() in named


def test_recipe_of_a_feature_of_the_package_fits_the_table_that_it_names():
    """The line that CONTRIBUTING says to add, added to the text of the table: the feature is there, and sound."""
    (line,) = re.findall(r"`(\*_family\(.*?\),)`", (ROOT / "CONTRIBUTING.md").read_text())
    text = Path(technical.__file__).read_text().replace("FEATURES = (\n", f"FEATURES = (\n    {line}\n")
    table: dict[str, Any] = {"__name__": technical.__name__, "__package__": technical.__name__}
    exec(compile(text, technical.__file__, "exec"), table)  # noqa: S102
    added = {each.name: each for each in table["FEATURES"]}["roc_40"]
    closes = np.arange(1.0, 61.0)
    panel = build_panel(bars_of("AAA", list(closes)), None)
    assert added.compute(panel)[-1] == pytest.approx(60 / 20 - 1)


def test_site_of_a_page_with_a_dead_link_is_not_built(tmp_path):
    """By the settings of the site: what `make docs` says of a page that leads nowhere."""
    # Without the pages that are made of the code.
    (tmp_path / "conf.py").write_text((DOCS / "conf.py").read_text().partition("def write_pages")[0])
    (tmp_path / "_static").symlink_to(DOCS / "_static")
    page = tmp_path / "index.md"
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "html",
        str(tmp_path),
        str(tmp_path / "out"),
    ]

    def build(text: str) -> subprocess.CompletedProcess[str]:
        page.write_text(text)
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert build("# A page\n\n[here](index.md#a-page)\n").returncode == 0
    done = build("# A page\n\n[nowhere](nothing.md) and [no heading](index.md#nothing)\n")
    assert done.returncode == 1
    assert "index.md:3: WARNING" in done.stderr and "nothing.md" in done.stderr and "'nothing'" in done.stderr


@pytest.mark.parametrize("name", ["rooms", "week"])
def test_words_of_a_drawing_end_inside_of_it(name):
    from matplotlib import rc_context
    from matplotlib.textpath import TextPath

    root = ElementTree.parse(DOCS / "pictures" / f"{name}.svg").getroot()
    width = float(root.attrib["viewBox"].split()[2])
    words = [each for each in root.iter() if each.tag.endswith("}text") and each.attrib["text-anchor"] == "start"]
    assert len(words) > 20
    with rc_context({"font.family": "DejaVu Sans"}):
        # The widest font that a reader may have, for one that is not there.
        ends = {
            str(each.text): float(each.attrib["x"])
            + TextPath((0, 0), str(each.text), size=float(each.attrib["font-size"])).get_extents().width
            for each in words
        }
    assert [text for text, end in ends.items() if end > width - 10] == []


def test_hooks_before_a_commit_are_the_checks_of_make_lint():
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    checks = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = repository["hooks"]
    assert [each["entry"] for each in hooks] == checks
    # What `make lint` looks at is all of the project, whatever a commit holds.
    assert all(each["language"] == "system" and each["pass_filenames"] is False for each in hooks)


def write_page(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    """A page of its own, whose place is told as those of the repository are."""
    monkeypatch.setattr("hf_pipelines_tests.doc_pages.ROOT", folder)
    page = folder / "page.md"
    page.write_text(text)
    return page


def targets() -> dict[str, set[str]]:
    """What `make` and `dg` know, in the repository and in a project of one's own."""
    texts = [
        path.read_text()
        for path in (ROOT / "Makefile", ROOT / "hf_pipelines" / "templates" / "project" / "Makefile.tmpl")
    ]
    return {
        "targets": {name for text in texts for name in re.findall(r"^([a-z][a-z-]*):", text, re.M)},
        "variables": {name for text in texts for name in re.findall(r"^([A-Z_]+) \?=", text, re.M)},
        "dg": DG,
    }


def run_page(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the Python of a page in its order and load its YAML, in a folder of its own.

    Raises
    ------
    AssertionError
        Naming page, line and fault of the first block that does not do what it should.
    """
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_DATA_DIR", str(folder / "data"))
    monkeypatch.syspath_prepend(str(folder))
    PREPARED.get(page.name, lambda _: None)(folder)
    names: dict[str, Any] = {"__name__": "page"}
    known: dict[str, Mapping[str, Any]] = {"market": shipped("markets", "us_tech")}
    for block in blocks(page):
        try:
            if block.language == "python":
                run_python(block, folder, names)
            elif block.language == "yaml":
                load_yaml(block, folder, known)
            elif block.language == "json":
                json.loads(block.text)
            elif not block.language.startswith("{"):
                assert block.language in SHELLS, f"{block.language!r} is no language that is run"
        except Exception as e:
            raise AssertionError(f"{block}: {first_cause(e)}") from e


def first_cause(error: BaseException) -> str:
    """What went wrong, without the errors that only say where."""
    while error.__cause__ is not None and not isinstance(error.__cause__, ValidationError):
        error = error.__cause__
    return f"{type(error).__name__}: {error}"


def run_python(block: Block, folder: Path, names: dict[str, Any]) -> None:
    """Run a block as the file that it says it is; tests in it are called."""
    path = folder / (block.file_name or f"line_{block.line}.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(block.text)
    exec(compile(block.text, str(path), "exec"), names)  # noqa: S102
    if path.name.startswith("test_"):
        for name in re.findall(r"^def (test_\w+)\(\)", block.text, re.M):
            names[name]()


def load_yaml(block: Block, folder: Path, known: dict[str, Mapping[str, Any]]) -> None:
    """Load a file of a market or a strategy, or some of its fields in place of those of a shipped one."""
    given = yaml.safe_load(block.text)
    if given is None:
        # A comment alone, such as the one that tells an editor of a schema.
        return
    kind = str(given.get("type", "")).rpartition(".")[2] or kind_of(given)
    attributes = given["attributes"] if "type" in given else given
    if kind == "Market":
        market = attributes if "type" in given else {**shipped("markets", "us_tech"), **attributes}
        known["market"] = market if "type" in given else known["market"]
        strategies: list[Mapping[str, Any]] = []
    else:
        market = known["market"] if "type" in given else shipped("markets", "us_tech")
        if attributes.get("market", market["name"]) != market["name"]:
            # A market that the page speaks of, such as that of a new project: with what ours has.
            market = {**shipped("markets", "us_tech"), "name": attributes["market"]}
        strategies = [attributes if "type" in given else {**base_of(attributes), **attributes}]
    definitions = Project(folder / f"project_{block.line}", market, strategies).definitions
    assert definitions.resolve_asset_graph().get_all_asset_keys()


def base_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The shipped strategy that fields are put into: one of classes where only classes can have them."""
    learner = fields.get("learner")
    is_of_classes = isinstance(learner, Mapping) and ("calibration" in learner or "classifier" in str(learner["type"]))
    return shipped("strategies", "tech_direction" if is_of_classes else "tech_ranking")


def kind_of(fields: Mapping[str, Any]) -> str:
    """Whose fields they are: a market's where they could be of both."""
    for kind in (Market, Strategy):
        if set(fields) <= set(kind.model_fields):
            return kind.__name__
    odd = sorted(set(fields) - set(Market.model_fields) - set(Strategy.model_fields))
    raise ValueError(f"is of neither a market nor a strategy: {', '.join(odd) or ', '.join(fields)}")


def shipped(kind: str, name: str) -> dict[str, Any]:
    """Attributes of a market or strategy of this repository."""
    return dict(yaml.safe_load((OURS / kind / name / "defs.yaml").read_text())["attributes"])


def store_features(folder: Path) -> None:
    """Weeks of features as the page of the reader reads them."""
    store = PartitionStore(ObjectStore(str(folder / "data" / "storage")))
    stamp = Stamp("code-1", "run-1", "2013-01-01T00:00:00+00:00")
    sunday = date(2012, 1, 1)
    while sunday <= date(2012, 12, 30):
        days = [sunday + timedelta(days=n) for n in range(1, 6)]
        keys = {
            "symbol": ["AAPL"] * 5,
            "session": days,
            "ts": pl.Series(
                [datetime(day.year, day.month, day.day, 21, tzinfo=UTC) for day in days], dtype=pl.Datetime("us", "UTC")
            ),
        }
        for group, name in (("technical", "rsi_14"), ("temporal", "month")):
            frame = pl.DataFrame({**keys, name: pl.Series([1.0] * 5, dtype=pl.Float32)})
            store.publish(f"us_tech/features/{group}", str(sunday), Content(frame, has_session_hashes=True), stamp)
        sunday += timedelta(days=7)


# What must be stored before the Python of a page runs.
PREPARED = {"notebook.md": store_features}
