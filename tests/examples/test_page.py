"""The page with Uppy in a real Chromium that loses its connection in the middle of each upload.

`make test` makes a few uploads. All twenty, with videos of 60 MB:

    AVION_PAGE_UPLOADS=20 make test PYTEST=tests/examples/test_page.py
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.console.conftest import browser
from tests.examples.client import published
from tests.examples.conftest import GATEWAYS, Secured

__all__ = ["browser"]  # a fixture

WAIT_MS = 60_000
PART_BYTES = 8 << 20
UPLOADS = int(os.environ.get("AVION_PAGE_UPLOADS", "3"))
FILM_BYTES = 60_000_000 if UPLOADS > 3 else 18_000_000  # eight parts, or three
SEED = 20


@pytest.fixture(scope="module")
def addresses(secured: Secured) -> Iterator[list[str]]:
    """Those of the three gateways, over the line."""
    assert secured.service.run_cli("init").returncode == 0  # for the CORS rule
    with ExitStack() as stack:
        yield [secured.line.to(stack.enter_context(secured.gateway(kind))) for kind in GATEWAYS]


@pytest.fixture(scope="module")
def photo(addresses: list[str], data_directory: Path) -> bytes:
    """A photo as it is served: there is nothing private in it that would be removed again."""
    with httpx.Client(base_url=addresses[0], trust_env=False, verify=False, timeout=30) as gateway:
        return published(gateway, "photo.jpg", "image/jpeg", (data_directory / "jpeg-orientation-6.jpg").read_bytes())


@pytest.fixture(scope="module")
def film(addresses: list[str], data_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A video of about that size, likewise: a clip over and over."""
    clip, film = data_directory / "mp4-h264-faststart.mp4", tmp_path_factory.mktemp("film") / "film.mp4"
    loops = str(FILM_BYTES // clip.stat().st_size)
    command = ["ffmpeg", "-v", "error", "-y", "-stream_loop", loops, "-i", str(clip), "-c", "copy", str(film)]
    subprocess.run(command, check=True, timeout=60)
    with httpx.Client(base_url=addresses[0], trust_env=False, verify=False, timeout=60) as gateway:
        return published(gateway, "film.mp4", "video/mp4", film.read_bytes())


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page; what its scripts throw fails the test."""
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: print(message.text))
    yield page
    page.context.close()
    assert errors == []


@pytest.mark.parametrize("number", range(UPLOADS))
def test_an_upload_goes_on_where_the_connection_was_lost(
    number: int, secured: Secured, addresses: list[str], page: Page, photo: bytes, film: bytes, tmp_path: Path
) -> None:
    line, chance = secured.line, random.Random(SEED + number)
    sent = {"photo.jpg": photo, "film.mp4": film}
    for name, body in sent.items():
        (tmp_path / name).write_bytes(body)
    on_their_way: set[Request] = set()
    page.on("request", lambda request: on_their_way.add(request) if request.method == "PUT" else None)
    page.on("requestfinished", lambda request: on_their_way.discard(request))
    page.on("requestfailed", lambda request: on_their_way.discard(request))
    page.goto(addresses[number % len(addresses)])
    line.whole.clear()

    line.cut_after(chance.randrange(1, sum(map(len, sent.values()))))
    page.locator("#files").set_input_files([tmp_path / name for name in sent])
    assert line.lost.wait(60)
    if number % 2 == 0:  # the browser notices; else each request fails
        page.context.set_offline(True)
    page.evaluate("0")  # Playwright tells of requests only while it is called
    while on_their_way:  # Chromium itself repeats a request that found its connection closed
        page.wait_for_event("requestfailed")
    line.restore()
    page.context.set_offline(False)

    for name, body in sent.items():
        row = page.locator("li", has_text=name)
        expect(row.locator("output")).to_have_text("READY", timeout=WAIT_MS)
        thumbnail = row.locator("img")
        expect(thumbnail).to_have_js_property("complete", True)
        assert thumbnail.evaluate("image => image.naturalWidth") > 0
        media_id = str(thumbnail.get_attribute("src")).rpartition("/")[2]
        assert secured.service.get(f"/media/{media_id}").content == body
    parts = {number: times for (path, number), times in line.whole.items() if number and path.endswith(media_id)}
    assert set(parts.values()) == {1}, parts
    assert len(parts) == -(-len(sent["film.mp4"]) // PART_BYTES), parts


def test_a_file_that_cannot_be_published_has_a_sentence(addresses: list[str], page: Page, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("plain")
    page.goto(addresses[0])
    page.locator("#files").set_input_files(tmp_path / "text.png")
    expect(page.locator("output")).to_have_text("FAILED: This type of file is not supported.", timeout=WAIT_MS)
