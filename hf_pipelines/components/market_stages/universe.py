"""Universe: who belongs to a market, and when.

Lives here: members with their spells and sectors, the references beside them, and who has to have a row on which session.
Does not live here: sessions (`partitions`), the YAML (`market`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import polars as pl

# How the members of a market were chosen, and what that makes of an account that trades them.
CHOSEN = {
    "hindsight": "hindsight: members are those that are known today to have lasted or grown; every account of them flatters",
    "index_history": "index_history: members of an index as they were on each day, those that left among them",
    "all_listed": "all_listed: every share that was listed, those that left among them",
}
CHOSEN_UNSAID = "not said: write `universe_chosen` (" + ", ".join(CHOSEN) + ") into the market's YAML"

# A market of so many years whose members never leave is not one that anybody could have traded.
YEARS_WITHOUT_LEAVER = 10

# Symbol, first and last day as a member, both included; None while it lasts.
Spell = tuple[str, date, date | None]


@dataclass(frozen=True)
class Universe:
    """Members and references of a market.

    Attributes
    ----------
    all_spells : tuple of (symbol, since, until)
        In any order; a symbol that left and came back has several.
    sectors : mapping
        Sector of each member that has one.
    benchmark : str
        A reference: stored, never in ranks, matrices or weights.
    volatility_index : str or None
        Another reference.
    start : date
        First day of the market: references are there from then on.
    chosen : str or None
        How members were chosen, a key of `CHOSEN`; None where nobody says.
    """

    all_spells: tuple[Spell, ...]
    sectors: Mapping[str, str]
    benchmark: str
    volatility_index: str | None
    start: date
    chosen: str | None = None

    @cached_property
    def members(self) -> dict[str, tuple[date, date | None]]:
        """First and last day of each member, from its first spell to its last, in the order of the YAML."""
        spells = self.membership.sort("symbol", "since").group_by("symbol", maintain_order=True)
        spans = {
            symbol: (since, until) for symbol, since, until in spells.agg(pl.first("since"), pl.last("until")).rows()
        }
        return {symbol: spans[symbol] for symbol, _, _ in self.all_spells}

    @cached_property
    def membership(self) -> pl.DataFrame:
        """Spells: columns symbol, since, until; both ends included, `until` null while it lasts."""
        schema = {"symbol": pl.String, "since": pl.Date, "until": pl.Date}
        return pl.DataFrame(list(self.all_spells), schema=schema, orient="row")

    @cached_property
    def spells(self) -> list[list[str]]:
        """`membership` as it enters the code versions of what depends on it."""
        return [[str(value) for value in spell] for spell in self.membership.rows()]

    @property
    def references(self) -> tuple[str, ...]:
        """Benchmark and volatility index."""
        return (self.benchmark, *([self.volatility_index] if self.volatility_index else []))

    @cached_property
    def roles(self) -> dict[str, str]:
        return {**dict.fromkeys(self.members, "member"), **dict.fromkeys(self.references, "reference")}

    @property
    def symbols(self) -> tuple[str, ...]:
        """Members and references."""
        return tuple(self.roles)

    def member_sessions(self, days: Sequence[date], *, with_references: bool = False) -> pl.DataFrame:
        """Columns symbol, session: members on those of `days` on which they are members, references from the start on."""
        spells = self.membership
        if with_references:
            always = [(symbol, self.start, None) for symbol in self.references]
            spells = spells.vstack(pl.DataFrame(always, schema=spells.schema, orient="row"))
        sessions = pl.DataFrame({"session": days}, schema={"session": pl.Date})
        inside = (pl.col("session") >= pl.col("since")) & (pl.col("session") <= pl.col("until")).fill_null(True)
        return spells.join(sessions, how="cross").filter(inside).select("symbol", "session")

    def overlapping(self) -> set[str]:
        """Symbols with spells that overlap, or that end before they begin."""
        spells = self.membership.sort("symbol", "since")
        ends_before = pl.col("until").shift().over("symbol") < pl.col("since")
        is_first = pl.col("since").shift().over("symbol").is_null()
        backwards = pl.col("until") < pl.col("since")
        wrong = spells.filter((~is_first & ~ends_before.fill_null(False)) | backwards.fill_null(False))
        return set(wrong["symbol"].to_list())

    @property
    def chosen_in_words(self) -> str:
        """How members were chosen, for people."""
        return CHOSEN_UNSAID if self.chosen is None else CHOSEN[self.chosen]

    def doubts(self, last: date) -> list[str]:
        """What makes an account of the members flatter, or may, by a day.

        Parameters
        ----------
        last : date
            Last day that is traded.
        """
        told = (
            []
            if self.chosen in ("index_history", "all_listed")
            else [f"how members were chosen is {self.chosen_in_words}"]
        )
        years = (last - self.start).days / 365.25
        has_leavers = any(until is not None and until < last for _, _, until in self.all_spells)
        if years >= YEARS_WITHOUT_LEAVER and not has_leavers and self.chosen != "hindsight":
            told.append(
                f"no member has left in {years:.0f} years: are these the members of today? If so write `universe_chosen: hindsight`"
            )
        return told
