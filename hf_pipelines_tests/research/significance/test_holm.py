"""Holm: by hand, against statsmodels, and what is not tested."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from hf_pipelines.research.significance import adjust_holm


def test_by_hand():
    # The least three times; the next twice, 0.06; the last once, but not below the one before.
    np.testing.assert_allclose(adjust_holm([0.04, 0.01, 0.03]), [0.06, 0.03, 0.06])


def test_agrees_with_statsmodels_with_ties():
    p = np.random.default_rng(0).random(30).round(1)
    np.testing.assert_allclose(adjust_holm(p), multipletests(p, method="holm")[1])


def test_one_test_is_left_as_it_is_and_what_was_not_tested_does_not_count():
    assert adjust_holm([0.04]).tolist() == [0.04]
    np.testing.assert_array_equal(adjust_holm([np.nan, 0.02, np.nan, 0.5]), [np.nan, 0.04, np.nan, 0.5])
    assert adjust_holm([]).tolist() == [] and np.isnan(adjust_holm([np.nan])).all()


def test_outside_of_0_and_1_is_refused():
    with pytest.raises(ValueError, match=r"`p` must be between 0 and 1, was \[1.2\]"):
        adjust_holm([0.5, 1.2])
