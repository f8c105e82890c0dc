"""The entry point of commands: plain arguments are quoted for Hydra, and --help comes from conf/."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from src import make_masks
from src.common import schemas
from src.common.command import CONF, quote_arguments
from src.common.errors import InputError
from src.common.help import WIDTH, command_help
from src.common.options import text_keys

TEXTS = set(text_keys(schemas.PredictOptions))
COMMANDS = {
    path.stem: CONF / ("predict/config.yaml" if path.stem == "predict" else f"{path.stem}.yaml")
    for path in (CONF.parent / "src").glob("*.py")
    if not path.stem.startswith("__")
}


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("image=über.jpg", "über.jpg"),
        ("image=照片.jpg", "照片.jpg"),
        ("image=it's.jpg", "it's.jpg"),
        ("image=my photo (1).png", "my photo (1).png"),
        ("image=a=b{1}.jpg", "a=b{1}.jpg"),
        ("image=[1].png", "[1].png"),
        ("image=x\\'", "x\\'"),
        ("image='quoted (1).png'", "quoted (1).png"),
        ("image=2024", "2024"),
        ("image=2024_01", "2024_01"),
        ("output=1e3", "1e3"),
        ("output=~/é", str(Path.home() / "é")),
        ("image=photos/*.jpg", "photos/*.jpg"),
        ("image=a,b.jpg", "a,b.jpg"),
        ("sheet_side_px=64", 64),
        ("ckpt=[a,b]", ["a", "b"]),
        ("size=512", "512"),
        ("size={a:1}", "{a:1}"),
        ("size=null", []),
        ("~size", []),
        ("format=null", None),
    ],
)
def test_values_are_read_as_they_are_typed(argument, value):
    (quoted,) = quote_arguments([argument], TEXTS, CONF / "predict")
    assert OverridesParser.create().parse_override(quoted).value() == value


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("mask.hole_share=[0,1]", "unknown option mask.hole_share: similar ones are mask.hole_ratio; --help lists"),
        ("hole_ratio=[0,1]", "unknown option hole_ratio: similar ones are mask.hole_ratio; --help lists"),
        ("mask=circles", "unknown mask=circles: choose one of centre, "),
        ("mask=[a]", "unknown mask=a"),
        ("mask=[strokes,centre]", "mask=[strokes,centre]: mask takes one choice; -m mask=strokes,centre runs"),
        ("per_bin=1,2", "per_bin=1,2 has several values: write per_bin=[1,2] for a list, or add -m for runs of each"),
        ("mask.hole_ratio=[0.9,0.1]", "no bin lies inside mask.hole_ratio=[0.9,0.1]: it must include one of "),
        ("mask=null", "the config lacks mask, which this command needs: leave out what removes it, such as mask=null"),
        ("+seed=3", "Could not append to config. An item is already at 'seed'. Either remove + prefix: 'seed=3'"),
    ],
)
def test_a_config_that_can_not_be_composed_is_one_line(monkeypatch, argument, message):
    monkeypatch.setattr(sys, "argv", ["make_masks", argument])
    with pytest.raises(SystemExit) as ended:
        make_masks.main()
    assert str(ended.value).startswith(f"error: {message}")
    assert "\n" not in str(ended.value)


def test_flags_and_their_values_are_left_alone():
    arguments = ["--cfg", "job", "-m", "image=é.png", "--config-dir", "é"]
    assert quote_arguments(arguments, TEXTS, CONF) == [*arguments[:3], "image='é.png'", *arguments[4:]]


@pytest.mark.parametrize("argument", ["photo.jpg", "image=[a (1).png,b.png]", "bild für=a"])
def test_an_argument_that_is_no_override_is_named(argument):
    with pytest.raises(InputError, match=r"is not of the form key=value .*quote names"):
        quote_arguments([argument], TEXTS, CONF)


def test_arguments_that_are_not_utf8_are_rejected():
    with pytest.raises(InputError, match=r"image=caf\\xe9\.jpg is not UTF-8: rename"):
        quote_arguments(["image=caf\udce9.jpg"], TEXTS, CONF)


def test_directories_of_datasets_are_texts_in_every_command():
    assert {"data.root", "mask.root", "output_dir", "resume"} <= set(text_keys(schemas.TrainOptions))
    (quoted,) = quote_arguments(["data.root=2024_01"], set(text_keys(schemas.PrepareOptions)), CONF)
    assert quoted == "data.root='2024_01'"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_one_page_with_the_commands_own_groups_options_and_three_examples(name):
    text = command_help(COMMANDS[name])
    lines = text.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= WIDTH
    assert sum(f"python -m src.{name}" in line or "make demo" in line for line in lines) >= 3
    if name == "predict":
        assert "size [around_holes]: around_holes, reduced, tiled, whole" in text
        assert "hole: white # the hole in mask files" in text
        assert "loss" not in text


def test_without_the_environment_the_command_says_how_to_activate_it():
    ended = subprocess.run(
        [sys.executable, "-S", "-E", "-m", "src.predict"], cwd=CONF.parent, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "source .venv/bin/activate" in ended.stderr
    assert "Traceback" not in ended.stderr
