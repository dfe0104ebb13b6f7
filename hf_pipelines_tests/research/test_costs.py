import math

import pytest

from hf_pipelines.research.costs import Costs


def test_costs_rates_are_fractions_of_basis_points() -> None:
    costs = Costs(fee_bps=2.5, slippage_bps=10, borrow_bps_per_year=365)

    assert costs.fee_rate == pytest.approx(0.00025)
    assert costs.slippage_rate == pytest.approx(0.001)
    assert costs.borrow_rate_per_day == pytest.approx(0.0001)


@pytest.mark.parametrize("field", ["fee_bps", "slippage_bps", "borrow_bps_per_year"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_costs_impossible_value_raises(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{field}` must be finite and not negative, was {value}"):
        Costs(**{field: value})
