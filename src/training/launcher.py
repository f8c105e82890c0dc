"""Lightning's DDP for Hydra jobs: starts a job's processes on one machine, and ends them together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from src.common.errors import InputError

PARENT_PID = "INPAINTING_PARENT_PID"
"""Environment variable of a launched process."""

_JOB_OVERRIDES = ("hydra.searchpath=", "hydra.job.")  # the others configure the multirun, or its directories

EXIT_TIMEOUT_S = 10.0
"""How long to wait for a process to exit, once it is certain to."""


class JobLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher for Hydra jobs, including those of multiruns and of any Hydra launcher.

    Lightning 2.6 runs the whole command again for each further process. In a multirun that would be the multirun
    itself, and a joblib or submitit process has no such command. This launcher runs the job's own overrides in the
    job's directory. It also restores the environment; otherwise Lightning would assume in the next job that its
    processes are already running.

    If a process ends early, the others are ended too. On Linux, a process whose parent has ended is killed.
    """

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Trainer | None = None, **kwargs: Any) -> Any:
        """Start the other processes, call the function in each, and wait for them.

        Raises:
            InputError: another process ended early; its own error is printed above.
        """
        if self.cluster_environment.creates_processes_externally:
            if PARENT_PID in os.environ:  # otherwise started by Slurm, torchrun or by hand
                _end_with_parent(int(os.environ[PARENT_PID]))
            return super().launch(function, *args, trainer=trainer, **kwargs)
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        added = {"MASTER_ADDR", "MASTER_PORT"} - os.environ.keys()
        try:
            self._call_children_scripts()
            _Watchdog(os.getpid(), self.procs).start()
            _set_num_threads_if_needed(num_processes=self.num_processes)
            returned = function(*args, **kwargs)
            for process in self.procs:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(EXIT_TIMEOUT_S)
            return returned
        except RuntimeError as error:  # perhaps only a collective that another process does not answer
            deadline = time.monotonic() + EXIT_TIMEOUT_S
            while (failure := self._first_failure()) is None and time.monotonic() < deadline:
                time.sleep(0.1)
            if failure is None:
                raise
            raise failure from error
        finally:
            for process in self.procs:  # one that waits inside a collective does not react to any gentler signal
                process.kill()
                process.wait()
            self.procs.clear()
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            for key in added:
                os.environ.pop(key, None)

    def _first_failure(self) -> InputError | None:
        for rank, process in enumerate(self.procs, start=1):
            if code := process.poll():
                killed = f"was killed by {signal.Signals(-code).name}" if code < 0 else ""
                how = killed or f"ended with exit code {code} (its error is printed above)"
                return InputError(f"process {rank} {how}, so the run was stopped")
        return None

    def _call_children_scripts(self) -> None:
        self._check_can_spawn_children()
        cluster = self.cluster_environment
        shared = {
            "MASTER_ADDR": cluster.main_address,
            "MASTER_PORT": str(cluster.main_port),
            "NODE_RANK": str(cluster.node_rank()),
            "WORLD_SIZE": str(self.num_processes * self.num_nodes),
            PARENT_PID: str(os.getpid()),
        }
        job = HydraConfig.get()
        for local_rank in range(1, self.num_processes):
            environment = os.environ | shared | {"LOCAL_RANK": str(local_rank)}
            self.procs.append(subprocess.Popen(job_command(job, local_rank), env=environment, cwd=job.runtime.cwd))


def job_command(job: HydraConf, local_rank: int) -> Sequence[str]:
    """Return the command that runs a Hydra job in a further process.

    Args:
        job: Hydra's own part of the job's configuration.
    """
    main = sys.modules["__main__"].__spec__  # in a submitit process it is not the command
    module = main.name if main is not None and main.name.startswith("src.") else f"src.{job.job.config_name}"
    sources = {source.provider: source.path for source in job.runtime.config_sources if source.schema == "file"}
    flags = {"--config-path": sources.get("main"), "--config-dir": sources.get("command-line")}
    return [
        *(sys.executable, "-m", module, "--config-name", str(job.job.config_name)),
        *(part for flag, path in flags.items() if path is not None for part in (flag, path)),
        *job.overrides.task,
        *(override for override in job.overrides.hydra if override.lstrip("+~").startswith(_JOB_OVERRIDES)),
        f"hydra.run.dir='{job.runtime.output_dir}'",
        f"hydra.job.name={job.job.name}_process_{local_rank}",
        "hydra.output_subdir=null",  # the first process saves the configuration
        "hydra/job_logging=warnings",  # the first process logs the rest
        *([f"hydra.job.num={job.job.num}"] if job.mode is RunMode.MULTIRUN else []),
    ]


class JobDDPStrategy(DDPStrategy):
    """Lightning's DDP strategy with `JobLauncher`."""

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = JobLauncher(self.cluster_environment, self.num_processes, self.num_nodes)


class _Watchdog(_ChildProcessObserver):
    """Lightning's observer, which kills the run if another process has ended, but leaves the launcher time to notice.

    It does over gloo, but not while it waits for that process to connect, nor inside an NCCL kernel.
    """

    def _terminate_all(self) -> None:
        time.sleep(2 * EXIT_TIMEOUT_S)
        if self._child_processes:  # the launcher has not emptied the list
            super()._terminate_all()


def _end_with_parent(parent: int) -> None:
    torch.multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)  # type: ignore[attr-defined]
    if os.getppid() != parent:
        raise SystemExit(f"error: the parent process {parent} has ended")
