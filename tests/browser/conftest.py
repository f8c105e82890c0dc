"""A Chromium that is installed already, and people with browsers of their own."""

import os
import shutil

import pytest


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no playwright: `make test-browser` installs it", exc_type=ModuleNotFoundError
    )
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on the PATH: `make test-browser` runs these tests where there is one")
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=as_root)
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
