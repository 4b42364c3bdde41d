"""An operator in a real Chromium, on the console of `avion-media dev`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import redis
from playwright.sync_api import Browser, Page, expect

from tests.console.conftest import Development, assert_fits_and_is_accessible
from tests.remote_ids import remote_id_for
from tests.service.commands import run_command
from tests.service.harness import eventually
from tests.service.published import unfinished

WAIT_MS = 60_000
DEAD = "{media_processing_queue}:dlq"
IDS = [f"01M88C0SJ305C5J3D3BYCKGC{number:02d}" for number in range(60)]
HELD = [f"01M88C0SJ305C5J3D3BYCKGD{number:02d}" for number in range(3)]
REVIEWED = [f"01M88C0SJ305C5J3D3BYCKGF{number:02d}" for number in range(80)]
BLOCKED = "01M88C0SJ305C5J3D3BYCKGE00"
REMOTE = remote_id_for("https://remote.example/a.jpg")
MAX_PAGE_BYTES = 44 * 1024
MANY, RATE = 2_000, 300
HOLD_NEXT_REQUEST = """() => {
    const { fetch } = window;
    const held = new Promise((letGo) => { window.letGo = letGo; });
    window.fetch = (...request) => {
        window.fetch = fetch;
        return held.then(() => fetch(...request));
    };
}"""
RECEIVED = """text => new Promise(found => {
    const events = new EventSource("/console/live?page=dead-letters");
    events.addEventListener("region", ({ data }) => JSON.parse(data).html.includes(text) && found(true));
})"""


@pytest.fixture(scope="module")
def redis_of_dev(dev: Development) -> Iterator[redis.Redis]:
    """The Redis of `dev`."""
    with redis.Redis.from_url(dev.redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def page(browser: Browser, dev: Development, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A fresh page on the console; whatever its console says, and any error of its script, fails the test.

    The sign of a live page beats: painting it takes more of the processor than all else that a page at rest does.
    Without script the page's own files are empty: axe is a script as well, and hangs where there are none.
    """
    context = browser.new_context(viewport={"width": 1366, "height": 800}, reduced_motion="reduce")
    if not getattr(request, "param", True):
        context.route("**/*.js*", lambda route: route.fulfill(content_type="text/javascript", body=""))
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    yield page
    context.close()
    assert not [each for each in said if "status of 404" not in each]


@pytest.fixture
def letters(redis_of_dev: redis.Redis) -> Iterator[list[str]]:
    """Thirty dead letters of two reasons, on two pages; their keys, oldest first."""
    redis_of_dev.delete(DEAD)
    yield [
        add_dead_letter(
            redis_of_dev, media_id, "poison: 3 workers crashed with it" if at % 3 else "internal: KeyError: 'colr'"
        )
        for at, media_id in enumerate(IDS[:30])
    ]
    redis_of_dev.delete(DEAD)


