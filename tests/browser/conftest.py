"""A headless Chromium, and the pages that it opens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

PHONE, DESKTOP = (390, 844), (1280, 900)


@dataclass
class Opened:
    """A page in the browser, with everything that it complained of or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def refuse(self, dialog: Dialog) -> None:
        """Close a dialog and remember what it said."""
        self.dialogs.append(dialog.message)
        dialog.dismiss()


@dataclass
class Reader:
    """Opens pages, each in a fresh context that is closed at the end."""

    browser: Browser

    @contextmanager
    def open(
        self,
        path: Path,
        *,
        size: tuple[int, int] = DESKTOP,
        scheme: Literal["light", "dark"] = "light",
    ) -> Iterator[Opened]:
        context = self.browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
        )
        page = context.new_page()
        opened = Opened(page)
        page.on("console", lambda message: opened.complaints.append(message.text))
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.on("request", lambda request: opened.requests.append(request.url))
        page.on("dialog", opened.refuse)
        page.goto(path.resolve().as_uri())
        try:
            yield opened
        finally:
            context.close()


@pytest.fixture(scope="session")
def reader() -> Iterator[Reader]:
    """Return a reader of pages, or skip where there is no Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium; on Debian: make system-deps")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make dev")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield Reader(browser)
        finally:
            browser.close()
