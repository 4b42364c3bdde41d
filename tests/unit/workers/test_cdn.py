"""Purges at each provider: a fake for each follows the provider's documents, with its rate limit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from avion_media.common.errors import Dependency, Unavailable
from avion_media.config import ConfigError, effective, load
from avion_media.items.settings import CdnConfig
from avion_media.workers.cdn import Cdn, check_files
from trio_telemetry import NO_TELEMETRY

TOKEN = "hunter2-hunter2-hunter2"
ZONE = "0123456789abcdef0123456789abcdef"
MEDIA = "https://media.example.org"
PATHS = [f"/media/{number:04}" for number in range(5000)]
OF_A_TASK = 10


class Fake:
    """One provider. It answers 429 while its bucket of requests is empty, and counts its answers by status."""

    def __init__(self, *, bucket: int = 10**6, per_s: float = 1.0, retry_after: bool = True) -> None:
        self.purged: list[str] = []
        self.origins: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()
        self.status = 0
        self._bucket = self._left = float(bucket)
        self._per_s = per_s
        self._at = 0.0
        self._retry_after = retry_after

    async def answer(self, request: httpx.Request) -> httpx.Response:
        await trio.sleep(0.05)
        response = self._limited() or (httpx.Response(self.status) if self.status else self.purge(request))
        self.answers[response.status_code] += 1
        return response

    def _limited(self) -> httpx.Response | None:
        now = trio.current_time()
        self._left = min(self._bucket, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return httpx.Response(429, headers={"Retry-After": "7"} if self._retry_after else {})
        self._left -= 1
        return None

    def purge(self, request: httpx.Request) -> httpx.Response:
        raise NotImplementedError


class Cloudflare(Fake):
    """Purge Cached Content by URL: strings, or objects with the headers of the cache key."""

    most = 100

    def purge(self, request: httpx.Request) -> httpx.Response:
        assert str(request.url) == f"https://api.cloudflare.com/client/v4/zones/{ZONE}/purge_cache"
        assert (request.method, request.headers["content-type"]) == ("POST", "application/json")
        if request.headers["authorization"] != f"Bearer {TOKEN}":
            return httpx.Response(403, json={"success": False, "errors": [{"code": 10000}]})
        files = json.loads(request.content)["files"]
        urls = [each if isinstance(each, str) else each["url"] for each in files]
        if len(files) > self.most or not all(url.startswith(f"{MEDIA}/") for url in urls) or "/media/bad" in str(urls):
            return httpx.Response(400, json={"success": False, "errors": [{"code": 1012}], "result": None})
        self.purged += [url.removeprefix(MEDIA) for url in urls]
        self.origins.update("" if isinstance(each, str) else each["headers"]["Origin"] for each in files)
        return httpx.Response(200, json={"success": True, "errors": [], "messages": [], "result": {"id": ZONE}})


class Fastly(Fake):
    """Purge a URL: it stands in the path, without its scheme."""

    def purge(self, request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.host, request.url.query) == ("POST", "api.fastly.com", b"")
        if request.headers["fastly-key"] != TOKEN:
            return httpx.Response(401, json={"msg": "Provided credentials are missing or invalid"})
        host, path = request.url.path.removeprefix("/purge/").split("/", 1)
        assert host == "media.example.org"
        self.purged.append(f"/{path}")
        return httpx.Response(200, json={"status": "ok", "id": "108-1391560174-974124"})


class Bunny(Fake):
    """Purge URL: a parameter of the query."""

    def purge(self, request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.host, request.url.path) == ("POST", "api.bunny.net", "/purge")
        if request.headers["accesskey"] != TOKEN:
            return httpx.Response(401)
        assert request.url.params["async"] == "false"
        self.purged.append(request.url.params["url"].removeprefix(MEDIA))
        return httpx.Response(200)


class Another(Fake):
    """A CDN without a preset."""

    def purge(self, request: httpx.Request) -> httpx.Response:
        assert (request.method, str(request.url)) == ("PUT", "https://cdn.example/v1/purge")
        assert (request.headers["x-key"], request.headers["content-type"]) == (TOKEN, "application/json")
        self.purged += [url.removeprefix(MEDIA) for url in json.loads(request.content)["list"]]
        return httpx.Response(202)


TEMPLATE = {
    "purge_urls": "https://cdn.example/v1/purge",
    "purge_method": "PUT",
    "purge_body": '{"list": {urls}}',
    "purge_batch": 50,
}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Cdn]:
    """Make a CDN that is purged at a fake."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "headers").write_text(f"X-Key: {TOKEN}\n\n")

    def make_cdn(purge: str, fake: Fake, **settings: object) -> Cdn:
        own: dict[str, object] = {"purge": purge, "public_urls": MEDIA}
        if purge == "template":
            own |= {**TEMPLATE, "purge_headers_file": str(tmp_path / "headers")}
        else:
            own["token_file"] = str(tmp_path / "token")
        if purge == "cloudflare":
            own["cloudflare_zone"] = ZONE
        return Cdn(CdnConfig.model_validate(own | settings), NO_TELEMETRY, httpx.MockTransport(fake.answer))

    return make_cdn