@dataclass(frozen=True)
class Objects:
    """The bucket of `dev`."""

    client: Any
    bucket: str

    def put(self, key: str, body: bytes | dict[str, Any]) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data, ContentType="image/jpeg")

    def has(self, key: str) -> bool:
        return any(each["Key"] == key for each in self._listed(key))

    def own_entries(self, digest: str) -> int:
        """Return the number of own entries with this hash."""
        pages = [each["Key"] for each in self._listed("blocklist/own/")]
        bodies = [self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read().decode() for key in pages]
        return "".join(bodies).count(digest)

    def remove(self, prefix: str) -> None:
        for each in self._listed(prefix):
            self.client.delete_object(Bucket=self.bucket, Key=each["Key"])

    def _listed(self, prefix: str) -> list[Any]:
        return list(self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", ()))


@pytest.fixture
def moderated(dev: Development, redis_of_dev: redis.Redis, data_directory: Path) -> Iterator[Objects]:
    """Three held media with their evidence, a medium that is blocked, and an own entry."""
    exported = dev.exported
    client = boto3.client(
        "s3",
        endpoint_url=exported["AVION_MEDIA_S3__ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id=exported["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=exported["AWS_SECRET_ACCESS_KEY"],
    )
    objects = Objects(client, "avion-media")
    picture = (data_directory / "jpeg-gray.jpg").read_bytes()
    for number, media_id in enumerate(HELD):
        task = {"media_id": media_id, "type": "thumbnail"}
        match = f"pdq {'ab' * 32} of list own (an advert) at distance {number}"
        held = {"media_id": media_id, "at": f"2026-11-2{number}T08:00:00.000+00:00", "match": match, "pdq": ""}
        objects.put(f"quarantine/{media_id}/incoming", picture)
        objects.put(f"quarantine/{media_id}/preview", picture)
        objects.put(f"moderation/held/{media_id}", {**held, "queue": "media_processing_queue", "fields": task})
    blocked = {"media_id": BLOCKED, "at": "2026-11-20T08:00:00.000+00:00", "by": "ada", "note": "report 4711"}
    blocked["source"] = "owner/alice"
    objects.put(f"moderation/blocked/{BLOCKED}", {**blocked, "state": "removed"})
    objects.put("blocklist/own/00.csv", f"sha256,{'ab' * 32},an advert\n".encode())
    objects.put(f"owner/alice/{IDS[0]}.7", b"")
    redis_of_dev.set("media_blocks:changes", "another")  # as after any change of a list
    yield objects
    for prefix in ("moderation/", "quarantine/", "blocklist/", "owner/"):
        objects.remove(prefix)
    client.close()


def add_dead_letter(client: redis.Redis, media_id: str, error: str = "internal: x") -> str:
    """A dead letter about this medium; its key in the console."""
    dead_letter: dict[Any, Any] = {
        "task_id": "t-1",
        "media_id": media_id,
        "type": "thumbnail",
        "error": error,
        "attempts": "5",
    }
    dead_letter["failed_at"] = dead_letter["first_seen"] = f"{time.time():.3f}"
    entry_id: Any = client.xadd(DEAD, dead_letter)
    return f"media_processing_queue/{entry_id}"


PATHS = (
    "",
    "/queues",
    "/dead-letters",
    "/dead-letters?each=1",
    "/media?kind=image&owner=ada&since=2026-11-01",
    "/media?q=owner:alice&view=list",
    f"/media/{IDS[0]}",
    f"/media/{HELD[0]}",
    f"/media/{BLOCKED}",
    f"/media/{REMOTE}",
    "/moderation",
    f"/moderation?q={'ab' * 32}",
    f"/moderation?part=lists&q={BLOCKED}",
    "/moderation?part=blocked",
    "/moderation?part=blocked&source=owner/alice",
    "/review",
    "/moderation?part=hosts",
    "/system",
    "/audit",
    "/confirm?action=drop&all=1&reason=poison",
    "/confirm?action=replay_all&reason=poison",
    f"/confirm?action=block&target={HELD[0]}",
    f"/confirm?action=unblock&target={BLOCKED}",
    "/nothing",
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", [True, False], ids=["script", "no script"], indirect=True)
@pytest.mark.usefixtures("letters", "moderated")
def test_every_page_fits_every_width_and_axe_finds_nothing(page: Page, dev: Development) -> None:
    """All in one context, because a new one costs as much as the look at a page."""
    for path in PATHS:
        response = page.goto(dev.console_url + path)
        assert response is not None
        assert len(response.body()) <= MAX_PAGE_BYTES, path
        assert "unsafe" not in response.headers["content-security-policy"], path
        assert_fits_and_is_accessible(page)


def test_lanes_stay_open_and_the_menu_of_replicas_closes(page: Page, dev: Development) -> None:
    page.goto(f"{dev.console_url}/queues")
    lanes = page.locator("#media_processing_queue details")
    lanes.locator("summary").click()
    expect(lanes.locator(".lanes")).to_contain_text("Videos, at most")
    expect(lanes.locator("tbody tr")).to_contain_text("Ready", timeout=WAIT_MS)
    menu = page.locator("details.menu:not(.account)")
    menu.locator("summary").click()
    expect(menu.locator("li")).to_contain_text("this one", timeout=WAIT_MS)
    page.keyboard.press("Escape")
    expect(menu).not_to_have_attribute("open", "")
    expect(menu.locator("summary")).to_be_focused()
    expect(lanes).to_have_attribute("open", "")
    assert_fits_and_is_accessible(page)


def test_without_javascript_everything_but_the_upload_works(
    browser: Browser, dev: Development, redis_of_dev: redis.Redis, letters: list[str]
) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 360, "height": 800})
    page = context.new_page()
    page.goto(dev.console_url)
    expect(page.get_by_text("avion-media upload FILE")).to_be_visible()
    expect(page.locator("#upload")).to_be_hidden()
    for title in ("Queues", "Media", "Moderation", "System", "Audit", "Dead letters"):
        page.get_by_role("navigation", name="Console").get_by_role("link", name=title).click()
        expect(page.locator("h1")).to_have_text(title)
    page.get_by_role("searchbox", name="Search dead letters").fill("colr")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="10 tasks", exact=True).click()
    for key in letters[0:6:3]:
        page.locator(f"input[value='{key}']").check()
    expect(page.locator(".bulk")).to_be_visible()
    page.locator(".bulk").get_by_role("button", name="Drop").click()
    expect(page.locator("h1")).to_have_text("Drop 2 dead letters?")
    page.get_by_label("Type 2 to confirm").fill("2")
    page.get_by_role("button", name="Drop").click()
    expect(page.locator(".flash")).to_contain_text("2 dead letters are dropped.")
    expect(page.get_by_role("searchbox", name="Search dead letters")).to_have_value("colr")
    assert redis_of_dev.xlen(DEAD) == 28
    context.close()


