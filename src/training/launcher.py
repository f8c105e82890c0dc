"""Lightning's DDP for Hydra jobs: starts a job's processes on one machine, and ends them together."""

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

PARENT_PID, ERROR_FILE = "INPAINTING_PARENT_PID", "INPAINTING_ERROR_FILE"
"""Environment variables of a launched process: its parent, and the file for its error message."""

_JOB_OVERRIDES = ("hydra.searchpath=", "hydra.job.")  # the others configure the multirun, or its directories

EXIT_TIMEOUT_S = 10.0
"""How long to wait for a process to exit, once it is certain to."""


class ProcessFailedError(InputError):
    """Another process of the run ended early."""


class JobLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher for Hydra jobs, including those of multiruns and of any Hydra launcher.

    Lightning 2.6 runs the whole command again for each further process. In a multirun that would be the multirun
    itself, and a joblib or submitit process has no such command. This launcher runs the job's own overrides in the
    job's directory. It also restores the environment; otherwise Lightning would assume in the next job that its
    processes are already running.

    If a process ends early, the others are ended too, and the first one reports the reason, with the message of the
    other's `InputError` if there was one. On Linux, a process whose parent has ended is killed.
    """

    def __init__(self, cluster_environment: ClusterEnvironment, num_processes: int, num_nodes: int) -> None:
        super().__init__(cluster_environment, num_processes, num_nodes)
        self.done = threading.Event()

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Trainer | None = None, **kwargs: Any) -> Any:
        """Start the other processes, call the function in each, and wait for them.

        Raises:
            InputError: another process failed with this message.
            ProcessFailedError: another process ended early without a message.
        """
        if self.cluster_environment.creates_processes_externally:
            return self._launch_in_child(function, *args, trainer=trainer, **kwargs)
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        environment = {key: os.environ.get(key) for key in ("MASTER_ADDR", "MASTER_PORT")}
        with tempfile.TemporaryDirectory() as directory:
            self._error_dir = Path(directory)
            try:
                self._call_children_scripts()
                _Watchdog(self).start()
                _set_num_threads_if_needed(num_processes=self.num_processes)
                returned = function(*args, **kwargs)
                for process in self.procs:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(EXIT_TIMEOUT_S)
                return returned
            except RuntimeError as error:  # perhaps only a collective that another process does not answer
                if (cause := self._wait_for_failure()) is not None:
                    raise cause from error
                raise
            finally:
                self.done.set()
                self.kill_others()
                if torch.distributed.is_initialized():
                    torch.distributed.destroy_process_group()
                _restore_environment(environment)

    def first_failure(self) -> InputError | None:
        """Return the error of the first process that ended early; None if all are running or ended normally."""
        for rank, process in enumerate(self.procs, start=1):
            if code := process.poll():
                message = self._error_dir / str(rank)
                if message.is_file():
                    return InputError(message.read_text(encoding="utf-8"))
                how = (
                    f"was killed by {signal.Signals(-code).name}"
                    if code < 0
                    else f"ended with exit code {code} (its error is printed above)"
                )
                return ProcessFailedError(f"process {rank} {how}, so the run was stopped")
        return None

    def kill_others(self) -> None:
        """Kill the other processes: one that waits inside a collective does not react to any gentler signal."""
        for process in self.procs:
            process.kill()
            process.wait()
        self.procs.clear()

    def _wait_for_failure(self) -> InputError | None:
        deadline = time.monotonic() + EXIT_TIMEOUT_S
        while (cause := self.first_failure()) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        return cause

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
            own = {"LOCAL_RANK": str(local_rank), ERROR_FILE: str(self._error_dir / str(local_rank))}
            command = job_command(job, local_rank)
            self.procs.append(subprocess.Popen(command, env=os.environ | shared | own, cwd=job.runtime.cwd))

    def _launch_in_child(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if (parent := os.environ.get(PARENT_PID)) is None:  # started by Slurm, torchrun or by hand
            return super().launch(function, *args, **kwargs)
        torch.multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)  # type: ignore[attr-defined]
        if os.getppid() != int(parent):
            raise SystemExit(f"error: the parent process {parent} has ended")
        try:
            return super().launch(function, *args, **kwargs)
        except InputError as error:
            Path(os.environ[ERROR_FILE]).write_text(str(error), encoding="utf-8")
            raise SystemExit(1) from error


def job_command(job: HydraConf, local_rank: int) -> Sequence[str]:
    """Return the command that runs a Hydra job in a further process.

    Args:
        job: Hydra's own part of the job's configuration.
    """
    sources = {source.provider: source.path for source in job.runtime.config_sources if source.schema == "file"}
    flags = {"--config-path": sources.get("main"), "--config-dir": sources.get("command-line")}
    overrides = [override for override in job.overrides.hydra if override.lstrip("+~").startswith(_JOB_OVERRIDES)]
    return [
        *(sys.executable, "-m", _main_module() or f"src.{job.job.config_name}"),
        *("--config-name", str(job.job.config_name)),
        *(part for flag, path in flags.items() if path is not None for part in (flag, path)),
        *job.overrides.task,
        *overrides,
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
    """Lightning's observer of launched processes, which reports why it stops the run.

    Over gloo the first process notices itself that another one has ended, but not while it waits for that process to
    connect, nor inside an NCCL kernel.
    """

    def __init__(self, launcher: JobLauncher) -> None:
        super().__init__(os.getpid(), launcher.procs)
        self._launcher = launcher

    def _terminate_all(self) -> None:
        failure = self._launcher.first_failure()
        if not self._launcher.done.wait(2 * EXIT_TIMEOUT_S):
            print(f"error: {failure}", file=sys.stderr, flush=True)
            self._launcher.kill_others()
            os._exit(1)


def _main_module() -> str | None:
    """Return this process's main module if it is one of the suite; in a submitit process it is not."""
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec is not None and spec.name.startswith("src.") else None


def _restore_environment(values: dict[str, str | None]) -> None:
    for key, value in values.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value
