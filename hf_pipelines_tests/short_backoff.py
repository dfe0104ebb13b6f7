"""Short backoff: a checkout whose code waits for a server that is away as often as the real one, but a twentieth as long."""

import dataclasses
import shutil
from pathlib import Path

from hf_pipelines.resources import outages
from hf_pipelines_tests.checkout import Checkout

# The real waits of a step are 5, 20 and 60 s, that for PostgreSQL is 60 s.
SPEEDUP = 20


def shorten_backoff(root: Path) -> None:
    """Shorten the waits in a copy of the code."""
    resources = root / "hf_pipelines" / "resources"
    shorter = {
        resources / "outages.py": ("WAITS_S", outages.WAITS_S, tuple(each / SPEEDUP for each in outages.WAITS_S)),
        resources / "patient_postgres.py": ("PATIENCE_S", 60.0, 60.0 / SPEEDUP),
    }
    for module, (name, real, short) in shorter.items():
        text = module.read_text()
        assert text.count(f"\n{name} = {real}\n") == 1, f"{module} has no line {name} = {real}"
        module.write_text(text.replace(f"\n{name} = {real}\n", f"\n{name} = {short}\n"))


def with_short_backoff(checkout: Checkout, folder: Path, **env: str) -> Checkout:
    """A copy of a checkout's code in `folder`, with shorter waits and data of its own."""
    shutil.copytree(checkout.root, folder / "code")
    shorten_backoff(folder / "code")
    return dataclasses.replace(checkout, root=folder / "code", data=folder / "data", env={**checkout.env, **env})
