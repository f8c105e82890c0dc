"""Starting the processes of a job on one machine, and ending them together: Lightning's DDP, for jobs of Hydra."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.plugins import ClusterEnvironment
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from src.common.errors import InputError

STARTED_BY, SAYS_IN = "INPAINTING_STARTED_BY", "INPAINTING_SAYS_IN"
"""In the environment of a process that was started here: who started it, and where it says what went wrong."""

_OF_A_JOB = ("hydra.searchpath=", "hydra.job.")  # the others say how a multirun makes its jobs, or where they write

PATIENCE_S = 10.0
"""How long a process waits for another to end, once it is plain that it does."""


class ProcessEndedError(InputError):
    """Another process of the run ended before its time."""


class JobLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher, for jobs of Hydra: of a multirun too, one after the other, and by any of its launchers.

    Lightning 2.6 types the command again for each further process. Of a multirun that would be all of it, and in a
    process of joblib's or submitit's it is not the command; so here it is the job's own overrides, in the job's folder.
    Lightning also leaves behind what would make the next job believe that its processes run already.

    A process that ends before its time ends the others, and the first one says why: in the words of the other where it
    had an `InputError`. A process whose starter is gone is ended by the system (on Linux).
    """

    def __init__(self, cluster_environment: ClusterEnvironment, num_processes: int, num_nodes: int) -> None:
        super().__init__(cluster_environment, num_processes, num_nodes)
        self.over = threading.Event()

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Trainer | None = None, **kwargs: Any) -> Any:
        """Start the other processes, call the function in all of them, and see them end.

        Raises:
            InputError: what another process said. ProcessEndedError: one ended without a word.
        """
        if self.cluster_environment.creates_processes_externally:
            return self._launch_in_a_started_process(function, *args, trainer=trainer, **kwargs)
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        before = {key: os.environ.get(key) for key in ("MASTER_ADDR", "MASTER_PORT")}
        with tempfile.TemporaryDirectory() as folder:
            self._folder = Path(folder)
            try:
                self._call_children_scripts()
                _Watch(self).start()
                _set_num_threads_if_needed(num_processes=self.num_processes)
                returned = function(*args, **kwargs)
                for process in self.procs:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(PATIENCE_S)
                return returned
            except RuntimeError as error:  # perhaps only that another process does not answer
                if (cause := self._cause()) is not None:
                    raise cause from error
                raise
            finally:
                self.over.set()
                self.kill_others()
                if torch.distributed.is_initialized():
                    torch.distributed.destroy_process_group()
                for key, value in before.items():
                    if value is None:
                        os.environ.pop(key, None)
                    else:
                        os.environ[key] = value

    def first_failure(self) -> InputError | None:
        """What a process that ended before its time said; None if all still run or ended well."""
        for number, process in enumerate(self.procs, start=1):
            if code := process.poll():
                said = self._folder / str(number)
                if said.is_file():
                    return InputError(said.read_text(encoding="utf-8"))
                how = (
                    f"was killed by {signal.Signals(-code).name}"
                    if code < 0
                    else f"ended with exit code {code}, and its own error stands above"
                )
                return ProcessEndedError(f"process {number} (the first is 0) {how}; so the run was ended")
        return None

    def kill_others(self) -> None:
        """Kill what still runs, and let it go: it may wait for an answer in a place that no gentler signal reaches."""
        for process in self.procs:
            process.kill()
            process.wait()
        self.procs.clear()

    def _cause(self) -> InputError | None:
        """What a process that is ending before its time said; None if none ends within a while."""
        deadline = time.monotonic() + PATIENCE_S
        while (cause := self.first_failure()) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        return cause

    def _call_children_scripts(self) -> None:
        self._check_can_spawn_children()
        environment = self.cluster_environment
        shared = {
            "MASTER_ADDR": environment.main_address,
            "MASTER_PORT": str(environment.main_port),
            "NODE_RANK": str(environment.node_rank()),
            "WORLD_SIZE": str(self.num_processes * self.num_nodes),
            STARTED_BY: str(os.getpid()),
        }
        job = HydraConfig.get()
        for local_rank in range(1, self.num_processes):
            own = {"LOCAL_RANK": str(local_rank), SAYS_IN: str(self._folder / str(local_rank))}
            command = command_of(job, local_rank)
            self.procs.append(subprocess.Popen(command, env=os.environ | shared | own, cwd=job.runtime.cwd))

    def _launch_in_a_started_process(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if (starter := os.environ.get(STARTED_BY)) is None:  # by Slurm, torchrun or a person
            return super().launch(function, *args, **kwargs)
        torch.multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)  # type: ignore[attr-defined]
        if os.getppid() != int(starter):
            raise SystemExit(f"error: the process {starter}, which started this one, has ended")
        try:
            return super().launch(function, *args, **kwargs)
        except InputError as error:
            Path(os.environ[SAYS_IN]).write_text(str(error), encoding="utf-8")
            raise SystemExit(1) from error


def command_of(job: HydraConf, local_rank: int) -> Sequence[str]:
    """What runs a job of Hydra once more, as a further process of it.

    Args:
        job: Hydra's own part of the job's configuration.
    """
    sources = {source.provider: source.path for source in job.runtime.config_sources if source.schema == "file"}
    folders = {"--config-path": sources.get("main"), "--config-dir": sources.get("command-line")}
    of_the_job = [override for override in job.overrides.hydra if override.lstrip("+~").startswith(_OF_A_JOB)]
    numbered = [f"hydra.job.num={job.job.num}"] if job.mode is RunMode.MULTIRUN else []
    return [
        *(sys.executable, "-m", _running() or f"src.{job.job.config_name}", "--config-name", str(job.job.config_name)),
        *(part for flag, folder in folders.items() if folder is not None for part in (flag, folder)),
        *job.overrides.task,
        *of_the_job,
        f"hydra.run.dir='{job.runtime.output_dir}'",
        f"hydra.job.name={job.job.name}_process_{local_rank}",
        "hydra.output_subdir=null",  # the first process keeps the configuration
        "hydra/job_logging=warnings",  # and says what all of them would
        *numbered,
    ]


def _running() -> str | None:
    """The module of this suite that was typed; None where it is another, as in a process of submitit's."""
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec is not None and spec.name.startswith("src.") else None


class JobDDPStrategy(DDPStrategy):
    """Lightning's DDP strategy with `JobLauncher`."""

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = JobLauncher(self.cluster_environment, self.num_processes, self.num_nodes)


class _Watch(_ChildProcessObserver):
    """Lightning's watch over started processes, which says why it ends the run.

    Over gloo the first process notices by itself that another has gone. It does not while it waits for one to come, nor
    in a kernel of NCCL.
    """

    def __init__(self, launcher: JobLauncher) -> None:
        super().__init__(os.getpid(), launcher.procs)
        self._launcher = launcher

    def _terminate_all(self) -> None:
        why = self._launcher.first_failure()
        if not self._launcher.over.wait(2 * PATIENCE_S):
            print(f"error: {why}", file=sys.stderr, flush=True)
            self._launcher.kill_others()
            os._exit(1)
