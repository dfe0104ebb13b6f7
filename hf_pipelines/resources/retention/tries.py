"""Tries: configurations that were evaluated beside a strategy; their trials stay in the ledger."""

from collections import defaultdict
from datetime import datetime

from hf_pipelines.resources.retention.judging import LEAST_AGE, Holdings, Judged
from hf_pipelines.resources.tries import RECORD, TRIES, try_key

KIND = "try"


def judge(holdings: Holdings) -> list[Judged]:
    """Every try, and what is left of those that were killed; the newest of each strategy stay, however old."""
    parts: dict[tuple[str, str], dict[str, tuple[datetime, int]]] = defaultdict(dict)
    for key, told in holdings.store.objects.ages_and_sizes(TRIES).items():
        _, strategy, number, *_ = key.split("/")
        parts[strategy, number][key] = told
    written = {name: max(age for age, _ in objects.values()) for name, objects in parts.items()}
    rank: dict[str, int] = defaultdict(int)
    judged = []
    for name in sorted(parts, key=lambda each: (written[each], each), reverse=True):
        strategy, number = name
        size = sum(each for _, each in parts[name].values())
        if try_key(strategy, number) not in parts[name]:
            goes = written[name] < holdings.now - LEAST_AGE
            why = "a try that was not ended" if goes else "a try that may be under way"
            judged.append(Judged(KIND, f"{strategy}~{number}", written[name], goes, why, size))
            continue
        rank[strategy] += 1
        goes, why = _verdict(holdings, written[name], rank[strategy])
        judged.append(Judged(KIND, f"{strategy}~{number}", written[name], goes, why, size, is_spare=not goes))
    return judged[::-1]


def _verdict(holdings: Holdings, written: datetime, rank: int) -> tuple[bool, str]:
    if rank <= holdings.policy.versions:
        return False, f"among the newest {holdings.policy.versions} of its strategy"
    if written >= holdings.oldest:
        return False, holdings.young
    return True, f"{holdings.aged}; its trials are in the ledger"


def remove(holdings: Holdings, judged: Judged) -> None:
    """Remove a try, its record first: without one there is none."""
    folder = f"{TRIES}/{judged.name.replace('~', '/')}"
    keys = holdings.store.objects.keys(folder)
    for key in sorted(keys, key=lambda each: not each.endswith(f"/{RECORD}")):
        holdings.store.objects.delete(key)
