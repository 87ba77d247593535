"""One model of what a run costs: whoever asks, of whatever law and table, gets one answer."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.__main__ import main
from analysis.compute.cost import measure_cost
from analysis.compute.optimal import frontier
from analysis.compute.parabolas import isoflop
from analysis.compute.returns import marginal_values
from analysis.design.advice import next_runs
from analysis.design.targets import find_target
from analysis.example import example_runs
from analysis.fitting.law import fit
from analysis.tables import load_runs

NUM_PARAMS, DATA = np.meshgrid([1e4, 1e5, 1e6, 1e7], [1e3, 1e4, 1e5, 1e6])
AGREEMENT = 1e-6
MEASURED, ABSENT, STATED = "measured", "absent", "stated"


@st.composite
def cases(draw):
    """A law, and how its runs' FLOPs are known: C = k N^p D^q with their own epochs, not at all, or as stated."""
    alpha, beta = draw(st.floats(0.2, 0.7)), draw(st.floats(0.2, 0.7))
    floor, share = draw(st.floats(0.02, 0.5)), draw(st.floats(0.2, 0.8))
    n, d = NUM_PARAMS.ravel(), DATA.ravel()
    loss = floor + share * (n / 3e5) ** -alpha + (1 - share) * (d / 3e4) ** -beta
    frame = pd.DataFrame({"num_params": n, "train_structures": d, "test_loss": loss})
    known = draw(st.sampled_from([MEASURED, ABSENT, STATED]))
    k, p, q, epochs = draw(st.floats(50, 1e5)), draw(st.floats(0.5, 1.5)), draw(st.floats(0.0, 1.5)), 20.0
    if known == MEASURED:
        frame = frame.assign(train_flops=k * n**p * d**q * epochs, epochs=epochs)
    form = draw(st.sampled_from(["chinchilla", "shared_exponent", "gamma"]))
    return load_runs(frame), form, k if known == STATED else None


@given(case=cases(), decades=st.floats(-2, 3))
@settings(max_examples=25, deadline=None)
def test_frontier_and_next_agree_on_the_best_size_of_any_law_at_any_cost(case, decades):
    table, form, stated = case
    law = fit(table, form, replicates=0)
    compute = float(measure_cost(table, flops_per_nd=stated).flops_of_runs.max() * 10.0**decades)
    found = frontier(law, compute, flops_per_nd=stated)
    advice = next_runs(law, target="N*", compute=compute, flops_per_nd=stated, count=1)
    assert np.exp(advice.estimate) == pytest.approx(found.num_params.value[0], rel=AGREEMENT)
    # The optimal run costs its budget, by the very function that prices the runs to be made next.
    sizes = {"N": found.num_params.value, "D": found.data_size.value}
    if not found.cost.problem:
        assert advice.cost(sizes)[0] == pytest.approx(compute, rel=AGREEMENT)
    assert isoflop(law, flops_per_nd=stated).cost.flops_per_nd == found.cost.flops_per_nd
    # The negative control: at another cost the same law has another optimum.
    other = frontier(law, compute, flops_per_nd=2 * found.cost.flops_per_nd)
    assert abs(other.num_params.value[0] / found.num_params.value[0] - 1) > 1e3 * AGREEMENT


def test_the_commands_agree_on_the_best_size(tmp_path, capsys):
    """At 1e15 FLOPs on the example runs, whose C is 120 N D; under 6 N D, the control, N* is 5 times larger."""
    table = tmp_path / "runs.csv"
    example_runs().to_csv(table, index=False)

    def answer(*arguments):
        command, *options = arguments
        assert main([command, str(table), "--bootstrap", "100", "--json", *options]) == 0
        return json.loads(capsys.readouterr().out)

    best = answer("frontier", "--budgets", "1e15")["frontier"]["num_params"]["value"][0]
    assert answer("next", "--target", "N*", "--at-flops", "1e15")["estimate"] == pytest.approx(best, rel=AGREEMENT)
    stated = answer("next", "--target", "N*", "--at-flops", "1e15", "--flops-per-nd", "6")["estimate"]
    assert stated == pytest.approx(
        answer("frontier", "--budgets", "1e15", "--flops-per-nd", "6")["frontier"]["num_params"]["value"][0],
        rel=AGREEMENT,
    )
    assert stated > 4 * best


def test_default_compute_of_the_best_size_is_a_hundred_times_that_of_the_largest_run(make_study):
    law = fit(load_runs(example_runs()), replicates=0)
    assert find_target(law, "N*", {}, None).compute == pytest.approx(100 * law.table.axis("C").max())


def test_best_size_of_runs_whose_cost_does_not_follow_n_d_comes_with_a_warning(make_study):
    equal_steps, equal_epochs = make_study(), make_study()
    equal_epochs = equal_epochs.assign(epochs=20.0, samples_seen=20 * equal_epochs["train_structures"])
    equal_epochs["train_flops"] = 6 * equal_epochs["num_params"] * equal_epochs["samples_seen"]
    said = [
        any("N* rests on C = k N D" in warning for warning in next_runs(law, target="N*", count=1).warnings)
        for law in (fit(load_runs(frame), replicates=0) for frame in (equal_steps, equal_epochs))
    ]
    assert said == [True, False]


def test_runs_of_equal_steps_are_priced_by_what_they_cost_not_by_n_d(make_study):
    table = load_runs(make_study().drop(columns="device_hours"))
    price = measure_cost(table).price
    np.testing.assert_allclose(price({"N": table.num_params, "D": table.data_size}), table.axis("C"), rtol=1e-6)
    assert price.exponents["D"] == pytest.approx(0, abs=1e-6)


def test_marginal_values_and_advice_count_device_hours_alike(make_study):
    frame = make_study()
    frame["device_hours"] = 0.5 + 1e-6 * frame["num_params"] ** 0.8 * frame["train_structures"] ** 0.5
    law = fit(load_runs(frame), replicates=0)
    price, (of_n, of_d) = next_runs(law, count=1).cost, marginal_values(law)
    at = {axis: float(law.table.axis(axis).max()) for axis in "ND"}
    for found, axis in ((of_n, "N"), (of_d, "D")):
        up, down = (price({**at, axis: at[axis] * factor})[0] for factor in (1.001, 1 / 1.001))
        assert found.hours_exponent == pytest.approx(np.log(up / down) / (2 * np.log(1.001)), rel=1e-4)
        assert found.per_hour.value == pytest.approx(found.per_hours.value / price(at)[0])
    beyond = 1 - 0.5 / price(at)[0]
    # Not the bare power of the fit: the overhead is paid whatever the size.
    assert of_n.hours_exponent == pytest.approx(0.8 * beyond, rel=0.1)


def test_sizes_that_vary_together_have_no_price_of_their_own():
    sizes = np.geomspace(1e3, 1e6, 8)
    loss = 0.1 + sizes**-0.3 + sizes**-0.2
    frame = pd.DataFrame({"num_params": sizes, "train_structures": 10 * sizes, "test_loss": loss})
    frame["device_hours"] = 1e-9 * sizes**2
    price = measure_cost(load_runs(frame)).price
    assert price.unit == "device-hours"
    assert price.elasticity("N", {"N": 1e4, "D": 1e5}) is None
    frame.loc[::2, "train_structures"] *= 3
    assert measure_cost(load_runs(frame)).price.elasticity("N", {"N": 1e4, "D": 1e5}) is not None
