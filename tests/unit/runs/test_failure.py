"""Why a run failed: the cause among those that libraries, kernels and other ranks give."""

import json
import os
from dataclasses import asdict

import pytest

from scaling.errors import RunError
from scaling.runs import failure
from scaling.runs.failure import EXCEPTION, KILLED, OUT_OF_MEMORY, Failure, failure_path, first_failure
from scaling.runs.store import RunDir

#: How NCCL begins, and how it says that memory or something else of CUDA has failed.
NCCL = "NCCL error in: ../torch/csrc/distributed/c10d/NCCLUtils.hpp:268, unhandled cuda error, NCCL version 2.21.5"
NCCL_MEMORY, NCCL_CALLOC = "Cuda failure 2 'out of memory'", "Failed to CUDA calloc async 608 bytes"
NCCL_OTHER = "Cuda failure 999 'unknown error'"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ValueError("wrong"), EXCEPTION),
        (RunError("diverged; out of luck"), EXCEPTION),
        (MemoryError(), OUT_OF_MEMORY),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), OUT_OF_MEMORY),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), OUT_OF_MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), OUT_OF_MEMORY),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), OUT_OF_MEMORY),
        (RuntimeError(f"{NCCL} ncclUnhandledCudaError: Call failed.\nLast error:\n{NCCL_MEMORY}"), OUT_OF_MEMORY),
        (RuntimeError(f"{NCCL} ncclUnhandledCudaError: Call failed.\nLast error:\n{NCCL_CALLOC}"), OUT_OF_MEMORY),
        (RuntimeError(f"{NCCL} ncclUnhandledCudaError: Call failed.\nLast error:\n{NCCL_OTHER}"), KILLED),
        (RuntimeError(f"{NCCL} ncclRemoteError: A call failed possibly due to a network error"), KILLED),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), EXCEPTION),
        (RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"), EXCEPTION),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), OUT_OF_MEMORY),
        (OSError(12, "Cannot allocate memory"), OUT_OF_MEMORY),
        (RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.1.1]:4321"), KILLED),
    ],
)
def test_cause_of_an_error(error, cause, tmp_path):
    assert Failure.of(error, RunDir(tmp_path)).cause == cause


def test_traceback_is_kept_of_what_nobody_foresaw_alone(tmp_path):
    def raised(error: Exception) -> Failure:
        try:
            raise error
        except Exception as caught:
            return Failure.of(caught, RunDir(tmp_path))

    assert "in raised" in raised(ValueError("x")).traceback
    assert not raised(RunError("x")).traceback


def test_of_ranks_that_failed_the_first_with_a_reason_of_its_own_is_told(tmp_path):
    run = RunDir(tmp_path)
    failures = [Failure("lost the others", KILLED), Failure("the reason", EXCEPTION), Failure("later", EXCEPTION)]
    for rank, each in enumerate(failures):
        failure_path(run, rank).write_text(json.dumps(asdict(each)))
        os.utime(failure_path(run, rank), (rank, rank))
    assert first_failure(run).message == "the reason"


@pytest.mark.parametrize(
    ("exitcode", "log", "cause"),
    [
        (-9, "", KILLED),
        (3, "", EXCEPTION),
        (-6, "terminate called after throwing an instance of 'std::bad_alloc'", OUT_OF_MEMORY),
        (-6, "terminate called after throwing an instance of 'c10::Error'\n  CUDA error: out of memory", OUT_OF_MEMORY),
        (-6, f"[rank1]: {NCCL_MEMORY}", OUT_OF_MEMORY),
        (-9, "the process ended early (killed by SIGKILL; out of memory?)", KILLED),
    ],
)
def test_cause_of_an_end_without_a_word(exitcode, log, cause, tmp_path):
    path = tmp_path / "log.txt"
    path.write_text(log)
    assert Failure.of_exit("rank 1", exitcode, path).cause == cause
    assert Failure.of_exit("rank 1", exitcode, path, begin=len(log)).cause in (cause, KILLED)


def test_kill_by_the_kernel_for_memory_is_told_from_others(tmp_path, monkeypatch):
    monkeypatch.setattr(failure, "_oom_kills", lambda: failure._OOM_KILLS_BEFORE + 1)
    assert Failure.of_exit("rank 0", -9, tmp_path / "log.txt").cause == OUT_OF_MEMORY
    assert Failure.of_exit("rank 0", -15, tmp_path / "log.txt").cause == KILLED
