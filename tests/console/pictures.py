"""Takes the pictures of the console for the documentation, of a running `avion-media dev`, and remembers of what.

    python -m tests.console.pictures

It uploads the samples of the demo for some minutes, so that the charts have something to show, adds dead letters,
blocks a media item, and uploads altered copies of it, which are held.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import httpx
import redis
from PIL import Image
from playwright.sync_api import sync_playwright

from avion_media.common.formats import HEIC, JPEG
from avion_media.common.ids import new_media_id
from tests.bench.moderation import ALTERATIONS
from tests.console.conftest import Development, development
from tests.service.harness import eventually
from tests.services.process import require

ROOT: Final = Path(__file__).resolve().parents[2]
IMAGES: Final = ROOT / "docs" / "images"
DIGEST: Final = IMAGES / "console.json"
_SOURCES: Final = ROOT / "avion_media" / "servers" / "console"
_LOAD_S: Final = 150.0
_SIZE: Final = (1366, 900)
_PAGES: Final = {
    "overview": "",
    "queues": "/queues",
    "dead-letters": "/dead-letters",
    "media": "/media",
    "media-item": "/media/{item}",
    "moderation": "/moderation",
    "review": "/review",
    "system": "/system",
    "audit": "/audit",
    "confirm": "/confirm?action=drop&all=1&reason=internal",
    "error": "/nothing",
}
"""The path of each page. The login does not exist without a token, and `avion-media dev` has none."""
_SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
_BLOCKED: Final = ROOT / "tests" / "data" / "jpeg-progressive.jpg"
_ALTERED: Final = ("half the size", "blurred", "gray")
_ERRORS: Final = (
    ("internal: KeyError: 'colr'", 61),
    ("decoder_killed: SIGKILL at 871 MiB of 1 GiB", 38),
    ("poison: 3 workers crashed with it", 4),
)
_IS_SHOWN: Final = """
[...document.images].every(
  each => each.complete || !each.checkVisibility() || each.getBoundingClientRect().top > innerHeight
)
"""


def digest() -> str:
    """Of everything that the look of the pages is made of."""
    found = hashlib.sha256()
    for folder in ("templates", "assets"):
        for path in sorted((_SOURCES / folder).rglob("*.*")):
            found.update(f"{path.relative_to(_SOURCES)}\n".encode() + path.read_bytes())
    return found.hexdigest()


def main() -> int:
    """Take all of them."""
    random.seed(11)
    with development() as dev:
        take(dev, use(dev))
    return 0


def take(dev: Development, item: str) -> None:
    """Take the pictures of a console, and write down of which templates and styles; ``item`` is a photo."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=require("chromium", "chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        for (name, path), scheme in itertools.product(_PAGES.items(), _SCHEMES):
            page = browser.new_page(viewport={"width": _SIZE[0], "height": _SIZE[1]}, color_scheme=scheme)
            page.goto(dev.console_url + path.format(item=item), wait_until="load")
            if name == "review":
                page.get_by_role("button", name="Start reviewing").click()
                page.locator(".dock").wait_for()
            eventually(partial(page.evaluate, _IS_SHOWN), f"the pictures of {path}")
            picture = Image.open(io.BytesIO(page.screenshot()))
            picture.save(IMAGES / f"console-{name}-{scheme}.webp", quality=82, method=6)
            page.close()
        browser.close()
    DIGEST.write_text(json.dumps({"sources": digest()}) + "\n")


def use(dev: Development, load_s: float = _LOAD_S) -> str:
    """Upload for some minutes, then add dead letters; return the id of a photo."""
    environment = os.environ | dev.exported
    samples = sorted((ROOT / "ops" / "demo").iterdir())
    command = [sys.executable, "-m", "avion_media", "upload", "--json"]
    item = ""
    with redis.Redis.from_url(dev.redis_url) as client:
        ends = time.monotonic() + load_s
        while time.monotonic() < ends:
            files = random.sample(samples, k=random.randint(1, len(samples)))
            done = subprocess.run([*command, *files], env=environment, capture_output=True, text=True, check=False)
            ready = [each for each in json.loads(done.stdout or "[]") if each.get("state") == "READY"]
            item = next(
                (str(each["media_id"]) for each in ready if str(each.get("content_type")) == "image/jpeg"), item
            )
            time.sleep(random.uniform(1, 12))
        for error, count in _ERRORS:
            for _ in range(count):
                failed_at = time.time() - random.random() ** 2 * 80_000
                media_id = str(new_media_id(random.choice((JPEG, HEIC)), round(failed_at * 1000), random.getrandbits))
                dead_letter = {
                    "task_id": "t-1",
                    "media_id": media_id,
                    "type": "thumbnail",
                    "error": error,
                    "attempts": "5",
                }
                client.xadd("{media_processing_queue}:dlq", dead_letter | {"failed_at": f"{failed_at:.3f}"})
        hold(environment)
        eventually(
            lambda: "wait for review" in httpx.get(dev.console_url, trust_env=False, verify=False).text,
            "the figures",
            150,
        )
    return item


def hold(environment: Mapping[str, str]) -> None:
    """Block a media item, and upload altered copies of it, which are held."""
    command = [sys.executable, "-m", "avion_media"]

    def upload(*files: Path) -> list[dict[str, Any]]:
        done = subprocess.run([*command, "upload", "--json", *files], env=environment, capture_output=True, check=False)
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    media_id = str(upload(_BLOCKED)[0]["media_id"])
    subprocess.run([*command, "block", media_id, "--note", "report 4711"], env=environment, check=True)
    with tempfile.TemporaryDirectory(prefix="avion-pictures-") as directory, Image.open(_BLOCKED) as picture:
        altered = [Path(directory) / f"{name}.jpg" for name in _ALTERED]
        for file in altered:
            ALTERATIONS[file.stem](picture.convert("RGB")).save(file, "JPEG")
        assert [each["reason"] for each in upload(*altered)] == ["held"] * len(altered)


if __name__ == "__main__":
    sys.exit(main())
