"""Projects of one's own: what `hfp init` writes is whole, sound, and the same deployment as this repository's."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path

import dagster as dg
import pytest
from click import UsageError
from dagster.components.component_scaffolding import get_scaffolder

from hf_pipelines.commands.cli import main
from hf_pipelines.commands.scaffolding import MODULE_KINDS, make_project, project_files
from hf_pipelines.components import Market, Strategy
from hf_pipelines.components.yaml_components import component_of
from hf_pipelines.resources.project import PACKAGE_ROOT, project_at

REPOSITORY = PACKAGE_ROOT.parent


@pytest.fixture
def own(tmp_path) -> Path:
    make_project("myfund", tmp_path / "myfund")
    return tmp_path / "myfund"


def test_init_writes_a_project_and_says_what_comes_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "myfund"]) == 0
    said = capsys.readouterr().out
    n_files = sum(each.is_file() for each in (tmp_path / "myfund").rglob("*"))
    assert said.startswith(f"myfund: {n_files} files in {tmp_path / 'myfund'}. Next:\n  cd myfund\n  make demo")
    assert main(["init", "myfund"]) == 1
    assert "`name` must lead to a folder that is new or empty, was" in capsys.readouterr().err
    assert main(["init", "other", "--into", str(tmp_path / "deep" / "place")]) == 0
    assert (tmp_path / "deep" / "place" / "other" / "features.py").exists()


@pytest.mark.parametrize(
    "name", ["", "My Fund", "1fund", "my-fund", "../x", "class", "json", "hf_pipelines", "tests", "x" * 41, "a\n"]
)
def test_what_is_no_name_of_a_package_is_refused_and_nothing_written(tmp_path, name):
    with pytest.raises(ValueError, match="`name` must be lower-case letters, digits and _"):
        make_project(name, tmp_path / "there")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_leaves_nothing_that_looks_like_a_project(tmp_path, monkeypatch):
    written = Path.write_text

    def fill_up(self: Path, text: str, **options: object) -> int:
        if self.name == "features.py":
            raise OSError(28, "No space left on device")
        return written(self, text, **options)

    monkeypatch.setattr(Path, "write_text", fill_up)
    with pytest.raises(OSError, match="No space left"):
        make_project("myfund", tmp_path / "myfund")
    assert not list(tmp_path.iterdir())


def test_no_placeholder_is_left_and_every_file_is_what_its_name_says(own):
    project = project_at(own)
    assert (project.module, project.definitions, project.location) == ("myfund", "myfund.definitions", "myfund")
    told = tomllib.loads((own / "pyproject.toml").read_text())
    assert told["project"]["dependencies"] == [f"hf_pipelines>={version('hf_pipelines')}"]
    for path, text in project_files("myfund"):
        assert "@@" not in text and "__name__" not in str(path) and (own / path).read_text() == text
        if path.suffix == ".py":
            ast.parse(text)
    pins = (own / "constraints.txt").read_text().splitlines()
    assert f"polars=={version('polars')}" in pins
    # Not the package itself, nor a build of one: neither could be found by its version.
    assert not [each for each in pins if each.startswith("hf-pipelines") or "+" in each]


def test_its_deployment_is_that_of_this_repository():
    # Of this name: what differs is a difference in what is deployed. Files without a name in them are links to ours.
    texts = {str(path): text for path, text in project_files("hf_pipelines")}
    for name in (
        "dagster.yaml",
        "workspace.yaml",
        "docker-compose.yml",
        ".env.example",
        "deploy/workspace.yaml",
        "deploy/create-mlflow-database.sql",
    ):
        assert texts[name] == (REPOSITORY / name).read_text(), name
    # Its image lacks the two files that only the description of this package needs, and has the extras that it declares itself.
    ours = (REPOSITORY / "Dockerfile").read_text()
    assert texts["Dockerfile"] == ours.replace(" README.md LICENSE", "").replace("'.[all]'", ".")


def test_its_own_tests_pass_and_dagster_loads_it_with_the_asset_that_is_added(own):
    definitions = own / "myfund" / "definitions.py"
    definitions.write_text(
        definitions.read_text().replace(
            "    return build_defs(Path(__file__))\n",
            "    return build_defs(Path(__file__), dg.Definitions(assets=[my_report]))\n\n\n@dg.asset\ndef my_report() -> None:\n"
            '    """A report of our own."""\n',
        )
    )
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("HF_", "DAGSTER_"))}
    env = {**kept, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}

    def run(*command: str, cwd: Path = own) -> str:
        done = subprocess.run([sys.executable, *command], cwd=cwd, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return done.stdout

    assert "1 passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider")
    # From a folder in it: the project is found upwards, its package imported, and the data lie in it.
    program = "from hf_pipelines.commands.runs import Pipeline; p = Pipeline.open(); print(p.assets()); print(p.store.objects.uri)"
    shown = run("-c", program, cwd=own / "tests")
    for asset in ("my_report", "sample_tech/features/own", "first_ranking/signals"):
        assert f"'{asset}'" in shown
    assert shown.splitlines()[-1] == str(own / "data" / "storage")


def new(project: Path, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.delenv("HF_PROJECT", raising=False)
    monkeypatch.chdir(project)
    return main(["new", *arguments])


def test_every_kind_of_entry_is_added_with_a_test_that_passes_and_loads_where_it_is_named(own, monkeypatch, capsys):
    for kind in MODULE_KINDS:
        assert new(own, kind, f"my_{kind}", monkeypatch=monkeypatch) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[0] == f"wrote {own / 'myfund' / f'my_{kind}.py'}" and said[3] == f"  modules: [myfund.my_{kind}]"
    assert new(own, "market", "second_market", monkeypatch=monkeypatch) == 0
    assert new(own, "strategy", "second", "--market", "second_market", monkeypatch=monkeypatch) == 0
    # All of them in one strategy and its market, as the lines say.
    market, strategy = (
        own / "myfund/defs/markets/sample_tech/defs.yaml",
        own / "myfund/defs/strategies/first_ranking/defs.yaml",
    )
    text = market.read_text().replace("[myfund.features]", "[myfund.features, myfund.my_feature]")
    market.write_text(text.replace("    own\n", "    own, my_feature_group/my_feature\n"))
    modules = ", ".join(f"myfund.my_{kind}" for kind in MODULE_KINDS if kind not in ("feature", "source"))
    text = strategy.read_text().replace("  market: sample_tech\n", f"  market: sample_tech\n  modules: [{modules}]\n")
    text = text.replace("type: ridge\n    params: {alpha: 100.0}", "type: my_learner").replace(
        "type: forward_return", "type: my_target"
    )
    text = text.replace("    n_splits: 4\n    embargo_sessions: 2", "    type: my_splitter").replace(
        "  backtest:\n", "  backtest:\n    engine: my_engine\n"
    )
    steps = "type: my_rule\n    sizing: [my_sizing]\n    limits: [{type: my_limit, params: {symbols: [FB]}}]"
    strategy.write_text(text.replace("type: rank_long_short\n    params: {n_long: 2, n_short: 2}", steps))
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("HF_", "DAGSTER_"))}
    env = {**kept, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=own,
        env=env,
        capture_output=True,
        text=True,
    )
    assert "11 passed" in tests.stdout, tests.stdout
    program = "from hf_pipelines.commands.runs import Pipeline; p = Pipeline.open(); print(p.faults, *p.assets())"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=own, env=env, capture_output=True, text=True)
    assert loaded.stdout.startswith("{} "), f"{loaded.stdout}{loaded.stderr}"
    for asset in (
        "sample_tech/features/my_feature_group",
        "second_market/bars",
        "second/signals",
        "first_ranking/backtest",
    ):
        assert f" {asset}" in loaded.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("rul", "x"),
            "`kind` must be one of market, strategy, feature, learner, target, splitter, rule, sizing, limit, engine, source, was 'rul'; did you mean rule?",
        ),
        (
            ("thing", "x"),
            "`kind` must be one of market, strategy, feature, learner, target, splitter, rule, sizing, limit, engine, source, was 'thing'",
        ),
        (
            ("rule", "json"),
            "`name` must be lower-case letters, digits and _, and begin with a letter, was 'json' (it is taken",
        ),
        (("rule", "../x"), "`name` must be lower-case letters, digits and _"),
        (("feature", "features"), "`name` must be new, was one whose file is there: "),
        (("strategy", "first_ranking"), "`name` must be new, was one whose file is there: "),
        (("strategy", "x", "--market", "nope"), "`market` must be one of sample_tech, was 'nope'"),
    ],
)
def test_what_cannot_be_added_is_said_and_changes_nothing(own, monkeypatch, capsys, arguments, said):
    before = {path: path.stat().st_mtime_ns for path in own.rglob("*") if path.is_file()}
    assert new(own, *arguments, monkeypatch=monkeypatch) == 1
    assert capsys.readouterr().err.startswith(f"hfp: {said}")
    assert {path: path.stat().st_mtime_ns for path in own.rglob("*") if path.is_file()} == before


def test_a_strategy_names_its_market_where_there_are_several_and_none_is_added_to_this_checkout(
    own, monkeypatch, capsys
):
    assert new(own, "market", "other", monkeypatch=monkeypatch) == 0
    assert new(own, "strategy", "x", monkeypatch=monkeypatch) == 1
    assert "`market` must be named, one of other, sample_tech; add --market NAME." in capsys.readouterr().err
    assert new(REPOSITORY, "rule", "x", monkeypatch=monkeypatch) == 1
    assert "`project` must be one of your own, was the checkout of hf_pipelines" in capsys.readouterr().err


def test_a_strategy_begins_with_groups_that_its_market_stores(own, monkeypatch):
    sample = own / "myfund" / "defs" / "markets" / "sample_tech" / "defs.yaml"
    for market, stored, read in (
        ("without_cross", "technical, own", "technical"),
        ("without_both", "statistical, temporal, -temporal/month", "statistical, temporal"),
    ):
        assert new(own, "market", market, monkeypatch=monkeypatch) == 0
        text = sample.read_text().replace("sample_tech", market)
        changed = re.sub(r"  features: \[.*?\]", f"  features: [{stored}]", text, flags=re.DOTALL)
        (sample.parent.with_name(market) / "defs.yaml").write_text(changed)
        assert new(own, "strategy", f"of_{market}", "--market", market, monkeypatch=monkeypatch) == 0
        folder = own / "myfund" / "defs" / "strategies" / f"of_{market}"
        assert f"  features: [{read}]\n" in (folder / "defs.yaml").read_text()
        assert component_of(Strategy, folder).name == f"of_{market}"


def scaffold(folder: Path, kind: str, params: dict[str, str] | None = None) -> Path:
    """What `dg scaffold defs` does: it makes the folder, and calls the scaffolder of the component."""
    folder.mkdir(parents=True)
    component = {"Market": Market, "Strategy": Strategy}[kind]
    scaffolder = get_scaffolder(component)
    given = scaffolder.get_scaffold_params()(**params) if params is not None else None
    scaffolder.scaffold(dg.ScaffoldRequest(f"hf_pipelines.components.{kind}", folder, "yaml", None, given))
    return folder / "defs.yaml"


def test_dagsters_command_scaffolds_components_that_load_and_says_where_they_cannot_go(own, monkeypatch):
    (plugin,) = entry_points(group="dagster_dg_cli.registry_modules", name="hf_pipelines")
    assert plugin.load().Market is Market
    defs = own / "myfund" / "defs"
    texts = {
        name: scaffold(defs / name, kind, params).read_text()
        for name, kind, params in (
            ("momentum", "Strategy", {}),
            ("markets/asia", "Market", None),
            ("strategies/two", "Strategy", {"market": "asia"}),
        )
    }
    assert "\n  market: sample_tech\n" in texts["momentum"] and "\n  market: asia\n" in texts["strategies/two"]
    assert "@@" not in "".join(texts.values()) and "modules" not in texts["markets/asia"]
    # A market of somebody's own is not said to be the sample's.
    assert "Five US" not in texts["markets/asia"] and '\n  description: ""\n' in texts["markets/asia"]
    for name in texts:
        kind = Market if name.startswith("markets/") else Strategy
        assert component_of(kind, defs / name).name == name.rpartition("/")[2]
    for name, kind, params, said in (
        ("europe", "Market", None, "`name` must begin with markets/"),
        ("strategies/three", "Strategy", {}, "`market` must be named, one of asia, sample_tech"),
        ("strategies/four", "Strategy", {"market": "nope"}, "`market` must be one of asia, sample_tech, was 'nope'"),
    ):
        with pytest.raises(UsageError, match=said):
            scaffold(defs / name, kind, params)
        assert not (defs / name).exists()
