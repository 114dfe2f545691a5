"""The browser that is installed. CI has one; elsewhere what needs it is skipped without."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def chromium() -> Iterator:
    """Playwright's browser."""
    if not CHROMIUM:
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", "--in-process-gpu"])
        yield running
        running.close()


def hear(page, heard: dict[str, Callable]) -> None:
    """Call functions at events of a page, until it is left."""
    for event, function in heard.items():
        page.on(event, function)


def leave(page, heard: dict[str, Callable]) -> None:
    """Leave a page as a new one is, which takes Chromium a second of work."""
    for event, function in heard.items():
        page.remove_listener(event, function)
    page.mouse.move(0, 0)
    page.goto("about:blank")
