"""What a run writes down as it goes."""

import json
import math

from scaling.training.metrics import MetricsLog


def test_number_that_is_none_becomes_null_and_the_log_goes_on(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", keep_bytes=0, enabled=True)
    log.write(step=1, val_loss=math.nan)
    log.write(step=2, val_loss=0.5, lr=math.inf)
    log.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "val_loss": None},
        {"step": 2, "val_loss": 0.5, "lr": None},
    ]


def test_log_is_cut_back_to_where_the_checkpoint_was(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, keep_bytes=0, enabled=True)
    log.write(step=1)
    kept = log.num_bytes()
    log.write(step=2)
    log.close()
    again = MetricsLog(path, keep_bytes=kept, enabled=True)
    again.write(step=3)
    again.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3]
