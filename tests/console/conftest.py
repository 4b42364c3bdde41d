"""`avion-media dev`, as `make demo` runs it, and a real Chromium."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.service.harness import eventually
from tests.services.process import require

START_S = 90.0
expect.set_options(timeout=30_000)  # an action is one request, and some take seconds on a busy machine
WIDTHS: Final = (1366, 768, 360)
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
_AXE: Final[dict[str, dict[str, list[str]]]] = {
    "light": {"resultTypes": ["violations"]},
    "dark": {"resultTypes": ["violations"], "runOnly": ["color-contrast", "link-in-text-block"]},
}
_ANNOUNCED = re.compile(
    r"Redis (?P<redis>redis://\S+).*Console: http://(?P<admin>\S+)/console\n *export (?P<exports>[^\n]+)\n", re.DOTALL
)


@dataclass(frozen=True)
class Development:
    """A running `avion-media dev`."""

    admin_url: str
    redis_url: str
    exported: dict[str, str]
    """What points the commands to it."""
    pid: int

    @property
    def console_url(self) -> str:
        """The page."""
        return f"{self.admin_url}/console"


@contextmanager
def development(program: str = "avion_media") -> Iterator[Development]:
    """Start it on free ports; stop it as Ctrl-C does. ``program``: the module that is run."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AVION_MEDIA_", "OTEL_", "AWS_")) and not name.upper().endswith("_PROXY")
    }
    with tempfile.TemporaryDirectory(prefix="avion-console-") as directory:
        log = Path(directory) / "dev.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", program, "dev", "--free-ports"],
                stdout=output,
                stderr=output,
                env=inherited,
                start_new_session=True,
            )
        try:

            def announced() -> re.Match[str] | None:
                assert process.poll() is None, log.read_text()
                text = log.read_text()
                return _ANNOUNCED.search(text)

            found = eventually(announced, "dev to announce its console", START_S)
            exported = dict(word.split("=", 1) for word in found["exports"].split())
            yield Development(f"http://{found['admin']}", found["redis"], exported, process.pid)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                assert process.wait(timeout=40) == 0, log.read_text()
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def assert_fits_and_is_accessible(page: Page) -> None:
    """At each width, in both schemes. Without script axe runs at the smallest one: the markup is nearly the same.

    The dark scheme changes colours only, so only axe's rules about colours look at it.
    """
    has_script = page.evaluate("document.documentElement.classList.contains('js')")
    page.evaluate(AXE_SCRIPT)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (page.url, width)
        for scheme in SCHEMES if has_script or width == WIDTHS[-1] else ():
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            violations = page.evaluate("async options => (await axe.run(options)).violations", _AXE[scheme])
            found = [f"{each['id']}: {node['html'][:200]}" for each in violations for node in each["nodes"]]
            assert not found, (page.url, width, scheme)


@pytest.fixture(scope="module")
def dev() -> Iterator[Development]:
    """One service for all tests of a module. Its live pages change often, so that no test waits for them."""
    with development("tests.console.quick_dev") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Its own sandbox does not work as root; the pages are ours."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=require("chromium", "chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()
