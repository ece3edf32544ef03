"""Shared by the tests of the page."""

import pytest
from playwright.sync_api import sync_playwright

import browser


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server for all tests that are visitors."""
    database = tmp_path_factory.mktemp("feedback") / "feedback.sqlite3"
    settings = {"DIGITS_MAX_VISITORS": "60", "DIGITS_PROXIES": "127.0.0.1"}
    with browser.voila(DIGITS_FEEDBACK_URL=f"sqlite:///{database}", **settings) as running:
        running.database, running.port = database, int(running.url.rsplit(":")[-1].strip("/"))
        yield running


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium for a module's tests."""
    with sync_playwright() as playwright:
        opened = browser.launch(playwright)
        yield opened
        opened.close()
