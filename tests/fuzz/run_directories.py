"""Fuzzed run directories: the marks of a run's start and end, and its log."""

import json
from pathlib import Path
from random import Random
from typing import Any

import yaml
from omegaconf import OmegaConf

from src.loggers.csv import CSVLog
from src.training.resume.run_dirs import COMMAND, FINISHED, is_unfinished_run, read_failure, read_finished
from src.training.sweep_table import read_sweep
from tests.fuzz.mutations import bytes_changed

_CONFIG: dict[str, Any] = {
    "model": {"name": "lbam", "network": {"_target_": "x"}, "training": {"_target_": "y"}},
    "loss": {"terms": {"l1": {"_target_": "z"}}}, "data": {"seed": 0, "mask_seed": 0}, "scale": {"test_batches": 1},
    "trainer": {"devices": [0]}, "callbacks": {"ema": {"decay": 0.9}, "best": {"monitor": None, "mode": "max"}},
    "seed": 0, "init_seed": 0, "output_dir": "a",
}  # fmt: skip
_FILES = {
    FINISHED: json.dumps({"best_val_psnr": 20.5, "config": _CONFIG}).encode(),
    COMMAND: yaml.safe_dump(_CONFIG).encode(),
    "csv/metrics.csv": b"epoch,step,train/loss,val/psnr\n0,0,1.5,\n0,1,1.25,\n0,1,,20.5\n",
    ".hydra/overrides.yaml": b"- model=lbam\n- seed=1\n",
    "failed.txt": b"it diverged",
}
_PLANTED = (
    *(b"[" * 3000, b"{" * 3000, b"\xff\xfe\x00", b"NaN", b"1e999", b"9" * 5000, b"null", b"[]", b"true", b"''"),
    *(b"&x [*x]", b"!!python/object/apply:os.getcwd []", b"${oc.env:HOME}", b"???", b"\x00", b'"', b"-1", b"a: b"),
)


def run_directories() -> dict[str, bytes]:
    """Return the files of a finished run in one document."""
    return {"run": json.dumps({name: data.decode("latin-1") for name, data in _FILES.items()}).encode()}


def run_directory_changed(data: bytes, rng: Random) -> bytes:
    """Change bytes of one to three files, or replace one of their values or texts by another."""
    files = {name: text.encode("latin-1") for name, text in json.loads(data).items()}
    for _ in range(rng.randint(1, 3)):
        name = rng.choice(sorted(files))
        words = files[name].split(b" ")
        kind = rng.randrange(4)
        if kind == 0:
            files[name] = bytes_changed(files[name], rng)
        elif kind == 1:
            files[name] = rng.choice(_PLANTED)
        else:
            words[rng.randrange(len(words))] = rng.choice(_PLANTED)
            files[name] = b" ".join(words)
    return json.dumps({name: content.decode("latin-1") for name, content in files.items()}).encode()


def read_run_directory(path: Path, rng: Random) -> None:
    """Read a run directory as a resumed run and a multirun's table do."""
    run = path.with_name("sweep") / "0_lbam"
    for name, text in json.loads(path.read_bytes()).items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(text.encode("latin-1"))
    finished = read_finished(run)
    assert finished is None or isinstance(finished["config"], dict)
    assert isinstance(read_failure(run), str)
    (run / FINISHED).rename(run / "ended")
    assert is_unfinished_run(run, OmegaConf.create(_CONFIG)) in (True, False)
    (run / "ended").rename(run / FINISHED)
    assert CSVLog(str(run), name="csv", version="", keep_rows=3).rows <= 3
    assert len(read_sweep(run.parent)) == 1
