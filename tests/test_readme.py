"""What README.md tells people to type composes, and what it points to is there."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HEADS = re.findall(r"^#{1,3} (.+)$", README, flags=re.MULTILINE)
COMMANDS = sorted(set(re.findall(r"^    python -m src\.(.+)$", README, flags=re.MULTILINE)))


def typed(command):
    """The entry point of a line and what is typed behind it, its comment and its ellipses left out."""
    entry, *overrides = shlex.split(re.sub(r"<[^>]+>", "x", command), comments=True)
    return entry, [override for override in overrides if override not in ("-m", "...")]


def one_of(override):
    """A run's override of a sweep's."""
    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_sweep_override():
        return override
    if override.startswith("experiments=glob(lbam/table2/"):
        return "experiments=lbam/table2/full"
    return f"{override.partition('=')[0]}={next(parsed.sweep_string_iterator())}"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_composes(command):
    entry, overrides = typed(command)
    assert (ROOT / "src" / f"{entry}.py").is_file()
    folder, config = ("conf/predict", "config") if entry == "predict" else ("conf", entry)
    with initialize_config_dir(str(ROOT / folder), version_base="1.3"):
        compose(config, [one_of(override) for override in overrides], return_hydra_config=True)


def test_every_entry_point_is_named():
    entries = {path.stem for path in (ROOT / "src").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert sorted(name for name in entries if f"python -m src.{name}" not in README) == ["demo"]  # it is make demo


def test_every_link_leads_somewhere():
    anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in HEADS}
    links = re.findall(r"\]\(([^)\s]+)\)", README)
    lost = [link for link in links if link.startswith("#") and link[1:] not in anchors]
    local = [link for link in links if not link.startswith(("#", "https://"))]
    assert lost + [link for link in local if not (ROOT / link.partition("#")[0]).exists()] == []


def test_files_and_make_targets_that_are_named_exist():
    named = re.findall(r"`((?:src|conf|tests|experiments|notebooks)/[\w/.]+)`", README)
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    asked = re.findall(r"(?:^    |`)make ([\w-]+)", README, flags=re.MULTILINE)
    assert [name for name in named if not (ROOT / name).exists()] + [t for t in asked if t not in targets] == []
