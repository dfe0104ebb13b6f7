"""Chains: are all records there, as they were written and in their order?

Lives here: what breaks a chain, and the heads that are kept apart from it. Does not live here: reading records (`segments`).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hf_pipelines.resources.trial_ledger.records import ORIGIN, Record
from hf_pipelines.resources.trial_ledger.segments import Contents


@dataclass(frozen=True)
class Head:
    """A record that somebody has noted: in a footer, in Dagster's storage, on a machine, on paper.

    Attributes
    ----------
    hash : str
    noted_in : str
        In words.
    """

    writer: str
    n: int
    hash: str
    noted_in: str

    @staticmethod
    def from_text(text: object, noted_in: str) -> "Head | None":
        """A head as footers and metadata hold it, `<writer> <number> <hash>`, the hash in groups or whole; None of other text."""
        parts = text.split() if isinstance(text, str) else []
        if len(parts) < 3 or not parts[1].isdecimal() or len(parts[1]) > 12:
            return None
        return Head(parts[0], int(parts[1]), "".join(parts[2:]), noted_in)


@dataclass(frozen=True)
class LedgerFault:
    """The first record of a chain that is not as it was written, or bytes that are no record."""

    writer: str
    n: int
    what: str

    def __str__(self) -> str:
        where = f"record {self.n} of writer {self.writer}: " if self.writer else ""
        return f"trial ledger: {where}{self.what}"


def verify_chains(contents: Contents, heads: Iterable[Head] = ()) -> list[LedgerFault]:
    """Faults of the chains, the first of each, and of everything that could not be read.

    Parameters
    ----------
    contents : Contents
        Read with `is_checked`.
    heads : iterable of Head
        Kept apart from the chains.

    Returns
    -------
    list of LedgerFault
        Writer, place and words of each; empty if the ledger is sound.
    """
    chains: dict[str, dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    lines: set[bytes] = set()
    for record in contents.records:
        if record.line not in lines:
            lines.add(record.line)
            chains[record.writer][record.n].append(record)
    noted: dict[str, list[Head]] = defaultdict(list)
    for head in heads:
        noted[head.writer].append(head)
    faults = [LedgerFault(each.writer, each.n, f"{each.address} is {each.what}") for each in contents.unreadable]
    named: dict[str, set[int]] = defaultdict(set)
    for each in contents.unreadable:
        named[each.writer].add(each.n)
    for writer in sorted({*chains, *noted}):
        faults += _first_fault(writer, chains[writer], noted[writer], named[writer])
    return faults


def _first_fault(
    writer: str, chain: dict[int, list[Record]], heads: list[Head], unreadable: set[int]
) -> Iterator[LedgerFault]:
    last = max(chain, default=-1)
    known = {head.n: head for head in sorted(heads, key=lambda each: each.noted_in)}
    previous = ORIGIN
    for n in range(last + 1):
        # One loop over what may be a huge number in a forged record: a hole ends it.
        held = chain.get(n)
        if n in unreadable:
            # It is there and named; what follows it cannot be followed.
            return
        if held is None:
            yield LedgerFault(writer, n, f"it was dropped: there are later ones, up to {last}")
            return
        if len(held) > 1:
            yield LedgerFault(writer, n, f"one was inserted: there are {len(held)} different ones of this number")
            return
        (record,) = held
        if record.fields["prev"] != previous:
            yield LedgerFault(
                writer, n, "it does not follow the one before it: one of the two was changed, or put in another's place"
            )
            return
        head = known.get(n)
        if head is not None and head.hash != record.hash:
            yield LedgerFault(
                writer, n, f"it is not the one that {head.noted_in} has noted: the chain was written anew"
            )
            return
        previous = record.hash
    missing = [head for n, head in sorted(known.items()) if n > last]
    if missing:
        yield LedgerFault(
            writer,
            last + 1,
            f"the end of the chain was cut off: {missing[-1].noted_in} has noted record {missing[-1].n}",
        )
