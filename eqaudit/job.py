"""The place of this process in a job: alone, or one of those that torchrun started."""

from __future__ import annotations

import os
from dataclasses import dataclass

from eqaudit.errors import UsageError


@dataclass(frozen=True, slots=True)
class Job:
    """``rank`` counts from 0, below ``size``."""

    rank: int
    size: int


def current_job() -> Job:
    """Read the job from WORLD_SIZE and RANK; one process where there is no WORLD_SIZE.

    Raises
    ------
    UsageError
        They are no numbers, contradict each other, or are not what torchrun said.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    rank = os.environ.get("RANK", "0") if "WORLD_SIZE" in os.environ else "0"
    try:
        job = Job(int(rank), int(size))
    except ValueError:
        job = Job(-1, 0)
    # Torchrun says the size twice: who changed one of them would have us wait for ranks that do not exist.
    if not 0 <= job.rank < job.size or os.environ.get("ROLE_WORLD_SIZE", size) != size:
        raise UsageError(
            f"the environment has RANK={rank} and WORLD_SIZE={size}, which is no place in a job",
            "start the job with torchrun, or unset both",
        )
    return job
