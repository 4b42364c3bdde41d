"""An operator in a real Chromium, on the console of `avion-media dev`."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import redis
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.console.conftest import Development

WAIT_MS = 60_000
DEAD = "{media_processing_queue}:dlq"


@pytest.fixture
def page(browser: Browser, dev: Development) -> Iterator[Page]:
    """A fresh page on the console; whatever its console says, and any error of its script, fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.goto(dev.console_url)
    yield page
    context.close()
    assert not said


def bury(dev: Development, media_id: str) -> str:
    """A dead letter about this medium; its entry id."""
    letter = {"task_id": "t-1", "media_id": media_id, "type": "thumbnail", "error": "decoder_crashed", "attempts": "5"}
    letter["failed_at"] = letter["first_seen"] = f"{time.time():.3f}"
    with redis.Redis.from_url(dev.redis_url, decode_responses=True) as client:
        return str(client.xadd(DEAD, letter))


def test_a_photo_and_a_video_are_uploaded_and_seen(page: Page, data_directory: Path) -> None:
    files = [data_directory / "jpeg-orientation-6.jpg", data_directory / "mp4-h264-moov-at-end.mp4"]
    page.locator("#files").set_input_files(files)

    for file in files:
        item = page.locator("#uploads li", has_text=file.name)
        expect(item.locator(".state")).to_have_text("ready", timeout=WAIT_MS)
        pictures = item.locator("img")
        expect(pictures).to_have_count(3)
        for index in range(3):
            expect(pictures.nth(index)).to_have_js_property("complete", True)
            assert pictures.nth(index).evaluate("image => image.naturalWidth") > 0
        media_id = item.locator("a").inner_text()
        recent = page.locator(".media li", has_text=media_id)  # appears by itself
        expect(recent.locator(".state")).to_have_text("ready", timeout=WAIT_MS)

    page.locator("#uploads a").first.click()
    expect(page.locator("h1")).to_have_text(re.compile("^[0-9A-Z]{26}$"))
    expect(page.locator("section", has=page.locator("#status-title"))).to_contain_text("READY")


def test_a_file_that_is_no_medium_says_why(page: Page, data_directory: Path) -> None:
    page.locator("#files").set_input_files([data_directory / "html-named.jpg"])
    item = page.locator("#uploads li", has_text="html-named.jpg")
    expect(item.locator(".state")).to_contain_text("failed: ", timeout=WAIT_MS)
    expect(item.locator(".state")).not_to_have_text("failed: ")


def test_a_killed_subtree_is_seen_to_restart(page: Page) -> None:
    row = page.locator('tr[data-path="service/processing"]')
    before = int(row.locator("td.number").inner_text())
    row.get_by_role("button", name="Kill service/processing", exact=True).click()

    expect(page.locator(".notice")).to_have_text("The node was killed; its supervisor starts it again.")
    after = page.locator('tr[data-path="service/processing"]')
    expect(after.locator("td.number")).to_have_text(str(before + 1), timeout=WAIT_MS)
    expect(after.locator(".state")).to_have_text("running", timeout=WAIT_MS)
    expect(after.locator(".failure")).to_contain_text("Killed")


def test_a_dead_letter_is_replayed_and_another_dropped(page: Page, dev: Development) -> None:
    replayed, dropped = "01M88C0SJ305C5J3D3BYCKGCA0", "01M88C0SJ305C5J3D3BYCKGCA1"
    for media_id in (replayed, dropped):
        bury(dev, media_id)
    page.get_by_role("button", name=f"Replay {replayed}").click(timeout=WAIT_MS)  # it appears by itself
    expect(page.locator(".notice")).to_have_text("The dead letter is queued again.")
    page.get_by_role("button", name=f"Drop {dropped}").click()
    expect(page.locator(".notice")).to_have_text("The dead letter is gone.")
    with redis.Redis.from_url(dev.redis_url, decode_responses=True) as client:
        left = {letter["media_id"] for _, letter in client.xrange(DEAD) if letter.get("replays") is None}
    assert not left & {replayed, dropped}


def test_the_focus_survives_what_changes_meanwhile(page: Page, dev: Development) -> None:
    kept, changing = "01M88C0SJ305C5J3D3BYCKGCA2", "01M88C0SJ305C5J3D3BYCKGCA3"
    bury(dev, kept)
    button = page.get_by_role("button", name=f"Drop {kept}")
    button.focus(timeout=WAIT_MS)
    bury(dev, changing)
    expect(page.get_by_role("button", name=f"Drop {changing}")).to_be_visible(timeout=WAIT_MS)
    expect(button).to_be_focused()


def test_axe_finds_no_serious_fault(page: Page, dev: Development) -> None:
    letter = "01M88C0SJ305C5J3D3BYCKGCA4"
    bury(dev, letter)
    expect(page.get_by_role("button", name=f"Drop {letter}")).to_be_visible(timeout=WAIT_MS)
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        assert not faults_of(page), scheme
    page.goto(f"{dev.console_url}/media/{letter}")
    assert not faults_of(page)


def faults_of(page: Page) -> list[str]:
    violations = Axe().run(page).response["violations"]
    return [f"{each['id']}: {each['help']}" for each in violations if each["impact"] in ("serious", "critical")]


def test_it_can_be_used_without_a_mouse(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


def test_without_javascript_everything_but_the_upload_is_there(
    browser: Browser, dev: Development, data_directory: Path
) -> None:
    bury(dev, "01M88C0SJ305C5J3D3BYCKGCA5")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(dev.console_url)
    expect(page.locator("tr[data-path='service/processing/reader'] .state")).to_have_text("running")
    expect(page.locator("#queues")).to_contain_text("media_processing_queue")
    expect(page.get_by_text("avion-media upload FILE")).to_be_visible()
    expect(page.locator("#upload")).to_be_hidden()
    page.get_by_role("button", name="Drop 01M88C0SJ305C5J3D3BYCKGCA5").click()
    expect(page.locator(".notice")).to_have_text("The dead letter is gone.")
    context.close()
