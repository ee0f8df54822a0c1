"""The processes that share one audit: this one alone, or those that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol

import torch
from torch import distributed

from eqaudit.errors import WorkerError

PATIENCE = timedelta(hours=2)
"""How long a rank may take for one unit before the others give up; a rank that ends is noticed at once."""


class Ranks(Protocol):
    """Who takes part. ``rank`` 0 folds what the others measure, and has the report."""

    rank: int
    size: int

    def gather(self, value: Any) -> Sequence[Any]:
        """Return the values of all ranks, in order, on rank 0; nothing on the others."""

    def share(self, value: Any) -> Any:
        """Return the value of rank 0, on every rank."""

    def agree(self, what: str, value: str) -> None:
        """Make sure that a value is the same on all ranks; raises WorkerError on all of them if not."""


class Alone(Ranks):
    """One process."""

    rank, size = 0, 1

    def gather(self, value: Any) -> Sequence[Any]:
        """Return the value."""
        return [value]

    def share(self, value: Any) -> Any:
        """Return the value."""
        return value

    def agree(self, what: str, value: str) -> None:
        """Agree with oneself."""


class Torchrun(Ranks):
    """The processes of one torchrun job, over gloo on the CPU."""

    def __init__(self) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def gather(self, value: Any) -> Sequence[Any]:
        """Return the values of all ranks, in order, on rank 0; nothing on the others."""
        values: list[Any] | None = [None] * self.size if self.rank == 0 else None
        with _lost():
            distributed.gather_object(value, values)
        return values or ()

    def share(self, value: Any) -> Any:
        """Return the value of rank 0, on every rank."""
        values = [value]
        with _lost():
            distributed.broadcast_object_list(values)
        return values[0]

    def agree(self, what: str, value: str) -> None:
        """Make sure that a value is the same on all ranks; raises WorkerError on all of them if not."""
        values: list[Any] = [None] * self.size
        with _lost():
            distributed.all_gather_object(values, value)
        other = next((rank for rank, found in enumerate(values) if found != values[0]), None)
        if other is not None:
            raise WorkerError(
                f"{what} is {values[0]} on rank 0 and {values[other]} on rank {other}",
                "every rank needs the same command, model and images",
            )


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Join the job that the environment names (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), or be alone.

    Raises
    ------
    WorkerError
        The other ranks cannot be reached.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Alone()
        return
    try:
        distributed.init_process_group("gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise WorkerError(
            f"the other ranks cannot be reached: {str(error).splitlines()[0]}", "start the job with torchrun"
        ) from error
    try:
        yield Torchrun()
    finally:
        distributed.destroy_process_group()


def local_device(name: str) -> torch.device:
    """Return the device of this rank: of plain ``cuda``, each process of a machine has its own."""
    return torch.device(
        f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" and "LOCAL_RANK" in os.environ else name
    )


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise WorkerError(
            f"another rank of the job is gone: {str(error).splitlines()[0]}", "see what that rank said"
        ) from error
