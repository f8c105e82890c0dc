"""Commands in the READMEs compose, and links, files and make targets that they name exist."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

ROOT = Path(__file__).parents[1]
ROOMS = ("conf", "experiments", "notebooks", "tests", "src/*")
READMES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *(path for room in ROOMS for path in sorted(ROOT.glob(f"{room}/README.md")))]
}
COMMANDS = sorted({line for text in READMES.values() for line in re.findall(r"^    python -m src\.(.+)$", text, re.M)})


def parse_command(line):
    """Return the entry point of a line and its overrides, without its comment and its ellipses."""
    line = re.sub(r"--cfg job|--\w+", "", re.sub(r"<[^>]+>", "x", line))
    entry, *overrides = shlex.split(line, comments=True)
    return entry, [override for override in overrides if override not in ("-m", "...")]


def first_of_sweep(override):
    """Return the override of a sweep's first run."""
    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_sweep_override():
        return override
    if override.startswith("experiments=glob(lbam/table2/"):
        return "experiments=lbam/table2/full"
    return f"{override.partition('=')[0]}={next(parsed.sweep_string_iterator())}"


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_compose(command):
    entry, overrides = parse_command(command)
    assert (ROOT / "src" / f"{entry}.py").is_file()
    directory, config = ("conf/predict", "config") if entry == "predict" else ("conf", entry)
    with initialize_config_dir(str(ROOT / directory), version_base="1.3"):
        compose(config, [first_of_sweep(override) for override in overrides], return_hydra_config=True)


def test_root_readme_names_every_command():
    entries = {path.stem for path in (ROOT / "src").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    missing = sorted(name for name in entries if f"src.{name}" not in READMES["README.md"])
    assert missing == ["demo"]  # it is make demo


def test_root_readme_is_short():
    assert len(READMES["README.md"].splitlines()) <= 250


@pytest.mark.parametrize("name", READMES)
def test_links_exist(name):
    links = re.findall(r"\]\(([^)\s]+)\)", READMES[name])
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists():
            broken.append(link)
        elif anchor:
            heads = re.findall(r"^#{1,4} (.+)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            if anchor not in {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}:
                broken.append(link)
    assert broken == []


@pytest.mark.parametrize("name", READMES)
def test_files_and_make_targets_exist(name):
    named = re.findall(r"`((?:src|conf|tests|experiments|notebooks)/[\w/.]+)`", READMES[name])
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    used = re.findall(r"(?:^    |`)make ([\w-]+)", READMES[name], flags=re.MULTILINE)
    missing = [path for path in named if not (ROOT / path).exists()]
    assert missing + [target for target in used if target not in targets] == []
