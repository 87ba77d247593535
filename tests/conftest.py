"""Shared by all tests: one thread, no accelerator, nothing of the shell's cluster, and prepared data made once.

`--thorough` (make test-long) gives every property test more examples and draws every figure of every report.
"""

import fcntl
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import settings

from tests.ranks import forkserver, run_ranks

#: What a shell inside a job, or under mpirun, torchrun or make, exports: it is not the business of a test.
OF_A_CLUSTER = re.compile(
    r"(SLURM|SLURMD|SBATCH|SALLOC|SRUN|SQUEUE|SINFO|SCONTROL|SACCT|SCANCEL|OMPI|PMI|PMIX|PALS|MPI|MV2|PBS|TORCHELASTIC"
    r"|NCCL|GLOO|HYDRA|GNN_SCALING)_.*"
    r"|(LOCAL_|GROUP_|ROLE_)?(WORLD_SIZE|RANK)|MASTER_(ADDR|PORT)|MAKE(FLAGS|LEVEL|OVERRIDES)|MFLAGS"
    r"|COLUMNS|MPLBACKEND|PYTHONWARNINGS"
)

ROOT = Path(__file__).parent.parent
for variable in filter(OF_A_CLUSTER.fullmatch, list(os.environ)):
    del os.environ[variable]
os.environ.update(DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", PYTHONPATH=str(ROOT))

# A busy machine is no failure; the fast examples are the same every time, the long ones are a search.
settings.register_profile("fast", deadline=None, max_examples=20, derandomize=True, database=None)
settings.register_profile("long", deadline=None, max_examples=200, derandomize=False)
settings.load_profile("fast")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="more examples, every figure drawn (make test-long)")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--thorough"):
        settings.load_profile("long")


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Makes a directory that all workers of this test session share: the first to ask makes it, the others wait.

    Whoever wants to change what is in it takes a copy.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)

    def directory(name: str, make: Callable[[Path], None]) -> Path:
        made, mark = folder / name, folder / f"{name}.made"
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not mark.exists():
                assert not made.exists(), f"{made} is left of an attempt that failed; see its test"
                made.mkdir()
                make(made)
                mark.touch()
        return made

    return directory


@pytest.fixture(scope="session")
def tiny_data(shared) -> Path:
    """EMT structures, enough that a quarter of them holds every element; not to be changed."""

    def prepare(folder: Path) -> None:
        done = run_command("experiments.prepare", "source=emt", "source.num_structures=320", f"out={folder / 'emt'}")
        assert done.returncode == 0, done.stderr

    return shared("tiny_data", prepare) / "emt"


def run_command(module: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """What `python -m module arguments` does and says, without the start of a process: in this one.

    What the command leaves in this process (arguments, variables, signal handlers, Hydra's state) is undone.
    """
    out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.TextIOWrapper(io.BytesIO(), write_through=True)
    with _as_process([module, *arguments], cwd), redirect_stdout(out), redirect_stderr(err):
        code = _exit_code(module)
    said = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return subprocess.CompletedProcess([module, *arguments], code, *said)


def _exit_code(module: str) -> int:
    try:
        code = importlib.import_module(module if module != "analysis" else "analysis.__main__").main()
    except SystemExit as exit_:
        code = exit_.code
    except Exception:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    return code if isinstance(code, int) else int(code is not None)


@contextmanager
def _as_process(argv: list[str], cwd: Path) -> Iterator[None]:
    """Let a command find its arguments and folder, and undo what it leaves behind."""
    from hydra.core.global_hydra import GlobalHydra

    forkserver()
    before = sys.argv, Path.cwd(), dict(os.environ)
    handlers = {sign: signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    sys.argv = argv
    os.chdir(cwd)
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        sys.argv, folder, variables = before
        os.chdir(folder)
        for variable in os.environ.keys() - variables.keys():
            del os.environ[variable]
        os.environ.update(variables)
        for sign, handler in handlers.items():
            signal.signal(sign, handler)


def run_process(module: str, *arguments: str, cwd: Path = ROOT, timeout: float = 240) -> subprocess.CompletedProcess:
    """Run `python -m module arguments` as a user would, where a process is what is tested."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def rows_of_ranks(script: str, ranks: int, out: Path, *arguments: str) -> list[dict]:
    """What a script of tests/distributed, run by a number of ranks, has left in `out`."""
    log = out.with_suffix(".log")
    codes = run_ranks(f"tests.distributed.{script}", ranks, str(out), *arguments, log=log)
    assert codes == [0] * ranks, log.read_text()
    return json.loads(out.read_text())


@pytest.fixture
def torchrun_forks(monkeypatch, tmp_path) -> None:
    """Let ranks that code under test starts by torchrun be forked instead, where torchrun is not what is tested."""
    run = subprocess.run

    def forked(command, **options):
        if "torch.distributed.run" not in command:
            return run(command, **options)
        (ranks,) = (int(word.partition("=")[2]) for word in command if word.startswith("--nproc-per-node="))
        module, *arguments = command[command.index("-m", command.index("torch.distributed.run")) + 1 :]
        log = tmp_path / "ranks.log"
        codes = run_ranks(module, ranks, *arguments, log=log)
        return subprocess.CompletedProcess(command, max(map(abs, codes)), "", log.read_text())

    monkeypatch.setattr(subprocess, "run", forked)


#: What stands for a painted figure: painting is half of a report's time, and --thorough paints all.
STUBS = {"png": b"\x89PNG", "svg": b"<svg/>", "pdf": b"%PDF"}


@pytest.fixture
def unpainted(request, monkeypatch) -> None:
    """No figure is painted: for tests of what a report says."""
    _leave_out({"png", "svg", "pdf"}, request, monkeypatch)


@pytest.fixture
def painted_once(request, monkeypatch) -> None:
    """Figures are painted as SVG and not as PNG again: for tests of whether they can be painted."""
    _leave_out({"png"}, request, monkeypatch)


def _leave_out(kinds: set[str], request, monkeypatch) -> None:
    if request.config.getoption("--thorough"):
        return
    from matplotlib.figure import Figure

    savefig = Figure.savefig

    def save(self, target, *, format, **options):
        if format in kinds:
            target.write(STUBS[format])
        else:
            savefig(self, target, format=format, **options)

    monkeypatch.setattr(Figure, "savefig", save)
