"""Composing configs faster, with equal results: each test composes some, and Hydra reads all files again for each.

The configs are composed from the same few combinations of files, to which tests add values of their own.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins import file_config_source
from hydra._internal.defaults_list import DefaultsList, Overrides
from omegaconf import DictConfig, OmegaConf
from omegaconf.base import Metadata

from src.common.resolvers import ROOT

OURS = ("structured", "pkg", "rows")
"""Schemes of config sources whose files no test writes."""


def sources(repo: Any) -> tuple[str, ...] | None:
    """Return the sources that a config is composed from; None if a test may have written some of their files."""
    paths = [(source.scheme(), source.path) for source in repo.get_sources()]
    ours = all(scheme in OURS or path == str(ROOT / "conf") for scheme, path in paths)
    return tuple(path for _, path in paths) if ours else None


def copy_metadata(metadata: Metadata, memo: dict[int, Any]) -> Metadata:
    """Copy what a node of a config knows of itself: types and names, which are shared, and two dictionaries."""
    copied = copy(metadata)
    copied.flags = copy(metadata.flags)
    copied.resolver_cache = deepcopy(metadata.resolver_cache, memo)
    return copied


@contextmanager
def fast_composition() -> Iterator[None]:
    """Parse each text of a file once, and merge each combination of files once."""
    parse = cache(lambda text: OmegaConf.load(io.StringIO(text)))
    list_defaults, merge = config_loader_impl.create_defaults_list, ConfigLoaderImpl._compose_config_from_defaults_list
    listed: dict[object, DefaultsList] = {}
    merged: dict[object, DictConfig] = {}

    def create_defaults_list(repo: Any, config_name: Any, overrides_list: Any, **how: bool) -> DefaultsList:
        overrides = Overrides(repo=repo, overrides_list=overrides_list)
        values = {id(override) for override in overrides.config_overrides}
        choices = sorted(str(override.input_line) for override in overrides_list if id(override) not in values)
        if (found := sources(repo)) is None:
            return list_defaults(repo, config_name, overrides_list, **how)
        key = (found, config_name, *choices, *how.items())
        if key not in listed:
            listed[key] = list_defaults(repo, config_name, overrides_list, **how)
        same = listed[key]
        return replace(same, config_overrides=overrides.config_overrides)

    def compose(self: ConfigLoaderImpl, defaults: Any, repo: Any) -> DictConfig:
        if (found := sources(repo)) is None:
            return merge(self, defaults, repo)
        key = (found, repr(defaults))
        if key not in merged:
            merged[key] = merge(self, defaults, repo)
        return deepcopy(merged[key])

    with pytest.MonkeyPatch.context() as patch:
        load = SimpleNamespace(load=lambda file: deepcopy(parse(file.read())))
        patch.setattr(file_config_source, "OmegaConf", load)
        patch.setattr(config_loader_impl, "create_defaults_list", create_defaults_list)
        patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", compose)
        patch.setattr(Metadata, "__deepcopy__", copy_metadata, raising=False)
        yield
