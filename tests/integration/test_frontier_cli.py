"""`python -m analysis frontier` as a user types it."""

import json

import numpy as np
import pandas as pd

from analysis.__main__ import main


def write_table(path):
    generator = np.random.default_rng(0)
    rows = [
        {"N": n, "D": d, "L": (0.05 + 2 * n**-0.35 + 3 * d**-0.5) * np.exp(0.02 * generator.normal())}
        for n in (373, 1161, 3985, 14625, 55800)
        for d in (64, 256, 1024, 4096, 16384)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return [str(path), "--num-params", "N", "--data-size", "D", "--loss", "L", "--bootstrap", "200"]


def test_frontier_answers_for_given_budgets(tmp_path, capsys):
    table = write_table(tmp_path / "runs.csv")
    assert main(["frontier", *table, "--budgets", "1e8", "1e10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["frontier"]["budgets"] == [1e8, 1e10]
    assert found["frontier"]["cost"]["flops_per_nd"] == 6
    low, high = found["frontier"]["num_params"]["ci95"]
    assert low[0] < found["frontier"]["num_params"]["value"][0] < high[0]
    assert found["conventions"]["intervals"]
    assert main(["frontier", *table, "--budgets", "1e8", "1e10"]) == 0
    printed = capsys.readouterr().out
    assert "C = 6 N D, assumed" in printed
    assert "beyond the runs" in printed


def test_mistakes_are_one_line(tmp_path, capsys):
    table = write_table(tmp_path / "runs.csv")
    assert main(["frontier", *table, "--budgets", "-5"]) != 0
    assert "must be positive numbers of FLOPs" in capsys.readouterr().err
    assert main(["frontier", *table, "--form", "power_floor", "--budgets", "1e9"]) != 0
    assert "use chinchilla" in capsys.readouterr().err
