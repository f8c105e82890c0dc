"""A callback that ends one process of a run: `+callbacks.dies._target_=tests.distributed.dying.Dies`."""

import os
import signal

from lightning.pytorch import Callback

from src.common.errors import InputError


class Dies(Callback):
    """Ends the process of a rank at its second batch, by an exception, a signal or an exit."""

    def __init__(self, rank: int, how: str):
        self.rank, self.how = rank, how

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.fit_loop.total_batch_idx != 1 or self.rank not in (trainer.global_rank, -1):
            return
        match self.how:
            case "input error":
                raise InputError("photo_3.png can't be read")
            case "bug":
                raise KeyError("a bug")
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "leaves":
                os._exit(7)
