"""Runs are directories of files: what names them, what is known of them, who works on them. Free of torch."""

from scaling.runs.claim import TOKEN_VARIABLE, Claim, alone, holder, last_beat, still_mine
from scaling.runs.failure import KILLED, OUT_OF_MEMORY, Failure, first_failure, leave, log_tail
from scaling.runs.files import read_json, sync_directory, sync_file, write_atomic, write_json
from scaling.runs.identity import NAMED, Known, computation, digest, digest_of, run_id, settings, unchanged
from scaling.runs.record import RunResult
from scaling.runs.store import BEST_WEIGHTS, COLUMNS, STATES, RunDir, Status, collect, run_dirs
from scaling.runs.study import Recipe, admitted, hold_together

__all__ = [
    "BEST_WEIGHTS",
    "COLUMNS",
    "KILLED",
    "NAMED",
    "OUT_OF_MEMORY",
    "STATES",
    "TOKEN_VARIABLE",
    "Claim",
    "Failure",
    "Known",
    "Recipe",
    "RunDir",
    "RunResult",
    "Status",
    "admitted",
    "alone",
    "collect",
    "computation",
    "digest",
    "digest_of",
    "first_failure",
    "hold_together",
    "holder",
    "last_beat",
    "leave",
    "log_tail",
    "read_json",
    "run_dirs",
    "run_id",
    "settings",
    "still_mine",
    "sync_directory",
    "sync_file",
    "unchanged",
    "write_atomic",
    "write_json",
]
