"""Our readers beside the libraries that could take their place: the measurement runs, and ours do no harm."""

import json

import pytest

from tests.conftest import run_command


@pytest.mark.long
def test_readers_of_our_own_raise_where_libraries_die_or_say_nothing(tmp_path):
    out = tmp_path / "found.json"
    done = run_command("experiments.bench.libraries", "--quick", "--json", str(out))
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    lmdb = {row["reader"]: row for row in rows if "files" in row}
    assert "signals" not in lmdb["ours"]
    assert lmdb["ours"]["errors"] > lmdb["lmdb"]["errors"], "the control: the files were damaged"
    pickles = {row["reader"]: row for row in rows if "keys_ended" in row}
    assert pickles["ours"]["keys_ended"] == "ValueError"
    relaxers = {row["relaxer"]: row for row in rows if "relaxer" in row}
    assert relaxers["ours"]["apart_ev"] < 1e-6
    assert relaxers["ours"]["calls_of_the_network"] < relaxers["ase"]["calls_of_the_network"]
