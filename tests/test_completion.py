"""What a shell's Tab offers, and how it comes into bash's line."""

import shutil
import subprocess
import sys

import pytest

from src.completion import SCRIPTS, commands, offers
from tests.commands import ROOT


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("python -m src.tr", ["src.train"]),
        ("python -m src.train model=lb", ["model=lbam", "model=lbam_printed", "model=lbam_release"]),
        (".venv/bin/python -m src.evaluate data=photos model=tel", ["model=telea"]),
        ("python -m src.train model=edge_lbam model.training.on", ["model.training.only="]),
        ("python3 -m src.train -m hydra/sweeper=optuna_", ["hydra/sweeper=optuna_lr"]),
        ("python -m src.train experiments=lbam/table2/sig", ["experiments=lbam/table2/sigmoid"]),
        ("python -m src.predict ", ["ckpt=", "image="]),
        (f"python -m src.train data=folder data.root={ROOT}/experi", [f"data.root={ROOT}/experiments"]),
        ("python -m src.reproduce table=lbam/table2 ", ["rows="]),
        ("python -m src.no_such_command ", []),
        ("python -m src.train model=no_such", []),
    ],
)
def test_groups_keys_values_and_files_are_offered(line, some):
    offered = offers(line)
    assert set(some) <= set(offered)
    assert all(choice.startswith(line.split(" ")[-1]) for choice in offered)
    assert bool(offered) == bool(some)


def test_all_commands_are_known_with_a_configuration():
    mains = {path.stem for path in (ROOT / "src").glob("*.py") if "\n@hydra.main(" in path.read_text()}
    assert commands().keys() == mains >= {"train", "predict", "reproduce"}
    assert all((folder / f"{name}.yaml").is_file() for folder, name in commands().values())


def in_bash(words: list[str], current: int, line: str) -> list[str]:
    """What bash would put in the place of the word: it splits words at =, and colons too."""
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"{SCRIPTS['bash']}COMP_WORDS=({quoted}) COMP_CWORD={current} COMP_LINE='{line}' COMP_POINT={len(line)}\n"
    shown = script + "_inpainting_suite; printf '%s\\n' \"${COMPREPLY[@]}\""
    ended = subprocess.run(["bash", "--norc", "-c", shown], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    return ended.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_puts_a_value_behind_the_sign_and_leaves_other_programs_alone():
    python = sys.executable
    line = f"{python} -m src.train model=mpga_gla_r"
    assert in_bash([python, "-m", "src.train", "model", "=", "mpga_gla_r"], 5, line) == ["mpga_gla_release"]
    assert in_bash([python, "-m", "http.server", ""], 3, f"{python} -m http.server ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_of_their_shells_grammar(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    ended = subprocess.run([shell, "-n"], input=SCRIPTS[shell], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
