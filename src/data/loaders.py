"""Samplers that divide samples among processes, and loaders; the training loader resumes within an epoch."""

import math
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, DistributedSampler

from src.common.distributed import get_rank_and_world_size
from src.common.errors import InputError
from src.data.dataset import InpaintingDataset, Sample, SampleKey


class _KeySampler(DistributedSampler[SampleKey]):
    """Yields the keys (epoch, index) of this process.

    It is a DistributedSampler because Lightning wraps all other samplers, which would divide the samples once more.
    Rank and world size are read on each use, as the process group may not exist yet in `__init__`.
    """

    def __init__(self, dataset: InpaintingDataset) -> None:
        super().__init__(dataset, num_replicas=1, rank=0)
        self.sample_count = len(dataset)


class EpochSampler(_KeySampler):
    """All samples in a random order, a function of (seed, epoch), for training.

    All processes get the same number of samples, as each takes part in every step: if the number of samples is not
    divisible by the number of processes, the first few are used twice.

    Attributes:
        start: number of samples to skip in the next pass, which a resumed run has already seen.
    """

    def __init__(self, dataset: InpaintingDataset, seed: int) -> None:
        super().__init__(dataset)
        self.seed, self.start = seed, 0

    def __len__(self) -> int:
        _, world_size = get_rank_and_world_size()
        return math.ceil(self.sample_count / world_size)

    def __iter__(self) -> Iterator[SampleKey]:
        rank, world_size = get_rank_and_world_size()
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.sample_count)
        assigned = np.resize(order, len(self) * world_size)[rank::world_size]  # resize repeats from the start
        yield from ((self.epoch, int(index)) for index in assigned[self.start :])


class FixedSampler(_KeySampler):
    """Every sample once, in order and always of epoch 0, for evaluation.

    Some processes get one sample less if the number of samples is not divisible by the number of processes, so that
    collective operations are possible only after the last batch.

    Args:
        limit: maximum number of samples of all processes; None for all.
    """

    def __init__(self, dataset: InpaintingDataset, limit: int | None = None) -> None:
        super().__init__(dataset)
        if limit is not None:
            self.sample_count = min(self.sample_count, limit)

    def __len__(self) -> int:
        return len(self._indices())

    def __iter__(self) -> Iterator[SampleKey]:
        yield from ((0, index) for index in self._indices())

    def _indices(self) -> range:
        rank, world_size = get_rank_and_world_size()
        return range(rank, self.sample_count, world_size)


class SampleLoader(DataLoader[Sample]):
    """A DataLoader that raises the InputError of a worker without the worker's traceback."""

    def __init__(self, dataset: InpaintingDataset, *, workers: int, **options: Any) -> None:
        super().__init__(
            dataset,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_start_worker,
            **options,
        )

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]  # Lightning only needs an iterator
        try:
            yield from super().__iter__()
        except InputError as error:
            # torch prepends the worker's traceback to the message
            raise InputError(str(error).rsplit("InputError: ", 1)[-1].strip()) from None


class TrainingLoader(SampleLoader):
    """Shuffled full batches; its position in the epoch is saved in checkpoints, and a resumed run continues there.

    Lightning calls `state_dict` and `load_state_dict`. It requests an iterator before it sets the epoch; as `__iter__`
    is a generator, workers do not load anything before that.
    """

    sampler: EpochSampler

    def __init__(self, dataset: InpaintingDataset, *, seed: int, batch_size: int, workers: int) -> None:
        sampler = EpochSampler(dataset, seed)
        super().__init__(dataset, workers=workers, batch_size=batch_size, sampler=sampler, drop_last=True)
        self._batches_done = 0
        self._batches_done_in: dict[int, int] = {}  # by the epoch to resume

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        self._batches_done = self._batches_done_in.get(self.sampler.epoch, 0)
        self._batches_done_in = {}
        assert self.batch_size is not None
        self.sampler.start = self._batches_done * self.batch_size
        for batch in super().__iter__():
            self._batches_done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its batches returned so far."""
        return {"epoch": self.sampler.epoch, "batches": self._batches_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip the batches of `state` in the next pass if it is of the same epoch."""
        self._batches_done_in = {state["epoch"]: state["batches"]}


def _start_worker(worker_id: int) -> None:
    # OpenCV's threads would compete with the other workers for the cores.
    cv2.setNumThreads(0)
    # The main process handles signals to the process group, and needs a few more batches before it has saved.
    for signum in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)
    # Python may stop workers with SIGTERM, so it is accepted from the main process only.
    if hasattr(signal, "sigwaitinfo"):  # not on macOS: there a SIGTERM to the group stops the workers
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_on_sigterm_from_parent, daemon=True).start()


def _exit_on_sigterm_from_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
