"""Mutants: plant small errors in modules that must have none, one at a time, and count those that a test notices.

`make mutants` draws 150 of them (`python -m hf_pipelines_tests.mutants --sample 150 --seed 0`) and fails if fewer than
nine tenths are noticed in a module. Each is run against the tests of its module alone, until the first that fails.

Written here, since neither mutmut nor cosmic-ray draws a sample by module, and both begin each mutant with an
interpreter that imports polars, numba and scikit-learn anew, which takes longer than the tests. Here a mutant is a fork
of a process that has them imported, and reads the planted error from memory: no file is changed. Kernels run as plain
Python (NUMBA_DISABLE_JIT): numba's cache goes by the file and would answer for the mutant with what it compiled before.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import os
import random
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

ROOT = Path(__file__).resolve().parents[1]
RESEARCH = "hf_pipelines.research"
TESTS = Path("hf_pipelines_tests") / "research"
# Module below `research` to the tests that must notice an error in it.
TESTS_OF: dict[str, tuple[str, ...]] = {
    "splitters.intervals": ("splitters/test_intervals.py", "splitters/test_purged_kfold.py"),
    "splitters.walk_forward": ("splitters/test_walk_forward.py",),
    "splitters.combinatorial_purged": ("splitters/test_combinatorial_purged.py", "splitters/test_purged_kfold.py"),
    "splitters.past_blocks": ("splitters/test_purged_walk_forward.py", "splitters/test_walk_forward.py"),
    "splitters.purged_walk_forward": ("splitters/test_purged_walk_forward.py",),
    "targets.returns": ("targets/test_returns.py", "targets/test_cross_section.py", "test_events.py"),
    "targets.barriers": ("targets/test_barriers.py",),
    "targets.cross_section": ("targets/test_cross_section.py",),
    "targets.volatility": ("targets/test_cross_section.py", "targets/test_first_touch.py", "targets/test_barriers.py"),
    "matrix": ("test_matrix.py",),
    "metrics.account": ("test_metrics.py", "test_account_metrics.py"),
    "metrics.tails": ("test_account_metrics.py",),
    "metrics.underwater": ("test_account_metrics.py",),
    "metrics.relative": ("test_account_metrics.py",),
    "metrics.predictions": ("test_metrics.py",),
    "metrics.ranks": ("test_metrics.py",),
    "weights": ("test_weights.py",),
    "costs": ("test_costs.py", "backtest/test_reference.py"),
    "backtest.reference": ("backtest/test_reference.py",),
    "content_hash": ("test_content_hash.py",),
}
LEAST_KILLED = 0.9
# A mutant may loop for ever: it is over after so much CPU.
CPU_LIMIT_S = 60

# Survivors that change nothing that could be seen, by the line and what is planted in it.
EQUIVALENT = {
    (
        'sk.recall_score(codes, predicted, labels=np.unique(codes), average="macro", zero_division=0.0)',
        "0.0  ->  1.0",
    ): "the classes asked for are those that occur: no recall is divided by zero",
    (
        "return njit(cache=True)(_keep_account)",
        "True  ->  False",
    ): "whether compiled code is kept on the disk: speed alone",
    ("BLOCK_BYTES = 256 * 1024", "256  ->  257"): "how much is hashed at once: speed alone",
    ("BLOCK_BYTES = 256 * 1024", "1024  ->  1025"): "how much is hashed at once: speed alone",
    (
        "return whole.hexdigest(), {day: digest.hexdigest() for day, digest in zip(_iso(days), digests, strict=True)}",
        "True  ->  False",
    ): "there is one digest a day by construction; the check guards later changes",
    (
        "step = max(1, BLOCK_BYTES // max(1, columns[0].nbytes))",
        "BLOCK_BYTES // max(1, columns[0].nbytes)  ->  BLOCK_BYTES * max(1, columns[0].nbytes)",
    ): "how much is hashed at once: speed alone",
    (
        'lengths = plain.str.len_bytes().to_numpy().astype("<u4", copy=False)',
        "False  ->  True",
    ): "a copy has the same values",
    (
        "is_left &= (times.code <= block[-1]) | (times.code > last + embargo_sessions)",
        "times.code <= block[-1]  ->  times.code < block[-1]",
    ): "the sessions of a block are tested, and were left out a line before",
    (
        "is_left &= (times.code <= block[-1]) | (times.code > last + embargo_sessions)",
        "-1  ->  +1",
    ): "the sessions of a block are tested, and were left out a line before",
    (
        'for step in range(1, params["horizon_bars"] + 1):',
        "1  ->  2",
    ): "no row is left to look at after the last step of the horizon",
    (
        "base[members] = np.where(n_known >= LEAST_MEMBERS, total / np.maximum(n_known, 1), np.nan)",
        "1  ->  2",
    ): "a group of one known member has no base: LEAST_MEMBERS is 2",
    (
        'roles = bars.group_by("symbol", maintain_order=True).agg(pl.col("role").last())["role"]',
        "True  ->  False",
    ): "polars keeps the order of a sorted column by itself",
    (
        'pl.col("unit").fill_nan(0.0) > ROUNDING_RETURN',
        "pl.col('unit').fill_nan(0.0) > ROUNDING_RETURN  ->  pl.col('unit').fill_nan(0.0) >= ROUNDING_RETURN",
    ): "a volatility that equals the rounding to the last bit",
    (
        'is_down = pl.col("target") < params["lower"] * pl.col("unit") - ROUNDING_RETURN',
        "pl.col('target') < params['lower'] * pl.col('unit') - ROUNDING_RETURN  ->  "
        "pl.col('target') <= params['lower'] * pl.col('unit') - ROUNDING_RETURN",
    ): "a return that equals the threshold less its rounding to the last bit",
    (
        "return float(np.mean(moved > 0.0)) if len(moved) else math.nan",
        "moved > 0.0  ->  moved >= 0.0",
    ): "zeros were left out a line before",
    (
        "coefficient = pl.when(coefficient.abs() < ROUNDING).then(0.0).otherwise(coefficient)",
        "coefficient.abs() < ROUNDING  ->  coefficient.abs() <= ROUNDING",
    ): "a coefficient that equals the rounding to the last bit",
    (
        "deviation = float(values.std(ddof=1)) if n > 1 and (values != values[0]).any() else 0.0",
        "0  ->  1",
    ): "values differ from the second exactly where they differ from the first",
    (
        "return float(((deviations / spread) ** power).mean()) if spread > ROUNDING_VOLATILITY else math.nan",
        "spread > ROUNDING_VOLATILITY  ->  spread >= ROUNDING_VOLATILITY",
    ): "a spread that equals the rounding to the last bit",
    (
        '"t": mean / math.sqrt(variance / n) if variance > 0.0 else math.nan,',
        "variance > 0.0  ->  variance >= 0.0",
    ): "Newey-West weights make a variance of zero only of equal values, which have no deviation",
}

COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "argmax": "argmin", "argmin": "argmax"}


@dataclass(frozen=True)
class Mutant:
    """One planted error.

    Attributes
    ----------
    module : str
        Name below `hf_pipelines.research`.
    number : int
        Its place among the mutants of the module.
    line : int
    text : str
        The line.
    before, after : str
        Source of the place, as it is and as planted.
    """

    module: str
    number: int
    line: int
    text: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.change}"

    @property
    def change(self) -> str:
        return f"{self.before}  ->  {self.after}"


def mutants_of(source: str, module: str = "") -> list[Mutant]:
    """Every mutant of a source, in the order of its text.

    Left alone: docstrings and other texts, annotations, decorators, and what is raised: an error's wording is no number.
    """
    tree, lines = ast.parse(source), source.splitlines()
    found = []
    for node in _code(tree):
        for change in _changes(node):
            before = _shown(node)
            kept = dict(vars(node))
            change()
            after = _shown(ast.fix_missing_locations(node))
            found.append(Mutant(module, len(found), node.lineno, lines[node.lineno - 1].strip(), before, after))
            vars(node).clear()
            vars(node).update(kept)
    return found


def planted(source: str, number: int) -> ast.Module:
    """The source with one of `mutants_of` in it."""
    tree = ast.parse(source)
    changes = (change for node in _code(tree) for change in _changes(node))
    next(itertools.islice(changes, number, None))()
    return ast.fix_missing_locations(tree)


def _shown(node: ast.expr | ast.stmt) -> str:
    """Source of a node; of a condition what is asked."""
    return ast.unparse(node.test if isinstance(node, ast.If | ast.IfExp | ast.While) else node)


def _code(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    if isinstance(node, ast.Raise | ast.JoinedStr):
        return
    if isinstance(node, ast.expr | ast.stmt):
        yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _code(child)


def _changes(node: ast.expr | ast.stmt) -> Iterator[Callable[[], None]]:
    """Ways to change a node in place; attributes are set, lists and operands are replaced and never changed."""

    def put(name: str, value: object) -> Callable[[], None]:
        return lambda: setattr(node, name, value)

    match node:
        case ast.Compare(ops=ops):
            for place, operator in enumerate(ops):
                for other in COMPARED[type(operator)]:
                    yield put("ops", [*ops[:place], other(), *ops[place + 1 :]])
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator):
            # A product of matrices has no other of the same shape.
            if type(operator) in COMPUTED:
                yield put("op", COMPUTED[type(operator)]())
        case ast.BoolOp(op=ast.And()):
            yield put("op", ast.Or())
        case ast.BoolOp():
            yield put("op", ast.And())
        case ast.UnaryOp(op=ast.USub()):
            yield put("op", ast.UAdd())
        case ast.UnaryOp(op=ast.Not() | ast.Invert() as operator, operand=operand):
            # Twice is never.
            yield put("operand", ast.UnaryOp(operator, operand))
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            yield put("test", ast.UnaryOp(ast.Not(), test))
        case ast.Constant(value=bool() as value):
            yield put("value", not value)
        case ast.Constant(value=int() | float() as value):
            yield put("value", value + 1)
        case ast.Call(func=ast.Name(id=name)) if name in NAMES:
            yield put("func", ast.Name(NAMES[name], ast.Load()))
        case ast.Call(func=ast.Attribute(value=owner, attr=name)) if name in NAMES:
            yield put("func", ast.Attribute(owner, NAMES[name], ast.Load()))
        case ast.Expr(value=ast.Call()):
            yield put("value", ast.Constant(None))


def draw(n_mutants: int, seed: int, modules: Sequence[str]) -> list[Mutant]:
    """A sample of the mutants of some modules, the same number of each as far as there are so many."""
    shuffled = []
    for module in modules:
        each = mutants_of(path_of(module).read_text(), module)
        random.Random(f"{seed} {module}").shuffle(each)
        shuffled.append(each)
    rounds = [each[place] for place in range(max(map(len, shuffled))) for each in shuffled if place < len(each)]
    return sorted(rounds[:n_mutants], key=lambda mutant: (modules.index(mutant.module), mutant.line))


def path_of(module: str) -> Path:
    return ROOT.joinpath(*f"{RESEARCH}.{module}".split(".")).with_suffix(".py")


class Planted(importlib.machinery.SourceFileLoader):
    """Loads a module from a tree instead of its file."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        super().__init__(name, path)
        self.tree = tree

    def get_code(self, fullname: str) -> CodeType:
        code = compile(self.tree, self.path, "exec", dont_inherit=True)
        assert isinstance(code, CodeType)
        return code


