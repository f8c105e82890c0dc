"""An installed Chromium, and separate browser contexts for several people."""

import importlib.util
import os
import shutil
from functools import cache

import pytest


@cache
def chromium_path():
    """Return the path of Chromium; None if it is not on the PATH."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def pytest_collection_modifyitems(items):
    """Skip by a mark instead of a fixture: pytest then reports the reason once per file, not once per test."""
    if importlib.util.find_spec("playwright") is None:
        reason = "Playwright is not installed: pip install -c constraints.txt -e '.[browser]'"
    elif chromium_path() is None:
        reason = "Chromium is not on the PATH"
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
    """Return a function that opens a browser context of its own, with its own storage."""
    contexts = []

    def person(**device):
        contexts.append(chromium.new_context(**device))
        contexts[-1].set_default_timeout(60_000)
        return contexts[-1]

    yield person
    for context in contexts:
        context.close()
