"""The command line's former place: an entry script of an earlier installation imports it from here."""

from hf_pipelines.commands.cli import main

__all__ = ["main"]
