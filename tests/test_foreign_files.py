"""Nothing in src runs code from a file: functions that could are forbidden, and the exceptions are listed here.

The list holds references, not calls, as a function can be passed on and called elsewhere. Each entry says why the file
is not an untrusted one, or why it can't run code.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

RUNS_CODE = (
    "builtins.__import__", "builtins.eval", "builtins.exec", "cloudpickle", "dill", "joblib", "marshal", "os.popen",
    "os.system", "pandas.read_hdf", "pandas.read_pickle", "pickle", "runpy", "shelve", "shutil.unpack_archive",
    "tarfile", "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.jit.load", "torch.package",
    "torch.serialization", "yaml.full_load", "yaml.load", "yaml.load_all", "yaml.unsafe_load",
)  # fmt: skip
"""Modules and functions that run code from a file or a string, or write to paths that an archive names."""

METHODS = ("load_from_checkpoint",)
"""Forbidden as methods of any object."""

CALLS_BY_NAME = ("hydra.utils", "importlib.import_module", "importlib.util", "omegaconf.OmegaConf.load")
"""Allowed in listed places only: a string names what they call."""

ONLY_WITH = {"torch.load": ("weights_only", True), "numpy.load": ("allow_pickle", False)}
"""Allowed with this explicit argument only: defaults differ between versions and change with environment variables."""

COMPOSED = "composed by Hydra from conf/ and the command line"
VETTED = {
    ("src/__init__.py", "importlib.util.find_spec"): "of a name in it",
    ("src/common/command.py", "omegaconf.OmegaConf.load"): "conf/",
    ("src/common/help.py", "omegaconf.OmegaConf.load"): "conf/",
    ("src/common/untrusted_files.py", "yaml.load"): "with a loader derived from SafeLoader",
    ("src/common/tensor_files.py", "pickle.UnpicklingError"): "the name of an error",
    ("src/loggers/wandb_dashboard.py", "importlib.import_module"): "two names of W&B's",
    ("src/checkpoints/network_config.py", "importlib.import_module"): "names of a list",
    ("src/image_files/decoding.py", "importlib.util.find_spec"): "of a name in it",
    ("src/metrics/inception.py", "torch.jit.load"): "the published file, after its SHA-256 was verified",
    ("src/exporting/run.py", "importlib.util.find_spec"): "of a name in it",
    ("src/exporting/formats.py", "importlib.util.find_spec"): "of names in it",
    ("src/reproduction/runs.py", "omegaconf.OmegaConf.load"): "a run's config.yaml, compared without resolving",
    ("src/evaluation/scoring.py", "omegaconf.OmegaConf.load"): "conf/scale/paper.yaml",
    ("src/reproduction/row_tests.py", "omegaconf.OmegaConf.load"): "conf/scale/paper.yaml",
    ("src/common/resolvers.py", "omegaconf.OmegaConf.load"): "conf/model/",
    ("src/checkpoints/methods.py", "omegaconf.OmegaConf.load"): "conf/model/",
    **{
        (f"src/{file}.py", "hydra.utils.instantiate"): COMPOSED
        for file in (
            "make_masks", "predict", "prepare", "benchmarking/jobs", "benchmarking/loading",
            "benchmarking/training", "evaluation/demo", "evaluation/frozen_test", "evaluation/protocols",
            "evaluation/scoring",
            "loggers/setup", "checkpoints/methods",
            "reproduction/results", "reproduction/row_tests", "reproduction/timing_runs", "training/setup",
            "training/trainer",
        )
    },
}  # fmt: skip


def find_references(tree):
    """Yield every dotted name in a module with its node, with imports resolved: `np.load` is numpy.load."""
    imported = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.asname: alias.name for alias in node.names if alias.asname}
            imported |= {(top := alias.name.partition(".")[0]): top for alias in node.names if not alias.asname}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}", node
    within = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if id(node) not in within and isinstance(node, ast.Name | ast.Attribute):
            first, *rest = ast.unparse(node).split(".")
            yield ".".join([imported.get(first, f"builtins.{first}"), *rest]), node


def starts_with_any(name, prefixes):
    return f"{name}.".startswith(tuple(f"{prefix}." for prefix in prefixes))


def has_keyword(call, keyword, value):
    return any(k.arg == keyword and isinstance(k.value, ast.Constant) and k.value.value is value for k in call.keywords)


def find_dangers(source, file="src/new.py"):
    """Yield the names and keywords in a module that could run code from a file."""
    tree = ast.parse(source)
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for name, node in find_references(tree):
        if name in ONLY_WITH:
            if id(node) not in calls or not has_keyword(calls[id(node)], *ONLY_WITH[name]):
                yield name
        elif (file, name) not in VETTED and (
            starts_with_any(name, (*RUNS_CODE, *CALLS_BY_NAME)) or name.rpartition(".")[2] in METHODS
        ):
            yield name
    for call in calls.values():
        given = {keyword.arg for keyword in call.keywords}
        if "ckpt_path" in given and not has_keyword(call, "weights_only", True):  # of Lightning's Trainer
            yield "ckpt_path"
        if "shell" in given:
            yield "shell"


@pytest.mark.parametrize("file", sorted((ROOT / "src").rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_modules_run_no_code_from_files(file):
    found = list(find_dangers(file.read_text(encoding="utf-8"), file.relative_to(ROOT).as_posix()))
    assert found == [], "read the file with src.common.tensor_files, or add an entry to VETTED with the reason"


def test_every_listed_exception_exists():
    named = {file: {name for name, _ in find_references(ast.parse((ROOT / file).read_text()))} for file, _ in VETTED}
    assert [(file, name) for file, name in VETTED if name not in named[file]] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch\ntorch.load(path)", "torch.load"),
        ("import torch\ntorch.load(path, weights_only=False)", "torch.load"),
        ("import torch\ntorch.load(path, weights_only=safe)", "torch.load"),
        ("import torch\nstates = map(torch.load, paths)", "torch.load"),
        ("from torch import load as read\nread(path)", "torch.load"),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "numpy.load"),
        ("import pickle\npickle.loads(text)", "pickle.loads"),
        ("from joblib import load\nload(path)", "joblib.load"),
        ("import pandas as pd\npd.read_pickle(path)", "pandas.read_pickle"),
        ("import yaml\nyaml.load(text, Loader=yaml.Loader)", "yaml.load"),
        ("eval(text)", "builtins.eval"),
        ("from hydra.utils import instantiate\ninstantiate(config)", "hydra.utils.instantiate"),
        ("from omegaconf import OmegaConf\nOmegaConf.load(path)", "omegaconf.OmegaConf.load"),
        ("Training.load_from_checkpoint(path)", "builtins.Training.load_from_checkpoint"),
        ("make().load_from_checkpoint(path)", "load_from_checkpoint"),
        ("trainer.fit(module, ckpt_path=path)", "ckpt_path"),
        ("import subprocess\nsubprocess.run(text, shell=True)", "shell"),
    ],
)
def test_forbidden_references_are_found(source, found):
    assert any(name.endswith(found) for name in find_dangers(source))


def test_safe_calls_are_allowed():
    source = """
import numpy as np, torch, yaml
torch.load(path, map_location="cpu", weights_only=True)
np.load(path, allow_pickle=False)
yaml.safe_load(text)
network.eval()
trainer.fit(module, ckpt_path=path, weights_only=True)
"""
    assert list(find_dangers(source)) == []
