"""The entry point of a command: Hydra's, with --help from the comments of conf/, plain arguments, and plain errors."""

import difflib
import functools
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal import utils  # no public module parses arguments, or reports errors
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import CompactHydraException, HydraException, MissingConfigException
from omegaconf import OmegaConf

from src.common.errors import InputError, printable, report_input_errors
from src.common.help import command_help
from src.common.options import text_keys

CONF = Path(__file__).parents[2] / "conf"

MAX_LISTED = 60
"""Number of choices that a message lists; of more, it names the similar ones."""

_run_and_report = utils.run_and_report


def command(config: str, *options: type[Any]) -> Callable[[Callable[..., Any]], Any]:
    """Decorate the main function of a command, in place of `hydra.main`.

    Args:
        config: the command's file in conf/, without its suffix.
        options: dataclasses of `schemas.py` that declare its options.
    """
    file = CONF / f"{config}.yaml"

    def decorate(task: Callable[..., Any]) -> Callable[..., Any]:
        main = hydra.main(version_base="1.3", config_path=str(file.parent), config_name=file.stem)
        run = main(report_input_errors(task))

        @functools.wraps(task)
        def parse_and_run(*args: Any) -> Any:
            if args:  # a composed config
                return run(*args)
            if {"-h", "--help"} & set(sys.argv[1:]):
                print(command_help(file))
                return None
            try:
                texts = {key for schema in options for key in text_keys(schema)}
                _require_single_choices(sys.argv[1:], file)
                sys.argv[1:] = quote_arguments(sys.argv[1:], texts, file.parent)
            except InputError as error:
                sys.exit(f"error: {error}")
            utils.run_and_report = lambda func: _run_and_report(lambda: _in_one_line(func, file))
            return run()

        return parse_and_run

    return decorate


def quote_arguments(arguments: Sequence[str], texts: Collection[str], conf: Path) -> list[str]:
    """Quote values that Hydra's grammar rejects or reads as numbers, so that image=über.jpg and output=2024_01 work.

    Args:
        texts: keys whose values are texts.
        conf: directory of the groups, whose choices are texts, too.
    Raises:
        InputError: an argument is not UTF-8, or is no override even if its value is quoted.
    """
    for text in (*arguments, str(Path.cwd())):
        if any("\udc80" <= sign <= "\udcff" for sign in text):
            shown = os.fsencode(text).decode("utf-8", "backslashreplace")
            raise InputError(f"{shown} is not UTF-8: rename the file or directory")
    parsed = utils.get_args_parser().parse_args(list(arguments))
    return [_quote(one, texts, conf, parsed.multirun) if one in parsed.overrides else one for one in arguments]


def _require_single_choices(arguments: Sequence[str], file: Path) -> None:
    """Raise InputError if a list is given for a group that takes one choice, of which Hydra would use the last."""
    cfg: Any = OmegaConf.to_container(OmegaConf.load(file))  # interpolations stay
    defaults = [entry for entry in cfg.get("defaults", []) if isinstance(entry, dict)]
    choices = {str(key).removeprefix("optional "): choice for entry in defaults for key, choice in entry.items()}
    for argument in arguments:
        group, _, value = argument.partition("=")
        if group not in choices or isinstance(choices[group], list) or not re.fullmatch(r"\[.+,.+\]", value):
            continue
        several = f"-m {group}={value[1:-1]} runs the command for each"
        if (group, file.stem) == ("model", "evaluate"):
            several = f"methods={value} compares several"
        raise InputError(f"{argument}: {group} takes one choice; {several}")


