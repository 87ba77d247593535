"""Two processes never work on one run; a dead one's claim is taken over."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

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
    leave_claim(tmp_path, age_s=claims.STALE_S / 2)
    assert Claim.take(tmp_path) is None
    leave_claim(tmp_path, age_s=2 * claims.STALE_S)
    assert Claim.take(tmp_path) is not None


def test_of_many_contenders_for_a_dead_claim_exactly_one_wins(tmp_path):
    for number in range(40):
        run = tmp_path / str(number)
        run.mkdir()
        leave_claim(run, age_s=2 * claims.STALE_S)
        start = threading.Barrier(8)

        def contend(_, run=run, start=start):
            start.wait()
            return Claim.take(run)

        with ThreadPoolExecutor(8) as pool:
            won = [mine for mine in pool.map(contend, range(8)) if mine is not None]
        assert len(won) == 1
        assert won[0].is_mine()
        assert {path.name for path in run.iterdir()} == {"claim.json", ".claim.lock"}


def test_of_many_processes_exactly_one_wins(tmp_path):
    leave_claim(tmp_path, age_s=2 * claims.STALE_S)
    code = (
        "import sys, pathlib; from scaling.runs.claim import Claim; sys.stdin.readline()\n"
        "print(Claim.take(pathlib.Path(sys.argv[1])) is not None, flush=True); sys.stdin.readline()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    contenders = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], **pipes) for _ in range(4)]
    for contender in contenders:
        contender.stdin.write("go\n")
        contender.stdin.flush()
    assert sorted(contender.stdout.readline() for contender in contenders) == 3 * ["False\n"] + ["True\n"]
    for contender in contenders:
        contender.communicate("end\n")


@pytest.mark.parametrize("torn", ["", '{"host": "else', "[]", '{"host": "elsewhere"}'])
def test_torn_claim_stands_only_until_it_is_old(tmp_path, torn):
    path = tmp_path / "claim.json"
    path.write_text(torn)
    assert holder(tmp_path) is not None
    assert Claim.take(tmp_path) is None
    long_ago = time.time() - 2 * claims.STALE_S
    os.utime(path, (long_ago, long_ago))
    assert holder(tmp_path) is None
    assert Claim.take(tmp_path) is not None


def test_heartbeat_is_judged_by_the_file_systems_clock_not_the_observers(tmp_path, monkeypatch):
    leave_claim(tmp_path, age_s=0)
    monkeypatch.setattr(time, "time", lambda: 1e10)
    assert Claim.take(tmp_path) is None


def test_heart_goes_on_after_a_failed_beat(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.01)
    beat, failures = os.utime, [OSError(5, "server away")] * 3

    def fail_at_first(*arguments, **keywords):
        if failures:
            raise failures.pop()
        beat(*arguments, **keywords)

    monkeypatch.setattr(os, "utime", fail_at_first)
    with Claim.take(tmp_path):
        beat(tmp_path / "claim.json", (0, 0))
        deadline = time.monotonic() + 5
        while (tmp_path / "claim.json").stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "claim.json").stat().st_mtime > 0


def test_claims_work_where_the_file_system_has_no_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    leave_claim(tmp_path, age_s=2 * claims.STALE_S)
    with Claim.take(tmp_path) as mine:
        assert mine.is_mine()
        assert Claim.take(tmp_path) is None
    assert holder(tmp_path) is None


def test_ending_does_not_remove_the_claim_of_whoever_took_over(tmp_path):
    with Claim.take(tmp_path):
        (tmp_path / "claim.json").unlink()
        other = Claim.take(tmp_path)
    assert other.is_mine()


def leave_claim(run_dir, *, age_s: float) -> None:
    """A claim of another machine."""
    path = run_dir / "claim.json"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "born": "1", "token": "t"}))
    beaten = time.time() - age_s
    os.utime(path, (beaten, beaten))
