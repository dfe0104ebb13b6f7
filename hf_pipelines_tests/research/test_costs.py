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


def test_costs_twice_as_high_are_all_twice_as_high_and_interest_received_stays() -> None:
    interest = {"type": "cash_interest", "params": {"bps_per_year": 300.0}}
    spread = {"type": "spread", "params": {"half_bps": 2.0}}
    costs = Costs(fee_bps=1.0, slippage_bps=2.0, borrow_bps_per_year=50.0, kinds=(spread, interest))
    dearer = costs.times(2.0)
    assert (dearer.fee_bps, dearer.slippage_bps, dearer.borrow_bps_per_year) == (2.0, 4.0, 100.0)
    params = {name: dict(each) for name, each in dearer.kinds}
    assert params["spread"]["half_bps"] == 4.0 and params["cash_interest"]["bps_per_year"] == 300.0


def test_costs_are_told_with_every_parameter_of_their_kinds() -> None:
    spread = {"type": "spread", "params": {"half_bps": 2.0}}
    told = repr(Costs(fee_bps=1.0, kinds=(spread,)))
    assert told.startswith("Costs(fee_bps=1.0, slippage_bps=0.0, borrow_bps_per_year=0.0, ")
    assert "spread.half_bps=2.0" in told
    # Code versions hold it: what costs otherwise must read otherwise.
    assert told != repr(Costs(fee_bps=1.0, kinds=({**spread, "params": {"half_bps": 3.0}},)))
    assert repr(Costs(fee_bps=1.0)) == "Costs(fee_bps=1.0, slippage_bps=0.0, borrow_bps_per_year=0.0)"
