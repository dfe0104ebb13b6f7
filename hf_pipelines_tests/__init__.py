"""Tests of hf_pipelines. One thread a library in all of them: tests run side by side, and servers inherit it."""

import os

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")

# Set here because this module is imported before numpy and before any process is started: afterwards it has no effect.
for _name in THREADS:
    os.environ.setdefault(_name, "1")
