"""Two processes never work on one run; a dead one's claim is taken over."""

import json
import os
import subprocess
import sys
import threading
import time

from scaling.runs import claim as claims
from scaling.runs.claim import Claim, holder


def test_second_claim_is_refused_until_the_first_ends(tmp_path):
    with Claim.take(tmp_path) as first:
        assert first is not None
        assert Claim.take(tmp_path) is None
        assert holder(tmp_path)["pid"] == os.getpid()
    assert holder(tmp_path) is None
    assert Claim.take(tmp_path) is not None


def test_claim_of_a_killed_process_is_taken_over_at_once(tmp_path):
    code = (
        "import sys, time, pathlib; from scaling.runs.claim import Claim\n"
        "with Claim.take(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    assert Claim.take(tmp_path) is None
    process.kill()
    process.wait()
    assert Claim.take(tmp_path) is not None


def test_claim_of_another_machine_is_taken_over_only_without_heartbeat(tmp_path):
    path = tmp_path / "claim.json"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "born": "1", "token": "t"}))
    assert Claim.take(tmp_path) is None
    long_ago = time.time() - 2 * claims.STALE_S
    os.utime(path, (long_ago, long_ago))
    assert Claim.take(tmp_path) is not None


def test_of_many_contenders_one_wins(tmp_path):
    (tmp_path / "claim.json").write_text(json.dumps({"host": "elsewhere", "pid": 1, "born": "1", "token": "t"}))
    os.utime(tmp_path / "claim.json", (0, 0))
    won, start = [], threading.Barrier(8)

    def contend():
        start.wait()
        mine = Claim.take(tmp_path)
        if mine is not None:
            won.append(mine)

    threads = [threading.Thread(target=contend) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sum(mine.is_mine() for mine in won) == 1
