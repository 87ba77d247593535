"""Staged runs to their ends: side by side on this machine, or as jobs of a SLURM cluster."""

from scaling.launch.environment import options_left_out
from scaling.launch.pool import ALLOCATOR, Event, run_all, slots
from scaling.launch.processes import end_at_once
from scaling.launch.submission import JOBS, job_name, live, submit, validate_jobs

__all__ = [
    "ALLOCATOR",
    "JOBS",
    "Event",
    "end_at_once",
    "job_name",
    "live",
    "options_left_out",
    "run_all",
    "slots",
    "submit",
    "validate_jobs",
]
