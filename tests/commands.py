"""Runs commands as on the command line, in forks of one server process, so that imports are paid for only once.

`python tests/commands.py` imports the entry points, then reads requests from its standard input, one line of JSON
each, runs each in a fork, and writes the result as a line of JSON.
"""

import ctypes
import importlib
import json
import os
import resource
import runpy
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from hydra import compose, initialize_config_dir

from tests.composing import fast_composition
from tests.killing import Kill

ROOT = Path(__file__).parents[1]
ENTRY_POINTS = (
    "train", "evaluate", "predict", "make_masks", "import_checkpoint", "export", "reproduce", "user_study", "benchmark",
    "dashboard",
    "app",
)  # fmt: skip
_OVERRIDE_PERMISSIONS = 1  # Linux's CAP_DAC_OVERRIDE, which lets root write everywhere


@dataclass(frozen=True)
class Ended:
    """Result of a command; a negative `code` is the signal that killed it, as in `subprocess`."""

    code: int
    out: str
    err: str
    seconds: float


class Background:
    """A command that runs until it is stopped; `stdout` ends when it does, and its errors go to the terminal."""

    def __init__(self, commands: "Commands", pid: int, stdout: TextIO) -> None:
        self._commands, self._pid, self.stdout = commands, pid, stdout
        self._code: int | None = None

    def wait(self) -> int:
        """Return the exit code as `Ended` has it, when the command has ended; kill it after a minute."""
        if self._code is None:
            self._code = int(self._commands.request(wait_for=self._pid))
            self.stdout.close()
        return self._code

    def kill(self) -> None:
        """Kill the command, unless it has ended."""
        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)  # also a process that has ended has its number until `wait`
            self.wait()

    def interrupt(self) -> tuple[int, str]:
        """Stop the command as Ctrl-C does; return its exit code and the rest of its output."""
        os.kill(self._pid, signal.SIGINT)
        rest = self.stdout.read()
        return self.wait(), rest


class Commands:
    """Runs one command at a time. Call `close` at the end, or use it as a context manager."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
        environment.pop("WANDB_SERVICE", None)  # set by a test process that uses W&B
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(
        self,
        command: str,
        *overrides: object,
        cwd: Path,
        largest_file: int | None = None,
        check_permissions: bool = False,
        killed_at: tuple[str, int] | None = None,
        limit_s: float = 120.0,
    ) -> Ended:
        """Run `python -m src.<command> <overrides>` in a directory.

        Args:
            largest_file: limit of file sizes in bytes; larger writes fail with EFBIG, much as on a full disk.
            check_permissions: respect file permissions even as root.
            killed_at: a moment during a write, and which of them, at which `tests.killing` kills the command.
            limit_s: time limit, after which the command is killed.
        """
        return Ended(
            **self.request(
                command=command, overrides=[str(override) for override in overrides], cwd=str(cwd),
                largest_file=largest_file, check_permissions=check_permissions, killed_at=killed_at, limit_s=limit_s,
            )
        )  # fmt: skip

    def start(self, command: str, *overrides: object, cwd: Path) -> Background:
        """Start `python -m src.<command> <overrides>`, which goes on while other commands run."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            os.mkfifo(out)
            pid = self.request(
                command=command, overrides=[str(override) for override in overrides], cwd=str(cwd),
                largest_file=None, check_permissions=False, killed_at=None, out=str(out),
            )  # fmt: skip
            return Background(self, pid, out.open())  # opens when the command has opened it

    def request(self, **request: Any) -> Any:
        """Send a request to the server process and return its answer."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def close(self) -> None:
        """End the process."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)
        assert self._server.stdout is not None
        self._server.stdout.close()

    def __enter__(self) -> "Commands":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve() -> None:
    for name in ENTRY_POINTS:
        importlib.import_module(f"src.{name}")
    answers = os.fdopen(os.dup(1), "w")
    with fast_composition():
        _compose_common_configs()
        _answer_requests(answers)


def _compose_common_configs() -> None:
    """Forks inherit the configs that this process has composed."""
    small = ["scale=smoke", "data=folder", "trainer=cpu"]
    models = [("train", [f"model={name}", *small]) for name in ("pconv", "lbam", "contextual_attention")]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for name, choices in (*models, ("evaluate", small), ("reproduce", small), ("make_masks", [])):
            compose(name, choices, return_hydra_config=True)


def _answer_requests(answers: TextIO) -> None:
    for line in sys.stdin:
        request = json.loads(line)
        answer = (
            _wait(request["wait_for"])
            if "wait_for" in request
            else _start(request)
            if "out" in request
            else _run(request)
        )
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _start(request: dict[str, Any]) -> int:
    importlib.import_module("src.webapp.page")  # Gradio; needed by all that run in the background
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background process, as in CI
        _run_and_exit(request, os.open(request["out"], os.O_WRONLY), os.dup(2))
    return child


def _wait(child: int) -> int:
    deadline = time.monotonic() + 60
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)


def _run(request: dict[str, Any]) -> dict[str, Any]:
    begun = time.monotonic()
    # Pipes, not files: with a small `largest_file` a command could not write its error message to a file.
    ends = [os.pipe() for _ in range(2)]
    child = os.fork()
    if child == 0:
        _run_and_exit(request, *(written for _, written in ends))
    for _, written in ends:
        os.close(written)
    texts = _read_until_closed([read for read, _ in ends], child, begun + request["limit_s"])
    status = os.waitpid(child, 0)[1]
    return {
        "code": os.waitstatus_to_exitcode(status), "out": texts[0], "err": texts[1],
        "seconds": time.monotonic() - begun,
    }  # fmt: skip


def _read_until_closed(pipes: list[int], child: int, deadline: float) -> list[str]:
    """Return the text from each pipe when all are closed; kill the child after the deadline."""
    parts: dict[int, list[bytes]] = {pipe: [] for pipe in pipes}
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for ready, _ in selector.select(timeout=min(60.0, max(0.0, deadline - time.monotonic()))):
                part = os.read(ready.fd, 1 << 16)
                parts[ready.fd].append(part)
                if not part:
                    selector.unregister(ready.fd)
                    os.close(ready.fd)
            if time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
                deadline = float("inf")
    return [b"".join(parts[pipe]).decode(errors="replace") for pipe in pipes]


def _run_and_exit(request: dict[str, Any], out: int, err: int) -> None:
    os.setpgid(0, 0)
    for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
        os.dup2(source, target)
    code = 1
    try:
        os.chdir(request["cwd"])
        if request["largest_file"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"], request["largest_file"]))
        if request["check_permissions"]:
            _drop_permission_override()
        if request["killed_at"] is not None:
            Kill(*request["killed_at"])
        sys.argv = [request["command"], *request["overrides"]]
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*found in sys.modules", category=RuntimeWarning)
                runpy.run_module(f"src.{request['command']}", run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
        except BaseException:
            sys.excepthook(*sys.exc_info())
    finally:
        if executors := sys.modules.get("joblib.externals.loky.reusable_executor"):
            executors.get_reusable_executor().shutdown(kill_workers=True)  # they hold the pipes open
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _drop_permission_override() -> None:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits
    libc = ctypes.CDLL(None, use_errno=True)
    libc.capget(header, held)
    for i in range(3):
        held[i] &= ~(1 << _OVERRIDE_PERMISSIONS)
    if libc.capset(header, held):
        raise OSError(ctypes.get_errno(), "cannot drop CAP_DAC_OVERRIDE")


if __name__ == "__main__":
    _serve()
