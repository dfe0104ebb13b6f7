"""YAML lines: where in a component's YAML a fault lies.

Lives here: finding the line of a field, and naming it in the error of a component that cannot be loaded. Does not live
here: what is a fault (`market`, `strategy`).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from pydantic import ValidationError


@contextmanager
def naming_lines(folder: Path) -> Iterator[None]:
    """Turn what pydantic says of a component into one line a fault, each with its file and line.

    Raises
    ------
    ValueError
        In place of pydantic's error.
    """
    try:
        yield
    except ValidationError as e:
        faults = [(".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, ")) for each in e.errors()]
        raise ValueError("\n".join(f"{line_of(folder, field, fault)}: {fault}" for field, fault in faults)) from e


def line_of(folder: Path, field: str, fault: str = "") -> str:
    """File and line of a field in a component's YAML.

    Parameters
    ----------
    folder : Path
        Of the component, or its file.
    field : str
        Dotted for a nested one; "" takes the field that `fault` names first.
    fault : str
        Message of the form "`field` must ..., was <values>": the line below the field that holds a value refused, or
        else the field's own, is returned.
    """
    path = folder / "defs.yaml" if folder.is_dir() else folder
    lines = path.read_text().splitlines()
    if not field and (named := re.match(r"`([\w.]+)", fault)):
        field = named[1]
    at = 0
    for part in field.split("."):
        at = next((i for i in range(at, len(lines)) if lines[i].strip().startswith(f"{part}:")), at)
    refused = [each.strip(".") for each in re.findall(r"[\w./-]+", fault.rpartition(", was ")[2].partition(";")[0])]
    for i in [at, *_block(lines, at)]:
        if any(value and re.search(rf"(?<![\w./-]){re.escape(value)}(?![\w./-])", lines[i]) for value in refused):
            at = i
            break
    return f"{path}:{at + 1}"


def _block(lines: list[str], at: int) -> list[int]:
    """Numbers of the lines that belong to the field in line `at`: those indented below it."""

    def indent(i: int) -> int:
        return len(lines[i]) - len(lines[i].lstrip())

    return list(takewhile(lambda i: not lines[i].strip() or indent(i) > indent(at), range(at + 1, len(lines))))
