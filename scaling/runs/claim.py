"""Only one process works on a run: a file with a heartbeat, which also works on network file systems.

A claim is given up when its holder ends, and may be taken over when the holder is dead: at once if it was a process of
this machine, after STALE_S without a heartbeat otherwise. A claim appears by a hard link, which is atomic everywhere;
it is taken over, given up and acted upon under a lock beside it, so that nobody does so between another's look and act.
"""

import errno
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from scaling.errors import RunError
from scaling.runs.files import write_new

HEARTBEAT_S = 5.0
STALE_S = 60.0

CLAIM = "claim.json"
LOCK = ".claim.lock"
#: Hands the token of a claim down to the processes that compute the run.
TOKEN_VARIABLE = "GNN_SCALING_CLAIM"


class Claim:
    """A held claim; use as a context manager. `take` makes one."""

    def __init__(self, path: Path, token: str) -> None:
        self.path = path
        self.token = token
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True, name="claim-heartbeat")

    @classmethod
    def take(cls, run_dir: Path) -> "Claim | None":
        """Claim a run, or None if a living process holds it.

        Raises:
            OSError: if the directory cannot be written.
        """
        if holder(run_dir) is not None:
            return None
        path = run_dir / CLAIM
        token = secrets.token_hex(8)
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid()), "token": token}
        draft = run_dir / f".claim.{token}"
        try:
            write_new(draft, json.dumps(owner))
            with alone(run_dir):
                if holder(run_dir) is not None:
                    return None
                path.unlink(missing_ok=True)
                os.link(draft, path)
                return cls(path, token)
        except FileExistsError:  # only where the file system has no locks
            return None
        finally:
            draft.unlink(missing_ok=True)

    def is_mine(self) -> bool:
        """Whether this claim still stands (a holder that slept for long may have been taken for dead)."""
        return _token(self.path) == self.token

    def __enter__(self) -> "Claim":
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._heart.join()
        with suppress(OSError), alone(self.path.parent):  # what cannot be removed dies with this process
            if self.is_mine():
                self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            with suppress(OSError):  # a file server may come back before the claim is stale
                if self.is_mine():
                    os.utime(self.path)


def holder(run_dir: Path) -> dict[str, Any] | None:
    """Who works on a run now ({host, pid, ...}; {} if its claim is torn, and not yet old), or None."""
    seen = _read(run_dir / CLAIM)
    if seen is None:
        return None
    owner, beaten = seen
    if owner.get("host") == socket.gethostname():
        pid = int(owner["pid"])
        alive = _born(pid) == owner["born"] if Path("/proc/self/stat").exists() else _exists(pid)
    else:
        alive = _now(run_dir) - beaten <= STALE_S
    return owner if alive else None


def still_mine(run_dir: Path) -> bool:
    """Whether the claim handed down to this process still stands, and its holder lives; also true if none was."""
    token = os.environ.get(TOKEN_VARIABLE)
    return token is None or (_token(run_dir / CLAIM) == token and holder(run_dir) is not None)


@contextmanager
def as_holder(run_dir: Path) -> Iterator[None]:
    """Act on a run while nobody can take it over.

    Raises:
        RunError: if it was taken over before.
    """
    if TOKEN_VARIABLE not in os.environ:
        yield
        return
    with alone(run_dir):
        if not still_mine(run_dir):
            raise RunError(f"{run_dir} was taken over by another process while this one stood still")
        yield


@contextmanager
def alone(run_dir: Path) -> Iterator[None]:
    """Act on a directory while no other process does, on any machine that shares a file system with locks."""
    with (run_dir / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:  # some clusters mount without locks: of two that take over at once, one may lose later
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
                raise
        yield


def _read(path: Path) -> tuple[dict[str, Any], float] | None:
    """Owner ({} if the file is torn) and time of the last heartbeat, or None if there is no claim."""
    try:
        with path.open("rb") as file:  # opening makes a network file system ask its server for the time
            beaten = os.fstat(file.fileno()).st_mtime
            content = file.read()
    except FileNotFoundError:
        return None
    try:
        owner = json.loads(content)
    except ValueError:
        owner = None
    is_whole = isinstance(owner, dict) and {"host", "pid", "born", "token"} <= owner.keys()
    return (owner if is_whole else {}), beaten


def last_beat(run_dir: Path) -> float:
    """Time of the last heartbeat of a run's claim by the file system's clock, 0 if there is none."""
    seen = _read(run_dir / CLAIM)
    return seen[1] if seen else 0.0


def _token(path: Path) -> str | None:
    seen = _read(path)
    return str(seen[0].get("token")) if seen else None


def _now(run_dir: Path) -> float:
    """The time by the clock that also stamps heartbeats: a file server's may differ from ours."""
    lock = run_dir / LOCK
    try:
        lock.touch()
        return lock.stat().st_mtime
    except OSError:  # a directory that we may only read
        return time.time()


def _born(pid: int) -> str:
    """Start time of a process in the kernel's ticks (a pid may be used again), "" if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