def test_search_selection_and_confirmation_need_only_the_keyboard(
    page: Page, dev: Development, redis_of_dev: redis.Redis, letters: list[str]
) -> None:
    page.goto(f"{dev.console_url}/dead-letters?each=1")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Search dead letters")).to_be_focused()
    expect(page.locator("kbd:visible")).to_have_count(1)  # in the field that the key reaches
    expect(page.locator("label", has=page.locator("kbd:visible"))).to_have_count(1)
    page.keyboard.type("colr")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(10)
    tab_to(page, "Select all on this page")
    page.keyboard.press("Space")
    expect(page.locator("tbody input:checked")).to_have_count(10)
    tab_to(page, "Drop…")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Drop 10 dead letters?")
    expect(dialog.get_by_role("link", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name="Drop…")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    page.keyboard.press("Shift+Tab")
    expect(dialog.get_by_label("Type 10 to confirm")).to_be_focused()
    page.keyboard.type("10")
    page.keyboard.press("Enter")
    expect(page.locator(".flash")).to_contain_text("10 dead letters are dropped.")
    assert redis_of_dev.xlen(DEAD) == 20


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the part of this name has the focus."""
    for _ in range(100):
        page.keyboard.press("Tab")
        focused = page.evaluate("(document.activeElement.ariaLabel ?? document.activeElement.textContent).trim()")
        if focused == name:
            return
    raise AssertionError(f"Tab never comes to {name}")


def test_live_updates_move_nothing_and_wait_for_a_selection_and_a_dialog(
    page: Page, dev: Development, redis_of_dev: redis.Redis, letters: list[str]
) -> None:
    page.goto(f"{dev.console_url}/dead-letters?each=1")
    pill, count = page.locator(".fresh"), page.locator(".side [href$=dead-letters] .count")
    expect(count).to_have_text("30", timeout=WAIT_MS)
    first_row = page.locator("tbody tr").first
    shown = first_row.inner_text()
    button = first_row.get_by_role("button", name="Replay")
    details = first_row.locator("details")
    details.locator("summary").click()
    button.focus()
    page.evaluate("scrollTo(0, 250)")
    place = "document.activeElement.getBoundingClientRect().top"
    top = page.evaluate(place)
    add_dead_letter(redis_of_dev, IDS[40])
    expect(pill).to_have_text("1 new", timeout=WAIT_MS)
    expect(count).to_have_text("31", timeout=WAIT_MS)
    expect(button).to_be_focused()
    expect(details).to_have_attribute("open", "")
    assert page.evaluate(place) == pytest.approx(top, abs=1)  # what is read stays where it is
    assert first_row.inner_text().startswith(shown.split("\n")[0])

    first_row.get_by_role("checkbox").check()
    with page.expect_response("**/console/confirm*"):
        page.locator(".bulk").get_by_role("button", name="Drop").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    add_dead_letter(redis_of_dev, IDS[41])
    assert page.evaluate(RECEIVED, ">32<")  # the server sends it, also to this page
    expect(count).to_have_text("31")
    page.keyboard.press("Escape")
    expect(count).to_have_text("31")  # a row is selected still
    first_row.get_by_role("checkbox").uncheck()
    expect(count).to_have_text("32", timeout=WAIT_MS)


def test_a_letter_is_replayed_at_once_and_the_other_browser_sees_it(
    page: Page, dev: Development, letters: list[str]
) -> None:
    other = page.context.new_page()
    other.goto(dev.console_url)
    page.goto(f"{dev.console_url}/dead-letters?each=1")
    page.locator("tbody tr").first.get_by_role("button", name="Replay").click()
    expect(page.locator(".flash")).to_contain_text("1 dead letter is queued again.")
    page.get_by_role("link", name="Audit log").click()
    expect(page.locator("tbody tr").first).to_contain_text("Replay")
    expect(other.locator(".side [href$=dead-letters] .count")).to_have_text("29", timeout=WAIT_MS)


def test_after_an_action_the_page_stays_where_it_was(
    page: Page, dev: Development, redis_of_dev: redis.Redis, letters: list[str]
) -> None:
    page.goto(f"{dev.console_url}/dead-letters?each=1")
    page.evaluate("document.documentElement.dataset.same = 'yes'")
    read, rows = page.locator("tbody tr").nth(10), page.locator("tbody tr")
    key = read.get_attribute("data-key")
    read.locator("summary").click()
    replay = rows.nth(12).get_by_role("button", name="Replay")
    replay.scroll_into_view_if_needed()
    place = f"document.querySelector('tr[data-key=\"{key}\"]').getBoundingClientRect().top"
    top = page.evaluate(place)
    replay.click()
    expect(page.locator(".toasts .flash")).to_contain_text("1 dead letter is queued again.")
    expect(rows).to_have_count(25)
    assert page.evaluate(place) == pytest.approx(top, abs=1)
    expect(read.locator("details")).to_have_attribute("open", "")
    assert page.evaluate("document.documentElement.dataset.same") == "yes"  # it was not loaded again

    page.get_by_role("link", name="Older").click()
    expect(rows).to_have_count(4)
    address = page.url
    rows.nth(2).get_by_role("button", name="Drop").click()
    page.get_by_role("dialog").get_by_role("button", name="Drop").click()
    expect(page.locator(".toasts .flash")).to_contain_text("1 dead letter is dropped.")
    expect(rows).to_have_count(3)
    assert page.url == address
    assert redis_of_dev.xlen(DEAD) == 28


def test_a_folded_row_acts_on_the_same_errors_only(
    page: Page, dev: Development, redis_of_dev: redis.Redis, letters: list[str]
) -> None:
    page.goto(f"{dev.console_url}/dead-letters")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(2)
    row = rows.filter(has_text="KeyError: 'colr'")
    expect(row.locator("th")).to_contain_text("Every attempt failed because of a bug in this service")
    expect(row).to_contain_text("10 tasks")
    row.get_by_role("link", name="Drop 10 tasks with this error").click()
    dialog = page.get_by_role("dialog", name="Drop 10 dead letters?")
    dialog.get_by_label("Type 10 to confirm").fill("10")
    dialog.get_by_role("button", name="Drop").click()
    expect(page.locator(".toasts .flash")).to_contain_text("10 dead letters are dropped.")
    expect(rows).to_have_count(1)
    assert redis_of_dev.xlen(DEAD) == 20


def test_a_chart_shows_the_value_under_the_pointer_and_the_search_is_on_a_phone(page: Page, dev: Development) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"{dev.console_url}/system")
    expect(page.get_by_role("searchbox", name="Find media")).to_be_visible()
    chart = page.locator("[data-key=memory] .plot")
    expect(chart.locator(".upper")).to_contain_text("MiB")
    expect(page.locator("[data-key=memory] .axis span")).to_have_count(3)
    for each in page.locator("[data-key=memory] .axis span").all():
        expect(each).to_be_visible()
    expect(page.locator(".under")).to_be_hidden()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 10)
    expect(page.locator(".under")).to_have_text(re.compile(r"^\d\d:\d\d UTC: [\d.]+ MiB$"))
    page.mouse.move(1, 1)
    expect(page.locator(".under")).to_be_hidden()


@pytest.fixture
def queue_of_its_own(redis_of_dev: redis.Redis) -> Iterator[None]:
    """Whatever the test leaves in the queue, its pause as well, is gone afterwards."""
    yield
    redis_of_dev.delete(*redis_of_dev.keys("*media_processing_queue*"))


@pytest.mark.usefixtures("queue_of_its_own")
def test_two_thousand_are_replayed_at_a_rate_paused_and_resumed_and_the_other_browser_sees_it(
    page: Page, browser: Browser, dev: Development, redis_of_dev: redis.Redis
) -> None:
    redis_of_dev.delete(DEAD)
    with redis_of_dev.pipeline(transaction=False) as pipeline:
        for number in range(MANY):
            add_dead_letter(pipeline, f"01M88C0SJ305C5J3D3B{number:07d}")
        pipeline.execute()
    other = browser.new_context(reduced_motion="reduce").new_page()
    other.goto(f"{dev.console_url}/queues")
    job = other.locator("[data-key='processing.replay']")
    state, done = job.locator(".badge"), job.locator("[data-label=done]")
    page.goto(f"{dev.console_url}/queues")
    page.get_by_role("link", name="Pause media_processing_queue").click()  # nobody shall work on what comes back
    page.get_by_role("dialog").get_by_label("Note").fill("CDN maintenance")
    page.get_by_role("dialog").get_by_label("Ends by itself").select_option("After 4 hours")
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(page.locator(".flash")).to_contain_text("1 queue is paused")
    note = page.locator("#media_processing_queue .note").first
    expect(note).to_contain_text("CDN maintenance", timeout=WAIT_MS)
    expect(note).to_contain_text("by itself")
    page.goto(f"{dev.console_url}/dead-letters")

    page.get_by_role("link", name="Replay all…", exact=True).click()
    page.get_by_role("dialog").get_by_label("How many per second").fill(str(RATE))
    began = time.monotonic()
    page.get_by_role("dialog").get_by_role("button", name="Begin").click()
    expect(page.locator(".flash")).to_contain_text("1 queue is replayed in bulk")
    page.get_by_role("link", name="Bulk jobs").click()
    expect(state).to_have_text("Running", timeout=WAIT_MS)
    eventually(lambda: redis_of_dev.xlen(DEAD) < MANY, "the first to be replayed")
    page.get_by_role("button", name="Pause processing.replay").click()
    expect(page.locator(".flash")).to_contain_text("1 job is paused")
    paused = time.monotonic()
    expect(state).to_have_text("Paused", timeout=WAIT_MS)
    expect(done).not_to_have_text("0", timeout=WAIT_MS)
    count = other.locator(".side [href$=dead-letters] .count")
    # The pause lets the step that runs come to its end, so the number may still fall.
    eventually(
        lambda: count.inner_text() == f"{redis_of_dev.xlen(DEAD):,}", "the other browser to see how many are left"
    )
    assert 0 < redis_of_dev.xlen(DEAD) < MANY

    page.get_by_role("button", name="Resume processing.replay").click()
    resumed = time.monotonic()
    expect(state).to_have_text("Done", timeout=WAIT_MS)
    assert (
        time.monotonic() - resumed + paused - began > MANY / RATE - 3
    )  # each time it may begin with those of a second
    expect(done).to_have_text(f"{MANY:,}")
    expect(count).to_have_count(0, timeout=WAIT_MS)
    assert redis_of_dev.xlen(DEAD) == 0
    assert sum(unfinished(redis_of_dev, ["media_processing_queue"]).values()) == MANY
    other.context.close()


def test_a_photo_and_a_video_are_uploaded_seen_deleted_undeleted_blocked_and_unblocked(
    page: Page, dev: Development, data_directory: Path
) -> None:
    page.goto(dev.console_url)
    files = [data_directory / "jpeg-orientation-6.jpg", data_directory / "mp4-h264-moov-at-end.mp4"]
    page.locator("#files").set_input_files(files)
    for file in files:
        item = page.locator("#uploads li", has_text=file.name)
        expect(item.locator(".badge")).to_have_text("ready", timeout=WAIT_MS)
        pictures = item.locator("img")
        expect(pictures).to_have_count(3)
        for index in range(3):
            expect(pictures.nth(index)).to_have_js_property("complete", True)
            assert pictures.nth(index).evaluate("image => image.naturalWidth") > 0
        media_id = item.locator("a").inner_text()
        expect(page.locator(f".strip [data-key='{media_id}'] img")).to_be_visible(timeout=WAIT_MS)  # appears by itself

    page.locator("#uploads a").first.click()
    expect(page.locator("h1")).to_have_text(re.compile("^[0-9A-Z]{26}$"))
    expect(page.locator(".title .badge")).to_have_text("Ready")
    attempts = page.locator(".timeline li", has_text="Attempt 1 of the processing queue: done")
    reload_until(page, lambda: attempts.count() == 1)
    expect(attempts.locator(".spans")).to_contain_text("Read from the store")
    page.get_by_role("button", name="Process again").click()
    expect(page.locator(".toasts .flash")).to_contain_text("1 media item is queued: the thumbnails are made again")
    reload_until(page, lambda: attempts.count() == 2)
    page.get_by_role("link", name="Delete…").click()
    dialog = page.get_by_role("dialog", name="Delete this media item?")
    dialog.get_by_role("button", name="Delete").click()
    expect(page.locator(".flash")).to_contain_text("1 media item is being deleted")
    reload_until(page, lambda: page.locator(".title .badge").inner_text() == "Deleted")
    page.get_by_role("button", name="Undelete").click()
    expect(page.locator(".flash")).to_contain_text("1 media item is served again.")
    expect(page.locator(".title .badge")).to_have_text("Ready")
    page.get_by_role("link", name="Block…").click()
    dialog = page.get_by_role("dialog", name="Block this media item?")
    expect(dialog.get_by_label("Note")).to_be_focused()
    page.keyboard.press("Enter")  # without a note, which is optional
    expect(page.locator(".flash")).to_contain_text("1 media item is blocked, with the known copies.")
    expect(page.locator(".banner strong")).to_have_text("Blocked by a moderator.")
    page.get_by_role("link", name="Unblock…").click()
    dialog = page.get_by_role("dialog", name="Unblock this media item?")
    dialog.get_by_label("Note").fill("appeal 12")
    dialog.get_by_role("button", name="Unblock").click()
    expect(page.locator(".flash")).to_contain_text("1 media item is not blocked any more. Note: appeal 12")
    expect(page.locator("[aria-labelledby=moderation]")).to_contain_text("appeal 12")  # its record has it


def reload_until(page: Page, reached: Callable[[], bool]) -> None:
    """Load the page of an item, which is not live, until a worker has done something."""
    for _ in range(50):
        if reached():
            return
        page.wait_for_timeout(100)
        page.reload()
    raise AssertionError(page.locator("main").inner_text())


def test_a_file_that_is_no_medium_says_why(page: Page, dev: Development, data_directory: Path) -> None:
    page.goto(dev.console_url)
    page.locator("#files").set_input_files([data_directory / "html-named.jpg"])
    item = page.locator("#uploads li", has_text="html-named.jpg")
    expect(item.locator(".badge")).to_contain_text("failed: unsupported_type", timeout=WAIT_MS)
    page.goto(f"{dev.console_url}/media?state=failed&q=unsupported")
    expect(page.locator(".tile .reason").first).to_contain_text("The file type is known, but it is not supported")


def test_held_media_are_looked_at_released_and_blocked(page: Page, dev: Development, moderated: Objects) -> None:
    page.goto(f"{dev.console_url}/moderation")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    first = page.locator(f"#held-{HELD[0]}")
    expect(first).to_contain_text("of list own (an advert) at distance 0")  # a record without its entry
    expect(first).to_contain_text("2 files")
    looked = []
    page.on("request", lambda request: looked.append(request.url) if request.url.endswith("/preview") else None)
    with page.expect_response("**/preview"):
        first.locator("summary", has_text="Show").click()
    picture = first.locator(".look img")
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("image => image.naturalWidth") > 0
    assert looked == [f"{dev.admin_url}/console/moderation/{HELD[0]}/preview"]  # covered ones are not loaded
    page.route("**/preview", lambda route: route.fulfill(status=404))
    second = page.locator(f"#held-{HELD[1]}")
    second.locator("summary", has_text="Show").click()
    expect(second.locator(".look img")).to_have_attribute("alt", "The picture cannot be shown now.")

    first.get_by_role("link", name="Release").click()
    dialog = page.get_by_role("dialog", name="Release this media item?")
    dialog.get_by_label("Note").fill("fan art")
    dialog.get_by_role("button", name="Release").click()
    expect(page.locator(".flash")).to_contain_text("1 media item is released: processed and published. Note: fan art")
    expect(rows).to_have_count(2)
    assert dev_status(dev, HELD[0]) == "READY"

    page.get_by_label("Select all on this page").check()
    page.locator(".bulk").get_by_role("button", name="Block").click()
    dialog = page.get_by_role("dialog", name="Block 2 media items?")
    dialog.get_by_label("Note").fill("report 4712")
    dialog.get_by_role("button", name="Block 2").click()
    expect(page.locator(".flash")).to_contain_text(
        "2 media items are blocked, with the known copies. Note: report 4712"
    )
    expect(page.get_by_text("Nothing waits for review")).to_be_visible()
    for media_id in HELD[1:]:
        assert moderated.has(f"moderation/blocked/{media_id}")
        assert moderated.has(f"quarantine/{media_id}/incoming")
    page.get_by_role("link", name="Blocked").click()
    blocked = page.locator(f"#blocked-{HELD[1]}")
    expect(blocked).to_contain_text("report 4712")
    with page.expect_download() as download:
        blocked.get_by_role("link", name="Download the evidence").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert {"evidence/incoming", "records/block.json", "manifest.json"} <= set(archive.namelist())
    page.goto(f"{dev.console_url}/audit")
    expect(page.locator("tbody tr", has_text="Show preview").first).to_contain_text(HELD[0])


@pytest.fixture
def twenty(moderated: Objects, data_directory: Path) -> list[str]:
    """Twenty held media that no other test has, the one that waits longest first."""
    moderated.remove("moderation/held/")
    del REVIEWED[:20]
    picture = (data_directory / "jpeg-gray.jpg").read_bytes()
    for number, media_id in enumerate(REVIEWED[:20]):
        entry = {"list": "shared", "hash": "ab" * 32, "distance": number, "label": "an advert"}
        facts = {"content_type": "image/jpeg", "size_bytes": 90_000, "width": 600, "height": 450}
        facts["sha256"] = hashlib.sha256(picture).hexdigest()
        task = {"media_id": media_id, "type": "thumbnail", "owner": "alice"}
        held = {"media_id": media_id, "at": f"2026-11-24T08:00:{number:02d}.000+00:00", "match": "pdq", "pdq": ""}
        objects = {f"quarantine/{media_id}/{name}": picture for name in ("incoming", "preview")}
        for key, body in objects.items():
            moderated.put(key, body)
        record = {**held, "queue": "media_processing_queue", "fields": task, "entry": entry, **facts}
        moderated.put(f"moderation/held/{media_id}", record)
    for key in (f"owner/alice/{IDS[0]}.7", f"owner/alice/{IDS[1]}.7", f"moderation/sources/owner/alice/{BLOCKED}"):
        moderated.put(key, b"")
    return REVIEWED[:20]


def test_twenty_are_reviewed_by_the_keyboard_alone(
    page: Page, dev: Development, twenty: list[str], moderated: Objects
) -> None:
    page.goto(f"{dev.console_url}/moderation")
    page.get_by_role("button", name="Start reviewing").click()
    expect(page.locator(".judge .facts")).to_contain_text("alice, all 2 public media, 19 more held, 1 blocked before")
    expect(page.locator(".judge .facts")).to_contain_text("and 16 more")  # held with the same file
    looked = []
    page.on("request", lambda request: looked.append(request.url) if request.url.endswith("/preview") else None)
    # A decision is taken back although the server has not answered it yet.
    dock = page.locator(".dock")
    expect(dock).to_be_focused()
    page.evaluate(HOLD_NEXT_REQUEST)
    page.keyboard.press("r")
    expect(page.locator("h1")).to_have_text("Item 2 of 20")
    page.keyboard.press("u")
    page.evaluate("letGo()")
    expect(page.locator("#last")).to_have_text(f"Undone: {twenty[0][:8]}…{twenty[0][-6:]} is held again.")
    pressed = []
    for number, media_id in enumerate(twenty[:-1], 1):
        expect(page.locator("h1")).to_have_text(f"Item {number} of 20")
        expect(dock).to_be_focused()
        expect(dock).to_have_accessible_name(f"Decide about {media_id[:8]}…{media_id[-6:]}")
        page.wait_for_timeout(450)  # a key that is held decides once
        keys = ["b", "2"] if number % 4 == 0 else ["r"]
        for key in keys:
            page.keyboard.press(key)
            if key == "b":
                expect(page.locator(".ask:visible")).to_be_focused()
        pressed += keys
    assert len(pressed) <= 2 * len(twenty)
    expect(page.locator("h1")).to_have_text("Item 20 of 20")
    assert not looked  # a covered picture is not loaded
    page.wait_for_timeout(450)
    page.keyboard.press("v")
    expect(page.locator(".look[open] img")).to_have_js_property("complete", True)
    assert set(looked) == {f"{dev.admin_url}/console/moderation/{twenty[-1]}/preview"}
    page.keyboard.press("z")
    picture = page.locator(".look.large img")
    assert page.evaluate("document.querySelector('.look.large img').clientWidth === innerWidth")
    page.keyboard.press("z")
    expect(picture).to_have_count(0)
    page.locator(".look[open] img").click()
    expect(picture).to_have_count(1)
    expect(dock).to_be_focused()
    page.keyboard.press("Escape")
    expect(picture).to_have_count(0)
    page.wait_for_timeout(450)
    page.keyboard.press("n")
    page.keyboard.type("fan art")
    page.keyboard.press("Enter")
    page.keyboard.press("r")
    expect(page.locator("h1")).to_have_text("All reviewed")
    page.wait_for_timeout(450)
    page.keyboard.press("u")
    expect(page.locator("h1")).to_have_text("Item 20 of 20")
    page.wait_for_timeout(450)
    page.keyboard.press("s")
    expect(page.locator("h1")).to_have_text("All reviewed")
    assert_fits_and_is_accessible(page)
    for media_id in (twenty[0], twenty[18]):
        assert dev_status(dev, media_id) == "READY"
    eventually(lambda: moderated.has(f"moderation/blocked/{twenty[3]}"), "the block")
    assert moderated.has(f"moderation/held/{twenty[19]}")  # taken back, and skipped
    again = page.get_by_role("button", name="Review the 1 skipped")
    again.click()
    expect(page.locator("h1")).to_have_text("Item 1 of 1")
    blocked = page.locator(".judge .facts", has_text=re.compile("Same file.*blocked as .*: Another version of it"))
    eventually(lambda: page.reload() and blocked.count(), "the block of the same file")
    page.keyboard.press("s")
    expect(page.locator("h1")).to_have_text("All reviewed")
    moderated.remove(f"moderation/held/{twenty[19]}")  # somebody else decides about it
    again.click()
    expect(page.locator(".finish")).to_contain_text("You decided 0 in")
    expect(again).to_have_count(0)
    page.goto(f"{dev.console_url}/audit")
    page.get_by_label("Search the actions").fill(twenty[3])
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("Another version of it")


def test_after_a_decision_that_changed_nothing_the_keys_go_on(
    page: Page, dev: Development, twenty: list[str], redis_of_dev: redis.Redis
) -> None:
    page.goto(f"{dev.console_url}/moderation")
    page.get_by_role("button", name="Start reviewing").click()
    expect(page.locator("h1")).to_have_text("Item 1 of 20")
    redis_of_dev.hdel("media_review_claims", twenty[0])  # as when ten minutes are over
    for seen, title in (("changed nothing", "1 of 20"), ("Released", "2 of 20")):
        page.wait_for_timeout(450)  # a key that is held decides once
        page.keyboard.press("r")
        expect(page.locator("main")).to_contain_text(seen)
        expect(page).to_have_title(re.compile(title))  # the title is the server's, which follows what the browser shows
    expect(page.locator(".dock")).to_have_count(1)
    expect(page.locator(".dock")).to_be_focused()


def test_two_browsers_never_review_the_same_and_it_works_without_script(
    page: Page, browser: Browser, dev: Development, twenty: list[str]
) -> None:
    context = browser.new_context(java_script_enabled=False, reduced_motion="reduce")
    other = context.new_page()
    for each in (page, other):
        each.goto(f"{dev.console_url}/moderation")
        each.get_by_role("button", name="Start reviewing").click()
    for _ in range(3):
        one, another = (each.locator("figcaption a.mono") for each in (page, other))
        before = one.get_attribute("href")
        assert before != another.get_attribute("href")
        page.get_by_role("button", name="Skip").click()
        expect(one).not_to_have_attribute("href", before or "")
        other.get_by_role("button", name="Skip").click()
        other.wait_for_load_state()
    other.get_by_text("Block…").click()
    other.get_by_role("button", name="Illegal for another reason").click()
    expect(other.locator("#last")).to_contain_text("Blocked")
    other.get_by_role("button", name="Undo").click()
    expect(other.locator("#last")).not_to_contain_text("Blocked")
    for each in (page, other):
        each.get_by_role("button", name="Stop").click()
        expect(each.locator("h1")).to_have_text("Moderation")
    context.close()


def dev_status(dev: Development, media_id: str) -> str:
    """What `status` says of a medium, once it is processed."""

    def ended() -> str | None:
        shown = run_command("status", media_id, "--json", environment={**os.environ, **dev.exported})
        state = str(json.loads(shown.stdout)["state"]) if shown.returncode == 0 else ""
        return state if state in ("READY", "FAILED") else None

    return eventually(ended, "it to be processed")


def test_the_own_list_is_searched_and_edited_without_javascript(
    browser: Browser, dev: Development, moderated: Objects
) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 360, "height": 800})
    page = context.new_page()
    page.goto(f"{dev.console_url}/moderation")
    page.get_by_role("link", name="Block lists").click()
    digest = "0123456789abcdef" * 2
    page.get_by_label("Type of hash").select_option("sha256")
    page.get_by_label("Hash", exact=True).fill(digest)
    page.get_by_role("button", name="Add").click()
    expect(page.locator(".flash")).to_contain_text("a hash of type sha256 has 64 hex digits")
    page.get_by_label("Type of hash").select_option("md5")
    page.get_by_label("Hash", exact=True).fill(digest)
    page.get_by_label("Label", exact=True).fill('a "known" advert')
    page.get_by_role("button", name="Add").click()
    expect(page.locator(".flash")).to_contain_text("1 hash is on the own block list.")
    assert moderated.own_entries(digest) == 1

    page.get_by_label("Look up a hash, a media id, an owner or a host").fill(digest)
    page.get_by_role("button", name="Look up").click()
    expect(page.locator("main .rows")).to_contain_text("of list own (a 'known' advert)")
    page.locator("tr", has_text="MD5").get_by_role("link", name="Remove").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.locator(".flash")).to_contain_text("1 hash is off the own block list.")
    assert moderated.own_entries(digest) == 0
    page.get_by_label("Look up a hash, a media id, an owner or a host").fill(digest)
    page.get_by_role("button", name="Look up").click()
    expect(page.locator("main .rows")).to_contain_text("Nothing with this name is on a list")
    page.get_by_label("Look up a hash, a media id, an owner or a host").fill(BLOCKED)
    page.get_by_role("button", name="Look up").click()
    expect(page.locator("main .rows")).to_contain_text("by ada: report 4711")
    page.get_by_label("Look up a hash, a media id, an owner or a host").fill(f"https://media.example/media/{BLOCKED}")
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_role("link", name="Unblock")).to_be_visible()
    page.get_by_role("link", name="Who did what").click()
    expect(page.get_by_label("Search the actions")).to_have_value(BLOCKED)
    context.close()


def test_a_killed_subtree_is_seen_to_restart(page: Page, dev: Development) -> None:
    page.goto(f"{dev.console_url}/system")
    node = page.locator('li[data-path="service/processing"]')
    before = int(node.get_attribute("data-restarts") or "")
    node.locator("summary").first.click()
    node.get_by_role("button", name="Kill service/processing", exact=True).click()
    expect(page.locator(".flash")).to_have_text(re.compile("1 node is killed: the supervisor starts it again."))
    expect(node).to_have_attribute("data-restarts", str(before + 1), timeout=WAIT_MS)
    expect(node).to_have_attribute("data-state", "running", timeout=WAIT_MS)
    expect(node.locator(".failure").first).to_contain_text("Killed")


def test_a_host_is_blocked_without_javascript(browser: Browser, dev: Development, moderated: Objects) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 360, "height": 800})
    page = context.new_page()
    page.goto(f"{dev.console_url}/moderation?part=hosts")
    for host, shown in (("localhost", "Not done: localhost: a single label"), ("Bad.Example.", "1 host is blocked")):
        page.get_by_label("Host", exact=True).fill(host)
        page.get_by_role("button", name="Block…").click()
        page.get_by_label("Note").fill("spam")
        page.get_by_role("button", name="Block").click()
        expect(page.locator(".flash")).to_contain_text(shown)
    row = page.locator("tr", has_text="bad.example")
    expect(row).to_contain_text("spam")
    row.get_by_role("link", name="Purge").click()
    page.get_by_role("button", name="Begin").click()
    expect(page.locator(".flash")).to_contain_text("1 host is purged in bulk")
    page.goto(f"{dev.console_url}/queues")
    expect(page.get_by_role("table", name="Bulk replays, undeletes and purges of the last week")).to_contain_text(
        "Purge of bad.example"
    )
    page.goto(f"{dev.console_url}/moderation?part=hosts")
    row.get_by_role("link", name="Unblock").click()
    page.get_by_role("button", name="Unblock").click()
    expect(page.locator(".flash")).to_contain_text("1 host is not blocked any more.")
    expect(page.locator("main")).to_contain_text("No host is blocked")


def test_a_long_note_about_a_host_fits_a_phone_and_an_address_is_shown_as_in_the_list(
    page: Page, dev: Development
) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"{dev.console_url}/moderation?part=hosts")
    page.get_by_label("Host", exact=True).fill("192.0.2.7")
    page.get_by_role("button", name="Block…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Note").fill(f"{REMOTE} https://remote.example/{'a' * 80}")
    dialog.get_by_role("button", name="Block").click()
    row = page.locator("tr", has_text="192.0.2.7")
    expect(row).to_contain_text("a" * 80)
    assert_fits_and_is_accessible(page)
    row.get_by_role("link", name="Unblock").click()
    expect(dialog.locator(".names")).to_have_text("192.0.2.7")
    dialog.get_by_role("button", name="Unblock").click()
    expect(page.locator("main")).to_contain_text("No host is blocked")
    page.goto(f"{dev.console_url}/audit")
    who = page.locator("tbody th").first
    assert who.evaluate("each => getComputedStyle(each, '::before').content") == '"Who"'
