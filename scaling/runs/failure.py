"""Why a run failed: a cause of a short list, one line for people, and the traceback of the rank that failed first."""

import errno
import json
import signal
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from scaling.errors import ScalingError
from scaling.runs.files import write_json
from scaling.runs.store import RunDir

EXCEPTION, OUT_OF_MEMORY, KILLED = "exception", "out of memory", "killed"
#: Of a failure's text; what is longer stands in the log.
LONGEST = 2000
#: Of the end of a log, looked through for the words of a process that was aborted.
LOG_TAIL_BYTES = 20_000
#: How libraries report that another rank no longer answers.
LOST_PEER_WORDS = ("Connection closed by peer", "Connection reset by peer", "NCCL", "gloo", "DistBackendError")
#: How libraries report that memory has run out.
OUT_OF_MEMORY_WORDS = (
    "CUDA out of memory",  # torch's allocator
    "CUDA error: out of memory",  # a kernel or a context
    "CUDA_ERROR_OUT_OF_MEMORY",  # the driver
    "cudaErrorMemoryAllocation",
    "_STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN, cuSPARSE, cuFFT
    "Cuda failure 2 'out of memory'",  # NCCL, with the number of the error
    "Cuda failure 'out of memory'",  # NCCL before 2.20
    "Failed to CUDA calloc",  # NCCL
    "Failed to CUDA host alloc",
    "HIP out of memory",
    "can't allocate memory",
    "Cannot allocate memory",
    "bad_alloc",
    "MemoryError",
)


@dataclass(frozen=True)
class Failure:
    """message: in one line. cause: EXCEPTION, OUT_OF_MEMORY, or KILLED, by whatever has ended this rank or one that it
    cannot do without. traceback: "" where none was raised."""

    message: str
    cause: str = EXCEPTION
    traceback: str = ""

    @classmethod
    def of(cls, error: Exception, run: RunDir) -> "Failure":
        """Why an error ended a run; of what nobody foresaw the traceback is kept."""
        trace = "" if isinstance(error, ScalingError) else "".join(traceback.format_exception(error))
        if _is_memory(error):
            remedy = "lower train.max_edges, set zero.auto=true, or give each rank more memory"
            return cls(f"out of memory: {_line(str(error) or type(error).__name__)}; {remedy}", OUT_OF_MEMORY, trace)
        if isinstance(error, ScalingError):
            text, where = str(error), ""
        elif isinstance(error, OSError) and error.strerror:
            text, where = f"{error.filename or run.path}: {error.strerror}", ""
        else:
            text, where = f"{type(error).__name__}: {error}", f"; see {run.path / 'log.txt'}"
        is_lost = not isinstance(error, ScalingError) and any(word in str(error) for word in LOST_PEER_WORDS)
        return cls(_line(text) + where, KILLED if is_lost else EXCEPTION, trace)

    @classmethod
    def of_exit(cls, who: str, exitcode: int, log: Path, *, begin: int = 0) -> "Failure":
        """Why a process ended without a reason of its own: by its exit code and what its log holds from there on."""
        how = f"killed by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"exit code {exitcode}"
        if exitcode == -signal.SIGKILL and _oom_kills() > _OOM_KILLS_BEFORE:
            return cls(f"{who} was killed for more memory than its job has; see {log}", OUT_OF_MEMORY)
        if any(word in log_tail(log, begin) for word in OUT_OF_MEMORY_WORDS):
            return cls(f"{who} ended early ({how}): out of memory; see {log}", OUT_OF_MEMORY)
        hint = "; out of memory?" if exitcode == -signal.SIGKILL else ""
        cause = KILLED if exitcode < 0 else EXCEPTION
        return cls(f"{who} ended early ({how}{hint}); see {log}", cause)


def _oom_kills() -> int:
    """How many processes of this control group (of a SLURM job, a container) the kernel has killed for memory."""
    try:
        group = Path("/proc/self/cgroup").read_text().splitlines()[-1].rpartition(":")[2]
        events = Path(f"/sys/fs/cgroup{group}/memory.events").read_text().split()
        return int(events[events.index("oom_kill") + 1])
    except (OSError, ValueError, IndexError):
        return 0


_OOM_KILLS_BEFORE = _oom_kills()


def _line(text: str) -> str:
    return " ".join(text.split())[:LONGEST]


def _is_memory(error: Exception) -> bool:
    is_named = any(word in str(error) for word in OUT_OF_MEMORY_WORDS)
    return isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM or is_named


def log_tail(log: Path, begin: int = 0) -> str:
    """The end of what a log holds from there on; "" if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(begin, log.stat().st_size - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def failure_path(run: RunDir, rank: int) -> Path:
    """Where a rank leaves the reason of its failure."""
    return run.path / f"failure-rank{rank}.json"


def leave(failure: Failure, run: RunDir, rank: int) -> None:
    """Leave the reason of a rank's failure to whoever started it.

    Raises:
        OSError: if it cannot be written.
    """
    write_json(failure_path(run, rank), asdict(failure))


def first_failure(run: RunDir) -> Failure | None:
    """The failure of the rank that failed first, of a reason of its own if there is one; None if none left a reason."""
    left = sorted(run.path.glob("failure-rank*.json"), key=lambda path: path.stat().st_mtime_ns)
    failures = [Failure(**json.loads(path.read_text())) for path in left]
    return next((failure for failure in failures if failure.cause != KILLED), failures[0] if failures else None)
