"""Pages of the docs: their blocks of code, the commands that they name, the links between them.

Lives here: reading Markdown. Does not live here: what must be true of what is found (`test_docs`).
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from typer import TyperException

from hf_pipelines.commands.cli import parse

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```\s*$", re.M | re.S)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"(?<!\\)\[[^\]\n]*\]\(<?([^)\s>]+)>?\)")

# A block of no language is what is typed into a shell, beside what is printed.
SHELLS = ("", "console", "bash", "sh")

# What a page writes for a value of whoever reads it.
PLACEHOLDERS = {"PORT": "3000", "N": "1"}


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes
    ----------
    line : int
        Of its first line of code, from 1.
    """

    page: Path
    line: int
    language: str
    text: str

    @property
    def file_name(self) -> str:
        """Path of the file that its first line says it is, or ""."""
        found = re.match(r"# ([\w/]+\.py)\n", self.text)
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command line that a page names; one in the middle of a sentence may be a part of one."""

    place: str
    text: str
    is_whole: bool


def pages() -> list[Path]:
    """All that people write; of what is made of the code an old build may lie beside it."""
    built = DOCS / "_build"
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"] + sorted(
        path for path in DOCS.rglob("*.md") if built not in path.parents and _is_written(path)
    )


def _is_written(page: Path) -> bool:
    """Whether somebody has written a page: folders of pages that are made of the code say which ones they keep."""
    rules = page.parent / ".gitignore"
    return not rules.exists() or f"!{page.name}" in rules.read_text().splitlines()


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in FENCE.finditer(text):
        indent = len(found["indent"])
        lines = [line[indent:] for line in found["text"].splitlines(keepends=True)]
        line = text.count("\n", 0, found.start("text")) + 1
        yield Block(page, line, found["language"].strip(), "".join(lines))


def commands(page: Path) -> Iterator[Command]:
    """Every command of ours, of `make` and of `dg`, in blocks and in sentences."""
    for block in blocks(page):
        if block.language not in SHELLS:
            continue
        for number, line in enumerate(block.text.splitlines()):
            if found := re.match(r"(?:\$ )?((?:hfp|make|dg) .*)", line):
                text = re.split(r" +# ", found[1])[0]
                yield Command(f"{page.relative_to(ROOT)}:{block.line + number}", text.strip(), is_whole=True)
    text = FENCE.sub(lambda found: "\n" * found[0].count("\n"), page.read_text())
    for found in SPAN.finditer(text):
        if re.match(r"(hfp|make|dg) ", found[1]):
            place = f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 1}"
            yield Command(place, found[1].strip(), is_whole=False)


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Lines and targets of the links of a page to files."""
    text = page.read_text()
    for found in LINK.finditer(text):
        if not re.match(r"[a-z]+:|#", found[1]):
            yield text.count("\n", 0, found.start()) + 1, found[1]


def command_fault(command: Command, targets: dict[str, set[str]]) -> str:
    """What is wrong with a command, "" if nothing is.

    Parameters
    ----------
    targets : mapping of str to set of str
        `targets` and `variables` of the makefiles, and commands of `dg`.
    """
    words = _words(command.text)
    if words[0] == "make":
        wanted = [word for word in words[1:] if "=" not in word]
        given = [word.partition("=")[0] for word in words[1:] if "=" in word]
        unknown = [*({*wanted} - targets["targets"]), *({*given} - targets["variables"])]
        return f"make has no {unknown[0]}" if unknown else ""
    if words[0] == "dg":
        return "" if " ".join(words[1:3]) in targets["dg"] else f"dg has no {' '.join(words[1:3])}"
    if "--install-completion" in words:
        # To look at it would be to do it.
        return ""
    try:
        parse(words[1:])
    except typer.Exit:
        # Of `--help` and `--version`.
        return ""
    except TyperException as e:
        fault = e.format_message()
        return "" if "Missing" in fault and not command.is_whole else fault
    return ""


def _words(text: str) -> list[str]:
    """A command line as it would be typed: with what is optional, the first of alternatives, without ellipses."""
    text = re.sub(r"([\w-]+)((?: \| [\w-]+)+)", r"\1", text)
    text = text.replace("...", "").replace("[", "").replace("]", "")
    return [PLACEHOLDERS.get(word, word) for word in shlex.split(text)]
