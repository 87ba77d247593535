"""The command as people type it: its files, its one-line errors, and what a kill leaves behind."""

import os
import signal
import subprocess
import sys
import time
import uuid

import pytest

from experiments.prepare import main
from scaling.data.preparation import draft
from scaling.data.preparation.pipeline import prepare, verify
from scaling.data.shards import ShardSet
from scaling.data.sources.emt import Emt
from tests.conftest import run_command
from tests.ranks import forkserver
from tests.reference.processes import living


def command(*overrides):
    return [sys.executable, "-m", "experiments.prepare", *overrides]


def run(*overrides, cwd):
    return run_command("experiments.prepare", *overrides, cwd=cwd)


def test_prepare_skip_refuse_and_verify(tmp_path, monkeypatch, capsys):
    settings = ("source=emt", "source.num_structures=40", "out=sub/emt")
    first = run(*settings, "processes=1", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    shards = ShardSet(tmp_path / "sub" / "emt")
    assert shards.num_structures == 40
    for word in ("40 in", "elements", "rejected", "duplicates", shards.manifest.digest, "time"):
        assert word in first.stdout
    assert len(first.stdout.splitlines()) < 24

    again = run(*settings, "processes=2", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == f"already prepared: sub/emt, digest {shards.manifest.digest}\n"

    other = run(*settings, "source.seed=1", cwd=tmp_path)
    assert other.returncode == 3
    assert other.stderr.startswith("error: out=")
    assert "source.seed is 0 there and 1 here" in other.stderr

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prepare", "verify=sub/emt"])
    main()
    assert capsys.readouterr().out.startswith("verified sub/emt\n")
    assert [path.name for path in tmp_path.iterdir()] == ["sub"]  # nothing of Hydra's
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["emt"]


@pytest.mark.parametrize(
    ("overrides", "exit_code", "message"),
    [
        ((), 2, "error: source is not set; choose one of "),
        (("source=emt",), 2, "error: out is not set"),
        (("source=mvl", "out=x"), 2, "error: source.path is not set"),
        (("source=mvl", "source.path=nope", "out=x"), 3, "error: source.path=nope does not exist"),
        (("source=emt", "out=x", "bounds.cutoff_ang=-1"), 2, "error: bounds.cutoff_ang=-1.0 must be a positive number"),
        (("verify=nope",), 3, "nope is not a directory"),
        (("inspect=nope",), 3, "nope is not a directory"),
        (("leaks=nope",), 3, "nope is not a directory"),
        (("verify=nope", "source=emt", "out=x"), 2, "verify and source are separate commands"),
        (("source=emt", "out=x", "source.sed=1"), 2, "Key 'sed' not in 'Emt'"),
        (("source=emt", "out=x", "sauce=1"), 2, "Key 'sauce' not in 'PrepareConfig'"),
        (("source=xyz", "out=x"), 2, "Could not find 'source/xyz'"),
        (("source=emt", "out=x", "source.seed=a"), 2, "could not be converted to Integer"),
    ],
)
def test_mistake_is_named_without_a_traceback(overrides, exit_code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prepare", *overrides])
    assert main() == exit_code
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert not list(tmp_path.iterdir())


def test_killed_with_workers_leaves_none_behind_and_goes_on(tmp_path):
    settings = ("source=emt", "source.num_structures=500", "processes=2", "out=killed")
    mark = f"PREPARE_MARK={uuid.uuid4()}"
    environment = os.environ | dict([mark.split("=")])
    process = subprocess.Popen(command(*settings), cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(living(mark)) < 4 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(living(mark)) >= 4, "the command, the server of processes and two workers"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while living(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not living(mark)
    again = run(*settings, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert verify(tmp_path / "killed").num_structures == 500


def prepare_in_pieces(folder, *settings):
    """Prepare as the command does, with a piece twenty times a second."""
    draft.PIECE_S = 0.05
    os.chdir(folder)
    sys.argv = ["prepare", *settings]
    sys.exit(main())


def test_killed_again_and_again_between_pieces_gives_the_same_manifest(tmp_path):
    settings = ("source=emt", "source.num_structures=500", "processes=1", "out=killed")
    partial, went_on = tmp_path / ".killed.partial", 0
    for turn in range(6):
        process = forkserver().Process(target=prepare_in_pieces, args=(tmp_path, *settings))
        process.start()
        before = len(list(partial.glob("piece-*")))
        went_on += before > 0
        deadline = time.monotonic() + 60
        while process.is_alive() and time.monotonic() < deadline:
            if turn < 5 and len(list(partial.glob("piece-*"))) > before + 1:
                process.kill()
            time.sleep(0.002)
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert went_on > 1, "the control: it went on from pieces"
    whole = prepare(Emt(num_structures=500), tmp_path / "whole", progress=False)
    assert verify(tmp_path / "killed") == whole.manifest


def test_inspection_draws_and_leaks_are_counted(tmp_path):
    assert run("source=emt", "source.num_structures=200", "processes=1", "out=emt", cwd=tmp_path).returncode == 0
    drawn = run("inspect=emt", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "emt" / "inspect.png").read_bytes().startswith(b"\x89PNG")
    assert "inspect.png" in drawn.stdout
    leaks = run("leaks=emt", "processes=1", cwd=tmp_path)
    assert leaks.returncode == 0, leaks.stderr
    for name in ("by group, val", "by group, test", "by frame, test"):
        assert name in leaks.stdout
