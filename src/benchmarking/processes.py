"""Training over several processes of one machine, as `measure_processes` starts it."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from src.benchmarking.clock import Pace, Record, spread
from src.benchmarking.failures import NotMeasuredError
from src.benchmarking.setting import Setting, lies_channels_last
from src.benchmarking.threads import threads
from src.benchmarking.training import Step, fit, make_batch, make_module


def measure_processes(
    step: Step,
    processes: int,
    threads_in_all: int,
    device: torch.device,
    pace: Pace,
    setting: Setting,
    at_most_s: float,
) -> Record:
    """The time of a training step over data-parallel processes, a batch each, which share the CPU's threads.

    Images a second are of all processes together; the time is that of the first, which waits for the others.

    Raises:
        NotMeasuredError: there are fewer GPUs, a process failed, its last line being the reason, or they took longer
            than `at_most_s`.
    """
    if device.type == "cuda" and processes > torch.cuda.device_count():
        raise NotMeasuredError(f"there are {torch.cuda.device_count()} GPUs")
    job = {
        "run": OmegaConf.to_container(step.run, resolve=True),
        "stage": step.stage,
        "side_px": step.side_px,
        "batch_size": step.batch_size,
        "device": device.type,
        "pace": asdict(pace),
        "processes": processes,
        "threads": max(1, threads_in_all // processes),
        "setting": setting.columns(),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        _train_over(processes, folder, at_most_s)
        made = json.loads((folder / "seconds.json").read_text(encoding="utf-8"))
    timed = spread(made["seconds"])
    images = step.batch_size * made["batches_per_step"] * processes
    return {
        **timed,
        "processes": processes,
        "batches_per_step": made["batches_per_step"],
        "channels_last": made["channels_last"],
        "images_per_step": images,
        "per_second": images / timed["median_s"],
    }


def _train_over(processes: int, folder: Path, at_most_s: float) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started: list[subprocess.Popen[bytes]] = []
    late, deadline = False, time.monotonic() + at_most_s
    try:
        for rank in range(processes):
            # As Lightning's own launcher sets them: where they are set, it starts no processes.
            of_rank = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
            with (folder / f"{rank}.log").open("wb") as log:
                command = [sys.executable, "-m", "src.benchmarking.processes", str(folder)]
                environment = {**os.environ, **of_rank, "WORLD_SIZE": str(processes)}
                started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
        while any(process.poll() is None for process in started):
            if any(process.poll() for process in started):
                break  # one has failed: the others would wait for it
            if late := time.monotonic() > deadline:
                break
            time.sleep(0.05)
    finally:
        for process in started:
            process.kill()
            process.wait()
    for rank, process in enumerate(started):
        if process.returncode > 0:  # those that were killed above have the number of a signal, below 0
            said = (folder / f"{rank}.log").read_text(errors="replace").strip().splitlines()
            raise NotMeasuredError((said or [f"a process ended with exit status {process.returncode}"])[-1])
    if late:
        raise NotMeasuredError(f"not done after {at_most_s:g} s: raise max_process_seconds")


def train_as_one_of(folder: Path) -> None:
    """Take part in what folder/job.json says; the first process writes folder/seconds.json."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    run, setting = OmegaConf.create(job["run"]), Setting(**job["setting"])
    step = Step(run, job["stage"], job["side_px"], job["batch_size"])
    torch.manual_seed(0)
    with threads(job["threads"]):
        module = make_module(step, instantiate(run.model.network), setting)
        seconds = fit(
            module,
            run,
            make_batch(step.batch_size, step.side_px),
            torch.device(job["device"]),
            setting,
            Pace(**job["pace"]),
            devices=job["processes"],
            strategy={"_target_": "lightning.pytorch.strategies.DDPStrategy", "find_unused_parameters": True},
        )
    if os.environ["LOCAL_RANK"] == "0":
        made = {
            "seconds": seconds,
            "batches_per_step": module.batches_per_step,
            "channels_last": lies_channels_last(module.network),
        }
        (folder / "seconds.json").write_text(json.dumps(made), encoding="utf-8")


if __name__ == "__main__":
    train_as_one_of(Path(sys.argv[1]))
