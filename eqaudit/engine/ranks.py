"""The processes that share one audit: this one alone, or those that torchrun started."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Protocol

import torch
from torch import distributed

from eqaudit.errors import WorkerError
from eqaudit.job import current_job

BEAT = timedelta(seconds=1)
SILENCE = timedelta(seconds=15)
"""A rank that gives no sign of life for so long is lost. It may compute for as long as it likes."""
CONNECTING = timedelta(seconds=10)
JOINING = timedelta(seconds=20)
"""How much later than the first the last rank may have started."""


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

    def __init__(self, pulse: Pulse) -> None:
        self.rank, self.size, self._pulse = pulse.rank, pulse.size, pulse

    def gather(self, value: Any) -> Sequence[Any]:
        """Return the values of all ranks, in order, on rank 0; nothing on the others."""
        values: list[Any] | None = [None] * self.size if self.rank == 0 else None
        with _lost():
            self._pulse.meet()
            distributed.gather_object(value, values)
        return values or ()

    def share(self, value: Any) -> Any:
        """Return the value of rank 0, on every rank."""
        values = [value]
        with _lost():
            self._pulse.meet()
            distributed.broadcast_object_list(values)
        return values[0]

    def agree(self, what: str, value: str) -> None:
        """Make sure that a value is the same on all ranks; raises WorkerError on all of them if not."""
        values: list[Any] = [None] * self.size
        with _lost():
            self._pulse.meet()
            distributed.all_gather_object(values, value)
        other = next((rank for rank, found in enumerate(values) if found != values[0]), None)
        if other is not None:
            raise WorkerError(
                f"{what} is {values[0]} on rank 0 and {values[other]} on rank {other}",
                "every rank needs the same command, model and images",
            )


class Pulse:
    """Signs of life: each rank counts in the store of the job, and whoever waits for another looks at them.

    A collective begins when all ranks have come, so it has a short time limit; the way there has none, for a
    unit of work may take hours.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self.rank, self.size, self._store = rank, size, store
        self._meetings = itertools.count()
        self._names = [f"eqaudit/pulse/{other}" for other in range(size)]
        store.set(self._names[rank], "0")
        self._wait_for_all()
        # In beats of our own, not in seconds: when a whole machine sleeps, nobody is silent.
        self._silent = [0] * size
        threading.Thread(target=self._beat, args=[store.clone()], daemon=True).start()

    def _wait_for_all(self) -> None:
        try:
            self._store.wait(self._names, JOINING)
        except distributed.DistStoreError as error:
            absent = [str(rank) for rank, name in enumerate(self._names) if not self._store.check([name])]
            raise WorkerError(
                f"of {self.size} ranks did not come in {JOINING.total_seconds():g} s: {', '.join(absent)}",
                "start the job with torchrun, and see what those ranks said",
            ) from error

    def meet(self) -> None:
        """Wait until all ranks have come here; raises WorkerError when one of them is silent."""
        name = f"eqaudit/meeting/{next(self._meetings)}"
        if self._store.add(name, 1) == self.size:
            self._store.set(f"{name}/all", "")
        while True:
            try:
                self._store.wait([f"{name}/all"], BEAT)
            except distributed.DistStoreError:
                self._require_all()
            else:
                return

    def _require_all(self) -> None:
        lost = next((rank for rank, beats in enumerate(self._silent) if beats * BEAT > SILENCE), None)
        if lost is not None:
            raise WorkerError(
                f"rank {lost} of the job gives no sign of life for {SILENCE.total_seconds():g} s",
                "see what that rank said, and whether its process was stopped or its machine is gone",
            )

    def _beat(self, store: Any) -> None:
        before: list[bytes] = []
        # Ends with the process, or with the store.
        with suppress(RuntimeError):
            for count in itertools.count(1):
                store.set(self._names[self.rank], str(count))
                found = store.multi_get(self._names)
                for rank, (old, new) in enumerate(zip(before, found, strict=False)):
                    self._silent[rank] = self._silent[rank] + 1 if old == new else 0
                before = found
                time.sleep(BEAT.total_seconds())


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Join the job that the environment names (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), or be alone.

    Raises
    ------
    WorkerError
        The other ranks cannot be reached.
    """
    if current_job().size == 1:
        yield Alone()
        return
    try:
        # Some builds of torch have no part for this.
        from torch.distributed.rendezvous import rendezvous  # noqa: PLC0415

        store, rank, size = next(rendezvous("env://", timeout=CONNECTING))
        store.set_timeout(SILENCE)
        pulse = Pulse(store, rank, size)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=SILENCE)
    except (ImportError, RuntimeError, ValueError) as error:
        raise WorkerError(
            f"the other ranks cannot be reached: {str(error).splitlines()[0]}", "start the job with torchrun"
        ) from error
    try:
        yield Torchrun(pulse)
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
