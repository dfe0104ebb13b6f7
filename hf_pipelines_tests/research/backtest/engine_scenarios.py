"""All random scenarios by every engine that can simulate them: `make engines`. Ends with status 1 if two engines part."""

import sys
import time
from collections import Counter

from hf_pipelines.research.backtest import ENGINES
from hf_pipelines.research.backtest.reconcile import reconcile
from hf_pipelines_tests.research.backtest.scenarios import N_SCENARIOS, scenario


def main() -> int:
    """Compare, and print what was compared and how far apart engines were."""
    began = time.perf_counter()
    compared, refused, parted, largest = Counter[str](), 0, 0, 0.0
    for number in range(N_SCENARIOS):
        drawn = scenario(number)
        runs = {
            name: lambda name=name, drawn=drawn: ENGINES[name].run(  # type: ignore[misc]
                drawn.weights, drawn.bars, drawn.costs, drawn.execution, periods_per_year=250
            )
            for name in drawn.able()
        }
        try:
            found = reconcile(runs)
        except ValueError:
            # A ruin, or a lot larger than what is left: all of them refuse it.
            refused += 1
            continue
        for each in found.agreements:
            compared[each.engine] += 1
            largest = max(largest, *each.largest.values())
        parted += not found.agrees
        for told in found.findings():
            print(f"scenario {number}: {told}")
    counts = ", ".join(f"{name} {n}" for name, n in sorted(compared.items()))
    print(
        f"{N_SCENARIOS} scenarios: {parted} parted, {refused} refused by all engines; compared with the reference: {counts}; largest "
        f"difference {largest:.1e} of equity; {time.perf_counter() - began:.0f} s"
    )
    return int(parted > 0)


if __name__ == "__main__":
    sys.exit(main())
