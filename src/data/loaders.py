"""In which order samples come: samplers that deal them out to processes, and a training loader that resumes."""

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

from src.common.errors import InputError
from src.data.dataset import InpaintingImages, Key, Sample


class _KeySampler(DistributedSampler[Key]):
    """Yields this process's keys (epoch, index).

    A DistributedSampler by type: Lightning leaves those alone and wraps all others, which would deal out the samples of
    each process among the processes once more. Rank and world size are read at every turn, as the processes may not
    have met when a sampler is made.
    """

    def __init__(self, dataset: InpaintingImages) -> None:
        super().__init__(dataset, num_replicas=1, rank=0)
        self.sample_count = len(dataset)

    def rank_and_world_size(self) -> tuple[int, int]:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1


class EpochSampler(_KeySampler):
    """Training: all samples in an order drawn from (seed, epoch).

    All processes get equally many, as each must take part in every step: the first few of an epoch come twice where the
    processes do not divide the samples.

    Attributes:
        start: how many samples the next pass leaves out; a resumed run has seen them.
    """

    def __init__(self, dataset: InpaintingImages, seed: int) -> None:
        super().__init__(dataset)
        self.seed, self.start = seed, 0

    def __len__(self) -> int:
        _, world_size = self.rank_and_world_size()
        return math.ceil(self.sample_count / world_size)

    def __iter__(self) -> Iterator[Key]:
        rank, world_size = self.rank_and_world_size()
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.sample_count)
        dealt = np.resize(order, len(self) * world_size)[rank::world_size]  # resize repeats from the start
        for index in dealt[self.start :]:
            yield self.epoch, int(index)


class FixedSampler(_KeySampler):
    """Evaluation: every sample once, always the same ones (epoch 0), in order.

    Where the processes do not divide the samples, some get one less: what they compute must meet at the end only.

    Args:
        limit: samples that are dealt out at most, to all processes together; None for all.
    """

    def __init__(self, dataset: InpaintingImages, limit: int | None = None) -> None:
        super().__init__(dataset)
        if limit is not None:
            self.sample_count = min(self.sample_count, limit)

    def __len__(self) -> int:
        return len(self._indices())

    def __iter__(self) -> Iterator[Key]:
        for index in self._indices():
            yield 0, index

    def _indices(self) -> range:
        rank, world_size = self.rank_and_world_size()
        return range(rank, self.sample_count, world_size)


class SampleLoader(DataLoader[Sample]):
    """A loader that passes on what is wrong with a file as the one sentence it is, from workers too."""

    def __init__(self, dataset: InpaintingImages, *, workers: int, **options: Any) -> None:
        super().__init__(
            dataset,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_start_worker,
            **options,
        )

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]  # Lightning needs no more than an iterator
        try:
            yield from super().__iter__()
        except InputError as error:
            # torch puts a worker's traceback into the message, which stands at its end
            raise InputError(str(error).rsplit("InputError: ", 1)[-1].strip()) from None


class TrainingLoader(SampleLoader):
    """Shuffled whole batches; the place in the epoch goes into checkpoints, so a resumed run sees what is left of it.

    Lightning calls `state_dict` and `load_state_dict`. It also asks for an iterator before it sets the epoch; as
    `__iter__` is a generator, workers start to load only after that.
    """

    sampler: EpochSampler

    def __init__(self, dataset: InpaintingImages, *, seed: int, batch_size: int, workers: int) -> None:
        sampler = EpochSampler(dataset, seed)
        super().__init__(dataset, workers=workers, batch_size=batch_size, sampler=sampler, drop_last=True)
        self._batches_done = 0
        self._resume_at = {"epoch": -1, "batches": 0}

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        resume_at, self._resume_at = self._resume_at, {"epoch": -1, "batches": 0}
        self._batches_done = resume_at["batches"] if resume_at["epoch"] == self.sampler.epoch else 0
        assert self.batch_size is not None
        self.sampler.start = self._batches_done * self.batch_size
        for batch in super().__iter__():
            self._batches_done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches were handed out."""
        return {"epoch": self.sampler.epoch, "batches": self._batches_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next pass leaves out the batches of `state`, if it is of the same epoch."""
        self._resume_at = dict(state)


def _start_worker(worker_id: int) -> None:
    # OpenCV's own threads would fight the other workers for the cores.
    cv2.setNumThreads(0)
    # A signal may go to the whole process group. What it means is the main process's to decide, which wants a few more
    # batches until it has saved.
    for signum in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)
    # Python ends workers by a SIGTERM, too, where torch has not; so that one is not ignored, but read for its sender.
    if hasattr(signal, "sigwaitinfo"):  # macOS has none: there a SIGTERM to the group still ends the workers
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_main_process_says_so, daemon=True).start()


def _end_when_the_main_process_says_so() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