def _quote(argument: str, texts: Collection[str], conf: Path, sweeps: bool) -> str:
    key, is_override, value = argument.partition("=")
    name = key.lstrip("+~").partition("@")[0]
    if value.startswith("~/"):
        value = str(Path(value).expanduser())
    # Hydra unescapes quotes and the backslashes in front of them.
    quoted = f"{key}='" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value) + "'"
    try:
        parsed = _parse(f"{key}={value}" if is_override else argument)
    except HydraException as error:
        if is_override and value[:1] + value[-1:] not in ("[]", "{}"):
            try:
                return _parse(quoted).input_line or quoted
            except HydraException:  # the key is at fault
                pass
        raise InputError(
            f"{argument} is not of the form key=value ({' '.join(str(error).split())}): write a list as key=[a,b], and "
            "quote names with special characters inside it, as in 'key=[\"a (1).png\",b.png]'"
        ) from None
    is_group = (conf / name).is_dir()
    if is_group and (parsed.is_delete() or parsed.value() is None):
        return f"{name}=[]"  # Hydra has no null for a group, and removes no list of choices
    if name in texts and parsed.is_sweep_override() and not sweeps:
        return quoted  # a comma in a name
    is_number = isinstance(parsed.value(), int | float) and not isinstance(parsed.value(), bool)
    if (is_number and name in texts) or (is_group and (is_number or isinstance(parsed.value(), bool | dict))):
        return quoted
    return parsed.input_line or argument


def _parse(argument: str) -> Override:
    return OverridesParser.create().parse_override(argument)


def _in_one_line(part: Callable[[], Any], file: Path) -> Any:
    """Run a part of Hydra's main function; end with one line if the config of `file` can't be composed."""
    try:
        return part()
    except CompactHydraException as error:
        if "HYDRA_FULL_ERROR" in os.environ:
            raise
        sys.exit(printable(f"error: {_explain(error, file)}"))


def _explain(error: HydraException, file: Path) -> str:
    """Describe why a config can't be composed; unknown keys and choices are named with those that exist."""
    text = " ".join(str(error).split())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.partition("/" if "/" in error.options[0] else "\0")
        if not choice:
            group, _, choice = group.rpartition("/")
        some = difflib.get_close_matches(choice, error.options) if len(error.options) > MAX_LISTED else error.options
        return f"unknown {group}={choice}" + (f": choose one of {', '.join(some)}" if some else "")
    if ambiguous := re.match(r"Ambiguous value for argument '(.+?)'", text):
        key, _, values = ambiguous[1].partition("=")
        return f"{ambiguous[1]} has several values: write {key}=[{values}] for a list, or add -m for runs of each"
    if text.startswith("Error merging override"):
        return f"{text.removeprefix('Error merging override ')}: {str(error.__cause__).splitlines()[0]}"
    if lost := re.search(r"Could not load '(.+)/(.+?)'", text):
        return f"unknown {lost[1]}={lost[2]}"
    unknown = re.match(r"Could not (?:override '(.+?)'|delete from config\. '(.+?)' does not exist)", text)
    if unknown is None:
        return text
    key = unknown[1] or unknown[2]
    known = _known_keys(file)
    namesakes = [one for one in known if one.count(".") == 1 and one.endswith(f".{key.rpartition('.')[2]}")]
    similar = list(dict.fromkeys([*namesakes, *difflib.get_close_matches(key, known)]))[:3]
    meant = f"similar ones are {', '.join(similar)}; " if similar else ""
    return f"unknown option {key}: {meant}--help lists the options, --cfg job those of the groups"


def _known_keys(file: Path) -> list[str]:
    """Return the keys of a command's config and of the groups that the command line chooses."""
    groups = [path.name for path in file.parent.iterdir() if path.is_dir()]
    overrides = utils.get_args_parser().parse_args().overrides
    try:
        cfg = hydra.compose(file.stem, [one for one in overrides if one.partition("=")[0] in groups])
    except HydraException:
        return groups
    return [*groups, *_keys(OmegaConf.to_container(cfg))]


def _keys(config: Any, prefix: str = "") -> Iterator[str]:
    for key, value in config.items() if isinstance(config, dict) else ():
        yield f"{prefix}{key}"
        yield from _keys(value, f"{prefix}{key}.")
