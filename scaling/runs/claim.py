"""Only one process works on a run: a lock file with a heartbeat, which also works on network file systems.

A claim is given up when its holder ends, and may be taken over when the holder is dead: at once if it was a process of
this machine, after STALE_S without a heartbeat otherwise.
"""

import json
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

HEARTBEAT_S = 5.0
STALE_S = 60.0


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
        path = run_dir / "claim.json"
        token = secrets.token_hex(8)
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid()), "token": token}
        draft = run_dir / f".claim.{token}"
        draft.write_text(json.dumps(owner))
        try:
            for _ in range(2):
                try:
                    os.link(draft, path)  # atomic, also on NFS: fails if there is a claim
                    return cls(path, token)
                except FileExistsError:
                    if not _remove_if_dead(path):
                        return None
            return None
        finally:
            draft.unlink()

    def is_mine(self) -> bool:
        """Whether this claim still stands (a holder that slept for long may have been taken for dead)."""
        holder = _read(self.path)
        return holder is not None and holder.get("token") == self.token

    def __enter__(self) -> "Claim":
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._heart.join()
        if self.is_mine():
            self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            if self.is_mine():
                os.utime(self.path)


def holder(run_dir: Path) -> dict[str, Any] | None:
    """Who works on a run now ({host, pid, ...}), or None."""
    owner = _read(run_dir / "claim.json")
    return owner if owner is not None and not _is_dead(run_dir / "claim.json", owner) else None


def _remove_if_dead(path: Path) -> bool:
    """Take a dead process's claim away; true if the way may be free now."""
    owner = _read(path)
    if owner is None:
        return not path.exists()
    if not _is_dead(path, owner):
        return False
    aside = path.with_name(f".claim.dead.{owner.get('token')}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return True
    taken = _read(aside)
    if taken is not None and taken.get("token") != owner.get("token"):  # somebody was quicker: give it back
        with suppress(FileExistsError):  # yet another claim stands; its holder and this one's both check `is_mine`
            os.link(aside, path)
        aside.unlink(missing_ok=True)
        return False
    aside.unlink(missing_ok=True)
    return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return owner if isinstance(owner, dict) else None


def _is_dead(path: Path, owner: dict[str, Any]) -> bool:
    if owner.get("host") == socket.gethostname():
        pid = int(owner["pid"])
        return _born(pid) != owner.get("born") if Path("/proc/self/stat").exists() else not _exists(pid)
    try:
        return time.time() - path.stat().st_mtime > STALE_S
    except FileNotFoundError:
        return True


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