class Finder(importlib.abc.MetaPathFinder):
    """Finds the planted module before its file is found."""

    def __init__(self, mutant: Mutant) -> None:
        self.name = f"{RESEARCH}.{mutant.module}"
        path = path_of(mutant.module)
        self.loader = Planted(self.name, str(path), planted(path.read_text(), mutant.number))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.loader.path, loader=self.loader)


def warm_up() -> None:
    """Import what the tests need, but for the code that mutants are planted in; no thread is started by it."""
    import hypothesis
    import numba
    import pandas
    import polars
    import pytest
    import scipy.stats
    import sklearn.metrics
    import sklearn.model_selection

    assert all((numba, pandas, polars, pytest, scipy, sklearn))
    # An example that fails is enough: nobody reads the smallest one.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", phases=phases, database=None, derandomize=True)
    hypothesis.settings.load_profile("mutants")
    assert not [name for name in sys.modules if name.startswith("hf_pipelines.")]


def start(module: str, mutant: Mutant | None, log: Path) -> int:
    """Fork a process that runs the tests of a module, with a mutant of it or as it is; return its id."""
    process = os.fork()
    if process:
        return process
    status = 99
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        if mutant is not None:
            sys.meta_path.insert(0, Finder(mutant))
        import pytest

        plugins = ["-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin", "--noconftest"]
        tests = [str(TESTS / name) for name in TESTS_OF[module]]
        status = int(pytest.main(["-q", "-x", "--tb=short", "--no-header", *plugins, *tests]))
    finally:
        sys.stdout.flush()
        os._exit(status)


