"""The pages that a test opens, watched until the test ends.

Whatever a page writes to the console as a warning or an error, a violation of the content policy
for one, every exception that nobody caught and every request to anywhere but its own server is a
problem, unless the test said that it would come.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

# Generous: the machine may be busy with other tests. Nothing waits longer than it has to.
TIMEOUT_MS = 30_000


class Visits:
    """The pages that a test opens, each in a context of its own, which shares nothing with the
    others."""

    def __init__(self, browser: Browser) -> None:
        self.problems: list[str] = []
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    def __call__(self, url: str, *, expected: Sequence[str] = (), **options: Any) -> Page:
        """Open `url`; console messages that match `expected` may come. `options` are the
        context's."""
        context = self._browser.new_context(**{"reduced_motion": "reduce", **options})
        self._contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))

        def on_console(message: ConsoleMessage) -> None:
            text = f"{message.text} ({message.location.get('url', '')})"
            is_expected = any(re.search(pattern, text) for pattern in expected)
            if message.type in {"error", "warning"} and not is_expected:
                self.problems.append(f"{message.type}: {text}")

        def on_request(request: Request) -> None:
            if not request.url.startswith((f"{origin}/", "data:", f"blob:{origin}/")):
                self.problems.append(f"a request to {request.url}")

        context.on("console", on_console)
        context.on("weberror", lambda error: self.problems.append(f"uncaught: {error.error}"))
        context.on("request", on_request)
        page = context.new_page()
        page.goto(url)
        return page

    @property
    def pages(self) -> list[Page]:
        return [page for context in self._contexts for page in context.pages]

    def close(self) -> None:
        for context in self._contexts:
            context.close()
