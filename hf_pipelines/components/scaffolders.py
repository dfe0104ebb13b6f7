"""Scaffolders: what `dg scaffold defs hf_pipelines.components.Market us` writes, a commented file that loads.

Lives here: filling in the templates of components, and where Dagster's command puts them. Does not live here: the templates' texts
(`hf_pipelines/templates`), `hfp new` (`commands.scaffolding`).
"""

import re
from collections.abc import Mapping
from datetime import date
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import dagster as dg
from click import UsageError

from hf_pipelines.components.yaml_files import read_values
from hf_pipelines.components.yaml_lines import FaultyYAMLError
from hf_pipelines.partitions import parse_key, shift_week, week_key

OUR_PACKAGE = __name__.partition(".")[0]

# What a placeholder in a template looks like, and the end of a template's file name.
MARK = "@@{}@@"
SUFFIX = ".tmpl"

# Folder of each component's instances.
PLURALS = {"market": "markets", "strategy": "strategies"}


def templates() -> Traversable:
    """The folder of templates."""
    return files(OUR_PACKAGE) / "templates"


def filled_in(template: Traversable, values: Mapping[str, str]) -> str:
    """Text of a template with values in the place of its marks."""
    text = template.read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(MARK.format(key), value)
    return text


def entry_text(kind: str, values: Mapping[str, str]) -> str:
    """Text of a template of entries, such as `learner.py`; a value that is not given stays a placeholder."""
    return filled_in(templates() / "entries" / f"{kind}{SUFFIX}", values)


# Weeks that a new strategy is trained on.
TRAINING_WEEKS = 104

# Groups of features that a new strategy reads.
FEATURES = ("technical", "cross_asset")

# The symbols below it are those of the sample until others take their place.
DESCRIPTION = '  # In a sentence, for the web UI: whose bars these are.\n  description: ""\n'


def component_text(kind: str, name: str, *, market: str | None = None, defs: Path | None = None) -> str:
    """The YAML of a new market, or of a strategy of a market, whose file lies below `defs`."""
    groups = groups_to_begin_with(defs, market) if defs is not None and market is not None else FEATURES
    values = {"entry": name, "market": market or "NAME", "features": ", ".join(groups)}
    first = first_week_of_training(defs, market) if defs is not None and market is not None else ""
    text = entry_text(f"{kind}.yaml", {**values, "first": first, "start": first, "weeks": str(TRAINING_WEEKS)})
    if not first:
        text = re.sub(r"  # Its weeks begin here.*\n.*\n  start:.*\n", "", text)
    # A market begins without features of one's own, and what is said of the sample's shares is not said of others.
    text = re.sub(r"  description: Five US.*\n", DESCRIPTION, text)
    return re.sub(r"  # Where features of your own.*\n.*\n|,\n +@@group@@", "", text)


def first_week_of_training(defs: Path, market: str) -> str:
    """First week with as many weeks of a market before it as a new strategy is trained on; "" where none is known."""
    try:
        told = read_values(defs / PLURALS["market"] / market / "defs.yaml").attributes
        first, end = shift_week(week_key(parse_key(told["start"])), TRAINING_WEEKS), told.get("end")
    except (FaultyYAMLError, ValueError, KeyError, TypeError):
        # Its own fault is told when it is loaded.
        return ""
    return first if first <= (end or date.today().isoformat()) else ""


def groups_to_begin_with(defs: Path, market: str) -> tuple[str, ...]:
    """Those of `FEATURES` that a market stores, or all that it stores if it has none of them."""
    try:
        stored = read_values(defs / PLURALS["market"] / market / "defs.yaml").attributes["features"]
        entries = [each for each in stored if not each.startswith("-")]
    except (FaultyYAMLError, KeyError, TypeError, AttributeError):
        # Its own fault is told when it is loaded.
        return FEATURES
    groups = tuple(dict.fromkeys(each.partition("/")[0] for each in entries))
    return tuple(each for each in FEATURES if each in groups) or groups or FEATURES


def known_markets(defs: Path) -> list[str]:
    """Names of the markets of a project, by its folder of components."""
    return sorted(each.parent.name for each in (defs / PLURALS["market"]).glob("*/defs.yaml"))


def market_of_strategy(defs: Path, named: str | None = None) -> str:
    """The market that a new strategy trades.

    Raises
    ------
    ValueError
        If none is named where there is not exactly one, or there is none of that name.
    """
    markets = known_markets(defs)
    if named is None and len(markets) != 1:
        raise ValueError(
            f"`market` must be named, one of {', '.join(markets) or 'none that is there'}; add --market NAME."
        )
    if (market := named or markets[0]) not in markets:
        raise ValueError(f"`market` must be one of {', '.join(markets)}, was {market[:80]!r}.")
    return market


class _ComponentScaffolder(dg.Scaffolder[Any]):
    """Writes the file of a component."""

    kind = ""

    def scaffold(self, request: "dg.ScaffoldRequest[Any]") -> None:
        """Write `defs.yaml` into the folder that Dagster's command names.

        Raises
        ------
        UsageError
            If it cannot go there; `dg` prints it in a line.
        """
        folder = request.target_path
        try:
            market = self._market(folder, request.params)
            text = component_text(self.kind, folder.name, market=market, defs=_defs(folder))
        except ValueError as e:
            # The command has made it.
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
            raise UsageError(str(e)) from e
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "defs.yaml").write_text(text, encoding="utf-8")

    def _market(self, folder: Path, params: Any) -> str | None:
        """The market of a strategy; where a component cannot lie in a folder a ValueError."""
        return None


class MarketScaffolder(_ComponentScaffolder):
    """A market on the sample, to be changed."""

    kind = "market"

    def _market(self, folder: Path, params: Any) -> str | None:
        if folder.parent.name != PLURALS["market"]:
            raise ValueError(
                f"`name` must begin with {PLURALS['market']}/, where strategies look for it, was {folder.name}; take "
                f"{PLURALS['market']}/{folder.name}."
            )
        return None


class StrategyParams(dg.Model):
    """Options of `dg scaffold defs hf_pipelines.components.Strategy`."""

    market: str | None = None


class StrategyScaffolder(_ComponentScaffolder):
    """A ranking by a ridge regression, to be changed."""

    kind = "strategy"

    @classmethod
    def get_scaffold_params(cls) -> type[StrategyParams]:
        return StrategyParams

    def _market(self, folder: Path, params: Any) -> str | None:
        return market_of_strategy(_defs(folder), params.market if params else None)


def _defs(folder: Path) -> Path:
    """Folder of the components, from that of one of them."""
    return next((each for each in folder.parents if (each / PLURALS["market"]).is_dir()), folder.parent)
