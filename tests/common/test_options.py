"""Options of the commands: invalid types and ranges are rejected with their key."""

from dataclasses import dataclass

import pytest
from omegaconf import MISSING, OmegaConf

from src.common.errors import InputError
from src.common.options import check_options, option


@dataclass
class Inner:
    root: str | None = option()


@dataclass
class Options:
    steps: int = option(at_least=1)
    seed: int = option(at_least=0, at_most=9)
    rate: float | None = option(above=0)
    share: bool = option()
    output: str = option("a path")
    names: list[str] = option()
    sizes: list[int] = option(at_least=1)
    verify: str = option(choices=("size", "hash"))
    data: Inner = MISSING


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"output": 2024}, {"output": "2024"}),
        ({"data": {"root": 7, "other": 1}}, {"data": {"root": "7", "other": 1}}),
        ({"data": {"root": None}}, {"data": {"root": None}}),
        ({"steps": "4"}, {"steps": 4}),
        ({"steps": "${seed}", "seed": 2}, {"steps": 2, "seed": 2}),
        ({"rate": 3}, {"rate": 3}),
        ({"rate": None, "unknown": []}, {"rate": None, "unknown": []}),
        ({"names": ["a", 1]}, {"names": ["a", "1"]}),
    ],
)
def test_equivalent_values_are_converted(given, kept):
    cfg = OmegaConf.create(given)
    check_options(cfg, Options)
    assert OmegaConf.to_container(cfg, resolve=True) == kept


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": "x"}, "steps must be an integer >= 1, got 'x'"),
        ({"steps": 1.5}, "steps must be an integer >= 1, got 1.5"),
        ({"steps": True}, "steps must be an integer >= 1, got True"),
        ({"steps": None}, "steps must be an integer >= 1, got None"),
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"seed": 10}, "seed must be an integer from 0 to 9, got 10"),
        ({"rate": 0}, "rate must be a number > 0 or null, got 0"),
        ({"rate": float("nan")}, "rate must be a number > 0 or null, got nan"),
        ({"share": "maybe"}, "share must be true or false, got 'maybe'"),
        ({"share": 1}, "share must be true or false, got 1"),
        ({"output": False}, "output must be a path, got False"),
        ({"names": "a"}, "names must be a list, such as names=[a,b], got 'a'"),
        ({"sizes": [3, "x"]}, "sizes must be a list of integers >= 1, got [3, 'x']"),
        ({"sizes": [3, 0]}, "sizes must be a list of integers >= 1, got [3, 0]"),
        ({"verify": "no"}, "verify must be size or hash, got 'no'"),
        ({"data": 3}, "data must be a group of options, got 3"),
    ],
)
def test_invalid_values_are_rejected_with_their_key(given, message):
    with pytest.raises(InputError) as rejected:
        check_options(OmegaConf.create(given), Options)
    assert str(rejected.value) == message
