"""The text of --help: what a command does, its groups with their choices, and its options as conf/ describes them."""

import re
import textwrap
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

WIDTH = 120


def command_help(file: Path) -> str:
    """Return the help of the command that a file of conf/ configures.

    The file's `hydra.help.header` begins it; the comments of the file follow as they are.
    """
    lines = file.read_text(encoding="utf-8").splitlines()
    cfg: Any = OmegaConf.load(file)
    first, last = _defaults_end(lines), lines.index(next(line for line in lines if line.startswith("hydra:")))
    groups = [text for line in lines[:first] if (text := _group_help(line, file.parent))]
    options = "\n".join(lines[first:last]).strip()
    parts = [cfg.hydra.help.header.strip()]
    if groups:
        parts.append("\n".join(["Groups, each with its choices and [the default], as in data=folder:", *groups]))
    parts += [
        f"Options, with their defaults:\n{options}",
        "--cfg job prints the config, with the options of the groups; --hydra-help lists Hydra's own flags.",
    ]
    return "\n\n".join(parts)


def _defaults_end(lines: list[str]) -> int:
    start = lines.index("defaults:")
    return next(i for i in range(start + 1, len(lines)) if not lines[i].startswith((" ", "#")))


def _group_help(line: str, conf: Path) -> str | None:
    """Return the choices of the group that a line of a defaults list loads; None for other lines."""
    entry = re.match(r"  - (?:optional )?(\w+): ([^#]+?)\s*(?:# (.*))?$", line)
    if entry is None:
        return None
    group, default, comment = entry.groups()
    default = "by model" if "$" in default else default.strip("[]")
    choices = ", ".join(sorted(path.stem for path in (conf / group).glob("*.yaml")))
    shown = f"{group} [{default}]: {' # '.join(text for text in (choices, comment) if text)}"
    return textwrap.fill(shown, WIDTH, initial_indent="  ", subsequent_indent="      ")
