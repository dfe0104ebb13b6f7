"""Compile every kernel of the features once, before the tests that need them start side by side: `make test` does.

A fresh clone has none. Compiled code is kept beside its source, where every process and test checkout finds it.
"""

import time

from hf_pipelines.research.features import compute_features
from hf_pipelines_tests.sample_bars import random_bars


def main() -> None:
    began = time.perf_counter()
    compute_features(random_bars(sessions=300))
    print(f"compiled kernels are there after {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
