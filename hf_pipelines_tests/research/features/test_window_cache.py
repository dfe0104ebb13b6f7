"""Compiled kernels: what is kept on disk is made of the kernel's source and of that of the kernels it calls."""

import sys
from importlib import import_module

import numpy as np
import pytest

HEAD = "from hf_pipelines.research.features.lazy_kernel import window_kernel\n"
CALLED = HEAD + "@window_kernel\ndef scaled(series, n):\n    return series[n] * {factor}\n"
BETWEEN = HEAD + "from stamped_called import scaled\n@window_kernel\ndef first(series):\n    return scaled(series, 0)\n"
CALLER = (
    HEAD + "from stamped_between import first\n@window_kernel\ndef total(series):\n    return first(series) + 1.0\n"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "stamped_between.py").write_text(BETWEEN)
    (tmp_path / "stamped_caller.py").write_text(CALLER)
    yield tmp_path
    for name in [each for each in sys.modules if each.startswith("stamped_")]:
        del sys.modules[name]


def computed(series=(3.0, 5.0)):
    """What the kernel gives in a process that starts now, and whether its compiled code was on disk."""
    for name in [each for each in sys.modules if each.startswith("stamped_")]:
        del sys.modules[name]
    total = import_module("stamped_caller").total
    return total(np.array(series)), sum(total.dispatcher.stats.cache_hits.values()) == 1


def test_compiled_kernel_is_kept_until_a_kernel_two_calls_away_in_another_file_changes(folder):
    (folder / "stamped_called.py").write_text(CALLED.format(factor="2.0"))
    assert computed() == (7.0, False)
    assert computed() == (7.0, True)
    (folder / "stamped_called.py").write_text(CALLED.format(factor="20.0"))
    assert computed() == (61.0, False)
    assert computed() == (61.0, True)
