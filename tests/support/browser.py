"""A headless Chromium by way of chromedriver's own HTTP protocol; no client library is needed."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Without these, Chromium looks up its maker's hosts at every start.
SWITCHES = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1280,900"
).split()


def missing() -> str | None:
    """Why no browser can be driven here, or None."""
    names = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(names)} not installed (apt install chromium chromium-driver)" if names else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Browser:
    """One window."""

    def __init__(self, server: str, profile: Path) -> None:
        options = {"args": [*SWITCHES, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        capabilities = {"browserName": "chrome", "goog:chromeOptions": options}
        self._server = server
        session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self._session = f"/session/{session['sessionId']}"

    def open(self, url: str) -> None:
        self._call("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        return self._call("POST", f"{self._session}/execute/sync", {"script": script, "args": list(arguments)})

    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def url(self) -> str:
        return str(self._call("GET", f"{self._session}/url"))

    def wait_for(self, words: str, seconds: float = 20.0) -> str:
        """Wait until the page shows some words; returns its whole text."""
        until = time.monotonic() + seconds
        while words not in (text := self.text()):
            assert time.monotonic() < until, f"no {words!r} after {seconds} s in: {text[:2000]}"
            time.sleep(0.1)
        return text

    def wait_until(self, script: str, seconds: float = 20.0) -> Any:
        """Wait until a script returns something true, and return that."""
        until = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < until, f"{script} is not true after {seconds} s: {self.text()[:2000]}"
            time.sleep(0.1)
        return found

    def click(self, selector: str, words: str = "") -> None:
        """Click the first shown element of a CSS selector that has these words."""
        script = (
            "const found = [...document.querySelectorAll(arguments[0])].find(e => e.offsetParent !== null && "
            "(e.innerText || '').includes(arguments[1])); if (found) { found.scrollIntoView({block: 'center'}); "
            "found.click(); } return Boolean(found)"
        )
        until = time.monotonic() + 20.0
        while not self.run(script, selector, words):
            assert time.monotonic() < until, f"nothing to click: {selector} {words!r} in {self.text()[:2000]}"
            time.sleep(0.1)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot")))

    def close(self) -> None:
        self._call("DELETE", self._session)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._server + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()[:2000]) from error


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with an empty profile below a folder."""
    port = free_port()
    command = [str(shutil.which("chromedriver")), f"--port={port}", "--log-level=OFF"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < until, "chromedriver does not answer"
                time.sleep(0.1)
        window = Browser(f"http://127.0.0.1:{port}", folder / "profile")
        try:
            yield window
        finally:
            window.close()
    finally:
        driver.terminate()
        driver.wait()
