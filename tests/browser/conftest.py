"""A Chromium that is installed already, and people with browsers of their own."""

import importlib.util
import os
import shutil
from functools import cache

import pytest


@cache
def chromium_path():
    """None where there is no Chromium on the PATH."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def pytest_collection_modifyitems(items):
    """Skip by a mark, not in a fixture: pytest then says the reason once a file, not once a test."""
    if importlib.util.find_spec("playwright") is None:
        reason = "no playwright: `make test-browser` installs it"
    elif chromium_path() is None:
        reason = "no Chromium on the PATH"
    else:
        return
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium_path(), args=as_root)
        yield browser
        browser.close()


@pytest.fixture
def person(chromium):
    """A function that gives a browser of somebody's own, which keeps things for them."""
    contexts = []

    def person(**device):
        contexts.append(chromium.new_context(**device))
        contexts[-1].set_default_timeout(60_000)
        return contexts[-1]

    yield person
    for context in contexts:
        context.close()