def run(mutants: Sequence[Mutant], *, n_jobs: int, folder: Path) -> list[bool]:
    """Whether each mutant was noticed, `n_jobs` at a time."""
    noticed: dict[int, bool] = {}
    running: dict[int, int] = {}
    waiting = list(range(len(mutants)))
    while waiting or running:
        if waiting and len(running) < n_jobs:
            place = waiting.pop(0)
            running[start(mutants[place].module, mutants[place], folder / f"{place}.txt")] = place
            continue
        process, status = os.wait()
        noticed[running.pop(process)] = status != 0
    return [noticed[place] for place in range(len(mutants))]


def check_tests(modules: Sequence[str], folder: Path) -> None:
    """Refuse to judge by tests that fail without any mutant, or that are none."""
    for module in modules:
        log = folder / "plain.txt"
        _, status = os.waitpid(start(module, None, log), 0)
        if status:
            raise SystemExit(f"the tests of {module} fail without a mutant:\n{log.read_text()[-3000:]}")


def report(mutants: Sequence[Mutant], noticed: Sequence[bool], modules: Sequence[str]) -> bool:
    """Print the figures by module and each survivor; return whether every module has enough killed."""
    is_enough = True
    for module in modules:
        here = [
            (mutant, is_noticed) for mutant, is_noticed in zip(mutants, noticed, strict=True) if mutant.module == module
        ]
        killed = sum(is_noticed for _, is_noticed in here)
        # What changes nothing cannot be noticed: it is told, and does not count.
        alike = sum((mutant.text, mutant.change) in EQUIVALENT for mutant, is_noticed in here if not is_noticed)
        is_enough &= killed >= LEAST_KILLED * (len(here) - alike)
        share = killed / max(len(here) - alike, 1)
        print(f"{module:20} {killed:3} of {len(here) - alike:3} killed ({share:.0%}), {alike} change nothing")
        for mutant, is_noticed in here:
            if not is_noticed:
                reason = EQUIVALENT.get((mutant.text, mutant.change), "not noticed by any test")
                print(f"    {mutant}: {reason}")
    return is_enough


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Plant errors and count those that a test notices.")
    parser.add_argument("--sample", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("modules", nargs="*", default=list(TESTS_OF), help=f"of {', '.join(TESTS_OF)}")
    arguments = parser.parse_args(argv)
    os.chdir(ROOT)
    os.environ |= {"NUMBA_DISABLE_JIT": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    mutants = draw(arguments.sample, arguments.seed, arguments.modules)
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        check_tests(arguments.modules, Path(folder))
        noticed = run(mutants, n_jobs=arguments.jobs, folder=Path(folder))
    return 0 if report(mutants, noticed, arguments.modules) else 1


if __name__ == "__main__":
    sys.exit(main())
