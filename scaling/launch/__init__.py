"""Staged runs to their ends: side by side on this machine, or as jobs of a SLURM cluster."""

from scaling.launch.environment import options_of_submission
from scaling.launch.pool import ALLOCATOR, Event, run_all, slots
from scaling.launch.processes import end_at_once
from scaling.launch.submission import JOBS, job_name, live, refuse, submit

__all__ = [
    "ALLOCATOR",
    "JOBS",
    "Event",
    "end_at_once",
    "job_name",
    "live",
    "options_of_submission",
    "refuse",
    "run_all",
    "slots",
    "submit",
]