async def purge_all(cdn: Cdn, paths: Sequence[str]) -> int:
    """Purge as the consumer does: in its slots, and again after a while. Return how often a task had to wait."""
    tasks = [paths[first : first + OF_A_TASK] for first in range(0, len(paths), OF_A_TASK)]
    waits = 0

    async def work() -> None:
        nonlocal waits
        while tasks:
            task = tasks.pop()
            try:
                await cdn.purge(task)
            except Unavailable:
                waits += 1
                tasks.append(task)
                await trio.sleep(5.0)  # its longest pause

    async with trio.open_nursery() as nursery:
        for _ in range(cdn.slots):
            nursery.start_soon(work)
    return waits


@pytest.mark.parametrize(
    ("purge", "fake", "paths", "fewest", "most"),
    [
        # 25 requests at once and 5 per minute: the smallest plan. What one task has is sent at once, the rest in lists.
        ("cloudflare", Cloudflare(bucket=25, per_s=5 / 60), PATHS, 50, 60),
        ("fastly", Fastly(bucket=1000, per_s=100_000 / 3600, retry_after=False), PATHS[:2000], 2000, 2200),
        ("bunny", Bunny(bucket=1000, per_s=50), PATHS[:2000], 2000, 2200),
        ("template", Another(bucket=20, per_s=0.5), PATHS, 100, 120),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_thousands_of_paths_are_purged_within_the_rate_limit(
    make: Callable[..., Cdn],
    autojump_clock: trio.testing.MockClock,
    purge: str,
    fake: Fake,
    paths: Sequence[str],
    fewest: int,
    most: int,
) -> None:
    waits = await purge_all(make(purge, fake), paths)
    assert set(fake.purged) == set(paths)
    done = sum(count for status, count in fake.answers.items() if status < 300)
    assert fewest <= done <= most
    assert waits
    assert fake.answers.keys() == {429, 202 if purge == "template" else 200}
    pauses = trio.current_time() / (1 if purge == "fastly" else 7)  # during a pause nothing is sent
    assert fake.answers[429] <= (pauses + 1) * (8 if purge in ("fastly", "bunny") else 1)


async def test_one_url_that_is_refused_is_found_and_holds_up_no_other(
    make: Callable[..., Cdn], autojump_clock: trio.testing.MockClock
) -> None:
    fake = Cloudflare()
    cdn = make("cloudflare", fake)
    failures: list[Unavailable] = []

    async def purge(paths: Iterable[str]) -> None:
        try:
            await cdn.purge(paths)
        except Unavailable as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        for first in range(0, 80, OF_A_TASK):
            nursery.start_soon(purge, PATHS[first : first + OF_A_TASK])
        nursery.start_soon(purge, ["/media/bad"])
    (failure,) = failures
    assert failure.dependency is Dependency.OBJECT  # only this task waits, longer each time
    assert "/media/bad" in str(failure)
    assert set(fake.purged) == set(PATHS[:80])
    assert fake.answers[400] <= 8  # the list is halved until the URL is alone


async def test_a_smaller_plan_is_a_setting_and_origins_are_part_of_the_key(
    make: Callable[..., Cdn], autojump_clock: trio.testing.MockClock
) -> None:
    fake = Cloudflare()
    fake.most = 30
    origins = "https://a.example,https://b.example"
    await make("cloudflare", fake, purge_batch=30, origins=origins).purge(PATHS[:100])
    assert fake.answers == {200: 10}
    assert fake.origins == {"": 100, "https://a.example": 100, "https://b.example": 100}


@pytest.mark.parametrize("purge", ["cloudflare", "fastly", "bunny", "template"])
@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
async def test_a_failure_of_the_account_lets_all_wait_and_then_all_are_purged(
    make: Callable[..., Cdn], autojump_clock: trio.testing.MockClock, purge: str, status: int
) -> None:
    fake = {"cloudflare": Cloudflare, "fastly": Fastly, "bunny": Bunny, "template": Another}[purge]()
    cdn = make(purge, fake)
    fake.status = status
    for _ in range(5):
        with pytest.raises(Unavailable, match=str(status)) as caught:
            await cdn.purge(PATHS[:1])
        assert caught.value.dependency is Dependency.CDN
    assert fake.answers == {status: 1}  # the other four did not ask
    fake.status = 0
    await trio.sleep(30 if status in (401, 403) else 1)
    await cdn.purge(PATHS[:2])
    assert set(fake.purged) == set(PATHS[:2])


async def test_a_list_that_succeeds_without_success_is_not_a_success(
    make: Callable[..., Cdn], autojump_clock: trio.testing.MockClock
) -> None:
    fake = Cloudflare()
    fake.status = 200  # without a body
    with pytest.raises(Unavailable):
        await make("cloudflare", fake).purge(PATHS[:1])


async def test_the_token_is_read_again_and_is_in_no_log(
    make: Callable[..., Cdn], autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    fake = Bunny()
    cdn = make("bunny", fake)
    (tmp_path / "token").write_text("hunter2-of-yesterday")
    with capture_logs() as logged:
        with pytest.raises(Unavailable, match="401"):
            await cdn.purge(PATHS[:1])
        (tmp_path / "token").write_text("hunter2 with blanks")
        await trio.sleep(30)
        with pytest.raises(Unavailable, match="CDN__TOKEN_FILE: expected one token"):
            await cdn.purge(PATHS[:1])
        (tmp_path / "token").write_text(TOKEN)
        await trio.sleep(1)
        await cdn.purge(PATHS[:1])
    assert [line["event"] for line in logged] == ["purge.failed"] * 2
    assert "hunter2" not in str(logged)


@pytest.mark.parametrize("line", ["X-Key hunter2", "X Key: hunter2", "X-Key: hunter2\x07", ": hunter2"])
def test_a_line_that_is_no_header_is_named_and_not_quoted(tmp_path: Path, line: str) -> None:
    path = tmp_path / "headers"
    path.write_text(f"Accept: */*\n{line}\n")
    config = CdnConfig(purge="template", purge_urls=("http://cdn",), purge_headers_file=str(path))
    with pytest.raises(ValueError, match="line 2 is not of the form") as caught:
        check_files(config)
    assert "hunter2" not in str(caught.value)


async def test_placeholders_are_escaped(make: Callable[..., Cdn]) -> None:
    asked: list[tuple[str, bytes]] = []

    class Fake2(Fake):
        def purge(self, request: httpx.Request) -> httpx.Response:
            asked.append((str(request.url), request.content))
            return httpx.Response(200)

    settings = {"purge_urls": "https://cdn.example/{url}?path={path}", "purge_body": '{"u": "{url}", "p": "{path}"}'}
    await make("template", Fake2(), purge_batch=0, **settings).purge(['/a"b'])
    ((url, body),) = asked
    assert url == "https://cdn.example/https%3A%2F%2Fmedia.example.org%2Fa%22b?path=%2Fa%22b"
    assert json.loads(body) == {"u": f'{MEDIA}/a"b', "p": '/a"b'}


P = "AVION_MEDIA_CDN__"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"PURGE": "fastly", "TOKEN_FILE": "t"}, "PUBLIC_URLS: `fastly` needs at least one URL"),
        ({"PURGE": "bunny", "PUBLIC_URLS": MEDIA}, "TOKEN_FILE: `bunny` needs a token"),
        ({"PURGE": "cloudflare", "PUBLIC_URLS": MEDIA, "TOKEN_FILE": "t"}, "CLOUDFLARE_ZONE: `cloudflare` needs"),
        ({"PURGE": "template"}, "PURGE_URLS: `template` needs exactly one URL"),
        ({"PURGE": "template", "PURGE_URLS": "http://c/{url}"}, "PURGE_BODY: `{url}` and `{urls}` need CDN__PUBLIC"),
        ({"PURGE": "template", "PURGE_URLS": "http://c", "PURGE_BODY": "{"}, "PURGE_BODY='{': not JSON"),
        ({"PURGE_BATCH": "2"}, "PURGE_BATCH='2': only `cloudflare`"),
        ({"ORIGINS": "https://a"}, "ORIGINS='https://a': only `cloudflare`"),
        ({"PUBLIC_URLS": "https://a?b"}, "PUBLIC_URLS='https://a?b': expected an address without a query"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({P + name: value for name, value in settings.items()})
    assert caught.value.problems[0].startswith(P + problem)


def test_the_printed_configuration_names_files_and_no_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    environ = {P + "PURGE": "fastly", P + "PUBLIC_URLS": MEDIA, P + "TOKEN_FILE": str(tmp_path / "token")}
    assert TOKEN not in str(effective(load(environ)))
