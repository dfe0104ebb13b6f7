"""Hasty: a checkout whose code waits for a server that is away as often as the real one, but a twentieth as long."""

import dataclasses
import shutil
from pathlib import Path

from hf_pipelines.resources import outages
from hf_pipelines_tests.checkout import Checkout

# The real waits are 5, 20 and 60 s.
HURRY = 20


def hasty(checkout: Checkout, folder: Path, **env: str) -> Checkout:
    """A copy of a checkout's code in `folder`, with shorter waits and data of its own."""
    shutil.copytree(checkout.root, folder / "code")
    module = folder / "code" / "hf_pipelines" / "resources" / "outages.py"
    line = f"WAITS_S = ({', '.join(str(each) for each in outages.WAITS_S)})"
    text = module.read_text()
    assert text.count(line) == 1, f"{module} has no line {line}"
    module.write_text(text.replace(line, f"WAITS_S = {tuple(each / HURRY for each in outages.WAITS_S)}"))
    return dataclasses.replace(checkout, root=folder / "code", data=folder / "data", env={**checkout.env, **env})
