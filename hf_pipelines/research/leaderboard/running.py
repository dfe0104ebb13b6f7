"""Running: every candidate on the same outer folds, several at a time, until a deadline.

Lives here: the order, what is kept of a run that was killed, and what becomes of candidates that the deadline leaves out. Does not live
here: where they run, which is handed in (`resources.fan_out`), what is computed (`evaluating`).

Without a deadline the entries are the same for any number of workers. With one, which candidates it leaves out depends on the machine; what
the others predict does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from hf_pipelines.research.fan_out import InTime, Lost, one_in_time
from hf_pipelines.research.leaderboard.candidates import Candidate, require_distinct
from hf_pipelines.research.leaderboard.entries import ENDED, FAILED, NOT_RUN, Entry

Evaluate: TypeAlias = Callable[[Candidate], Entry]


class Record(Protocol):
    """Where a leaderboard keeps what it has done, so that who resumes it repeats nothing that has ended."""

    def known(self, candidate: Candidate) -> Entry | None:
        """How a candidate has ended before."""

    def begin(self, candidate: Candidate) -> None:
        """Note that a candidate is about to run, before it does."""

    def end(self, candidate: Candidate, entry: Entry) -> None:
        """Keep how it has ended, before that is used."""


@dataclass
class MemoryRecord:
    """Keeps entries as long as the process lives."""

    ended: dict[str, Entry] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)

    def known(self, candidate: Candidate) -> Entry | None:
        return self.ended.get(candidate.name)

    def begin(self, candidate: Candidate) -> None:
        self.begun.append(candidate.name)

    def end(self, candidate: Candidate, entry: Entry) -> None:
        self.ended[candidate.name] = entry


def run_candidates(
    candidates: Sequence[Candidate],
    evaluate: Evaluate,
    *,
    map_in_time: InTime = one_in_time,
    record: Record | None = None,
    seconds_left: Callable[[], float] | None = None,
    on_end: Callable[[Entry], None] = lambda entry: None,
) -> list[Entry]:
    """Evaluate candidates until the time is over.

    Parameters
    ----------
    candidates : sequence of Candidate
        In the order in which they begin.
    evaluate : callable
        `Candidate -> Entry`, a pure function.
    map_in_time : callable
        Where they run, see `InTime`.
    record : Record, optional
        Of these candidates on these data.
    seconds_left : callable, optional
        Until the deadline; left out: there is none.
    on_end : callable
        Is given each entry as it ends.

    Returns
    -------
    list of Entry
        In the order of `candidates`; what did not begin is `not run`, what was under way at the deadline `ended`.

    Raises
    ------
    ValueError
        If there are no candidates, or two of one name.
    """
    require_distinct(candidates)
    kept = MemoryRecord() if record is None else record
    known: Mapping[str, Entry] = {each.name: entry for each in candidates if (entry := kept.known(each)) is not None}
    waiting = [each for each in candidates if each.name not in known]
    ended, begun = dict(known), list[Candidate]()

    def drawn() -> Iterator[Candidate]:
        for each in waiting:
            kept.begin(each)
            begun.append(each)
            yield each

    for place, made in map_in_time(evaluate, drawn(), seconds_left):
        candidate = waiting[place]
        entry = Entry(candidate.name, FAILED, reason=made.reason) if isinstance(made, Lost) else made
        kept.end(candidate, entry)
        ended[candidate.name] = entry
        on_end(entry)
    for each in begun:
        if each.name not in ended:
            entry = Entry(each.name, ENDED, reason="it was under way at the deadline")
            kept.end(each, entry)
            ended[each.name] = entry
            on_end(entry)
    missing = "the deadline came before it began"
    return [ended.get(each.name) or Entry(each.name, NOT_RUN, reason=missing) for each in candidates]
