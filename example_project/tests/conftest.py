"""The demo as its users have it: a process of its own, and a browser without a window."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from html import unescape
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parent.parent
#: Of replica1, in seconds; replica2 is twice as far behind. Long enough for a page to be asked for meanwhile.
LAG = 1.0


@dataclass
class Demo:
    """A running demo.py. Every warning is an error in it, and whatever it says on stderr fails the tests."""

    process: subprocess.Popen[str]
    address: str
    errors: Path

    @property
    def port(self) -> int:
        return urllib.parse.urlsplit(self.address).port or 0

    @property
    def folder(self) -> Path:
        return PROJECT / "run" / str(self.port)

    def browser(self) -> Browser:
        return Browser(self)

    def complaints(self) -> str:
        """What it said on stderr, but for asyncio's remarks on how slow a busy machine is."""
        return re.sub(r"(?m)^Executing <.*> took \d\.\d+ seconds\n", "", self.errors.read_text())

    def end(self, by: signal.Signals = signal.SIGINT) -> int:
        """Send the signal and return the exit code."""
        self.process.send_signal(by)
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()


@dataclass
class Page:
    """What came back in the end, redirects followed."""

    status: int
    path: str
    text: str
    length: int

    def queries(self, request: str | None = None) -> list[tuple[str, str]]:
        """The bar's (alias, reason) of each query: of the page's own request, or of one before it ("POST /x/")."""
        request = request or f"GET {self.path}"
        table = re.search(rf'<table data-request="{re.escape(request)}">(.*?)</table>', self.text, re.DOTALL)
        assert table is not None, f"no bar about {request}"
        return re.findall(r'<tr data-alias="(.*?)" data-reason="(.*?)">', table[1])

    def aliases(self, request: str | None = None) -> set[str]:
        return {alias for alias, _ in self.queries(request)}

    def member(self, alias: str) -> dict[str, str]:
        """The bar's row about a database: its ``position``, how far ``behind`` it is, whether it ``serves`` the
        visitor, and the place of its ``slider``."""
        found = re.search(rf'<tr data-member="{alias}">(.*?)</tr>', self.text, re.DOTALL)
        assert found is not None, f"nothing about {alias} in the bar"
        parts = {
            "position": r'<td class="position">(?:<code title="(.*?)")?',
            "behind": r'<td class="number" data-head="behind">(.*?)<',
            "serves": r'<td class="serves".*?>(.*?)<',
            "slider": r'<input type="range" [^>]*value="(.*?)"',
        }
        row = {name: re.search(pattern, found[1]) for name, pattern in parts.items()}
        return {name: match[1] or "" for name, match in row.items() if match is not None}

    def behind(self, alias: str) -> float:
        """Seconds, as the bar has it."""
        number, unit = self.member(alias)["behind"].split()
        return float(number) / (1000 if unit == "ms" else 1)

    @property
    def visitor(self) -> tuple[str, bool]:
        """What the bar says that the visitor's token stands for, and whether they are pinned."""
        found = re.search(r'<span class="visitor-line" data-pinned="(yes|no)">\s*(.*?)\s*<', self.text, re.DOTALL)
        assert found is not None
        return unescape(found[2]), found[1] == "yes"

    @property
    def message(self) -> str:
        found = re.search(r'<p class="message[^>]*>(.*?)</p>', self.text, re.DOTALL)
        return unescape(found[1]) if found else ""


class Browser:
    """Keeps cookies and follows redirects."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.cookies = CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.cookies)
        )

    def get(self, path: str) -> Page:
        return self._open(path, None)

    def post(self, path: str, **fields: Any) -> Page:
        token = next((cookie.value for cookie in self.cookies if cookie.name == "csrftoken"), "")
        return self._open(path, urllib.parse.urlencode({"csrfmiddlewaretoken": token, **fields}).encode())

    def delay(self, alias: str, stop: int) -> Page:
        """Move a slider, and look at the boards."""
        return self.post(f"/replicas/{alias}/delay/", stop=stop, next="/boards/")

    def log_in(self) -> Browser:
        self.get("/login/")
        page = self.post("/login/", username="demo", password="demo", next="/wallet/")
        assert page.path == "/wallet/"
        return self

    def _open(self, path: str, data: bytes | None) -> Page:
        try:
            response = self.opener.open(self.demo.address.rstrip("/") + path, data, timeout=20)
        except urllib.error.HTTPError as error:
            response = error
        with closing(response):
            body = response.read()
            place = urllib.parse.urlsplit(response.url).path
            return Page(response.status, place, body.decode(), int(response.headers["Content-Length"]))


def _start(errors: Path, *arguments: str) -> Demo:
    command = [sys.executable, "-X", "dev", "-W", "error", str(PROJECT / "demo.py"), *arguments]
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd="/", start_new_session=True
        )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C" in line:
            found = re.search(r"http://\S+/", said)
            assert found, said
            return Demo(process, found[0], errors)
    process.stdout.close()
    raise AssertionError(f"demo.py ended with {process.wait()}: {said}{errors.read_text()}")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Start a demo of the test's own."""
    started: list[Demo] = []

    def start_one(*arguments: str) -> Demo:
        started.append(_start(tmp_path / f"stderr{len(started)}", "--port", "0", *arguments))
        return started[-1]

    yield start_one
    for demo in started:
        if demo.process.poll() is None:
            demo.end()
        assert demo.complaints() == ""


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for all tests that only use the site."""
    running = _start(tmp_path_factory.mktemp("demo") / "stderr", "--port", "0", "--lag", str(LAG))
    yield running
    assert running.end() == 0
    assert running.complaints() == ""


@pytest.fixture
def visitor(demo: Demo) -> Browser:
    return demo.browser()


@pytest.fixture(scope="session")
def member(demo: Demo) -> Browser:
    """Logged in as demo."""
    return demo.browser().log_in()


@pytest.fixture
def wait_until() -> Callable[..., None]:
    def wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s: {what}"
            time.sleep(0.02)

    return wait


@pytest.fixture(scope="session", autouse=True)
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the processes of these tests share: no placement that servers of other runs on the same ports have left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPLICANT_FOLDER", str(tmp_path_factory.mktemp("shared")))
        yield


@pytest.fixture(autouse=True)
def settings_of_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that a test starts use the site's settings, whatever this process's own Django uses."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "fansite.settings")
