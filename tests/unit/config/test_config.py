"""The configuration: units, one error that lists everything wrong, secrets masked."""

from __future__ import annotations

from pathlib import Path

import pytest

from avion_media.common import kernel
from avion_media.common.formats import FORMATS
from avion_media.config import Config, ConfigError, effective, load, ports_without_auth
from avion_media.config.dangers import dangers
from avion_media.process.runtime import ROLES
from mediathumbs import ThumbnailSize

P = "AVION_MEDIA_"


def test_defaults_are_the_contracts() -> None:
    config = load({})
    assert str(config.grpc.bind) == "127.0.0.1:50051"
    assert str(config.http.bind) == "127.0.0.1:8080"
    assert str(config.admin.bind) == "127.0.0.1:9090"
    assert config.redis.url == "redis://127.0.0.1:6379/0"
    assert (config.s3.bucket, config.s3.region) == ("avion-media", "us-east-1")
    assert config.upload.max_image_bytes == 16 * 2**20
    assert config.upload.max_video_bytes == 256 * 2**20
    assert config.upload.max_pixels == 1 << 26
    assert config.upload.url_ttl == 15 * 60
    assert [(size.name, size.longest_edge) for size in config.thumbnails.sizes] == [
        ("small", 400),
        ("medium", 800),
        ("large", 1600),
    ]
    assert (config.remote.max_bytes, config.remote.ttl) == (64 * 2**20, 7 * 86400)
    assert config.delete.delay == 86400
    assert (config.tasks.max_attempts, config.tasks.claim_after) == (5, 60)
    assert (config.drain.settle, config.drain.grace) == (5, 25)
    sounds = {"mp3", "ogg", "flac", "m4a", "wav", "weba"}
    assert config.enabled_formats() == {"jpeg", "png", "gif", "webp", "avif", "mp4", "mov", "webm", "mkv"} | sounds
    assert load({P + "UPLOAD__AUDIO": "false"}).enabled_formats() == config.enabled_formats() - sounds
    upload = config.upload
    assert (upload.max_audio_bytes, upload.max_audio_duration, upload.most_bytes) == (2**26, 7200, 2**28)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1), ("16MiB", 2**24), ("1.5KiB", 1536), ("5MB", 5_000_000), ("2 gib", 2**31), ("7b", 7)],
)
def test_sizes(text: str, expected: int) -> None:
    assert load({P + "UPLOAD__MAX_IMAGE_BYTES": text}).upload.max_image_bytes == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("500ms", 0.5), ("15m", 900), ("24h", 86400), ("7d", 604800), ("0.5s", 0.5)]
)
def test_durations(text: str, expected: float) -> None:
    assert load({P + "DELETE__DELAY": text}).delete.delay == expected


@pytest.mark.parametrize(("setting", "text"), [("DELETE__DELAY", "-1"), ("UPLOAD__MAX_IMAGE_BYTES", "-1.5 MiB")])
def test_a_negative_number_is_refused_as_such(setting: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({P + setting: text})
    assert caught.value.problems == [f"{P}{setting}='{text}': must not be negative"]


def test_the_name_of_the_full_rendition_is_reserved() -> None:
    with pytest.raises(ConfigError, match="full is reserved"):
        load({P + "THUMBNAILS__SIZES": "small:400,full:2000"})


def test_lists_networks_and_thumbnail_sizes() -> None:
    config = load(
        {
            P + "REMOTE__DENY_HOSTS": "bad.example, worse.example",
            P + "REMOTE__ALLOW_NETWORKS": "127.0.0.0/8,::1/128",
            P + "THUMBNAILS__SIZES": "tiny:64,big:2048",
            P + "HTTP__BIND": "[::1]:0",
        }
    )
    assert config.remote.deny_hosts == ("bad.example", "worse.example")
    assert [str(each) for each in config.remote.allow_networks] == ["127.0.0.0/8", "::1/128"]
    assert config.thumbnails.sizes == (ThumbnailSize("tiny", 64), ThumbnailSize("big", 2048))
    assert (config.http.bind.host, config.http.bind.port, str(config.http.bind)) == ("::1", 0, "[::1]:0")


def test_each_format_has_a_switch() -> None:
    for each in FORMATS:
        switched = load({f"AVION_MEDIA_DECODERS__{each.name.upper()}": str(not each.switched_on)})
        assert switched.decoders.enabled() == Config().decoders.enabled() ^ {each.name}


def test_everything_wrong_is_listed_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(
            {
                P + "NONSENSE": "1",
                P + "GRPC__NO_SUCH": "1",
                P + "GRPC__BIND": "nowhere",
                P + "DELETE__DELAY": "soon",
                P + "TASKS__MAX_ATTEMPTS": "0",
                P + "THUMBNAILS__SIZES": "small:400,small:800",
                P + "S3__ENDPOINT_URL": "ftp://store",
                P + "REDIS__URL": "http://:secret@redis",
            }
        )
    problems = caught.value.problems
    assert len(problems) == 8
    for variable in ("NONSENSE", "GRPC__NO_SUCH", "GRPC__BIND", "DELETE__DELAY", "TASKS__MAX_ATTEMPTS"):
        assert any(problem.startswith(P + variable) for problem in problems)
    assert any("'soon'" in problem and "15m" in problem for problem in problems)
    assert not any("secret" in problem for problem in problems)


def test_other_variables_are_nobodys_business() -> None:
    assert load({"PATH": "/bin", "AVION_OTHER": "1", "OTEL_SERVICE_NAME": "x"}) == Config()


@pytest.mark.parametrize(
    "variable",
    ["SERVICE_HOST", "GRPC_SERVICE_HOST", "SERVICE_PORT_GRPC", "PORT", "PORT_50051_TCP", "API_PORT_80_TCP_ADDR"],
)
def test_variables_that_kubernetes_sets_for_a_service_are_no_settings(variable: str) -> None:
    assert load({f"AVION_MEDIA_{variable}": "10.0.0.1"}) == load({})


@pytest.mark.parametrize("variable", ["GRPC_BIND", "GRPC__PORT", "GRPC__SERVICE_HOST"])
def test_what_only_looks_like_one_is_a_mistake(variable: str) -> None:
    with pytest.raises(ConfigError):
        load({f"AVION_MEDIA_{variable}": "10.0.0.1"})


def test_logs_are_json_unless_people_read_them_or_it_is_said() -> None:
    assert load({}).log.format == Config().log.format == "json"
    assert load({}, on_terminal=True).log.format == "console"
    assert load({P + "LOG__LEVEL": "debug"}, on_terminal=True).log.format == "console"
    for said in ("json", "console"):
        for on_terminal in (False, True):
            assert load({P + "LOG__FORMAT": said}, on_terminal=on_terminal).log.format == said


def test_the_effective_configuration_masks_passwords() -> None:
    shown = effective(load({P + "REDIS__URL": "redis://user:hunter2@redis:6379/0"}))
    assert shown["redis"]["url"] == "redis://user:***@redis:6379/0"
    assert "hunter2" not in str(shown)


def problems_of(**settings: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load({P + name: value for name, value in settings.items()})
    return caught.value.problems


def undecided(*roles: str, **settings: str) -> list[str]:
    return ports_without_auth(load({P + name: value for name, value in settings.items()}), roles or ROLES)


@pytest.mark.parametrize("bind", ["0.0.0.0:50051", "[::]:50051", "10.0.0.1:50051", "media.internal:50051"])
def test_a_port_that_others_reach_must_say_who_may_use_it(bind: str) -> None:
    (problem,) = undecided(GRPC__BIND=bind)
    assert problem.startswith(P + "GRPC__AUTH='': must be token")
    assert f"off, explicitly), because {bind} accepts" in problem
    (problem,) = undecided(ADMIN__BIND=bind)
    assert problem.startswith(f"{P}ADMIN__AUTH='': {bind} accepts")
    assert undecided(GRPC__BIND=bind, GRPC__AUTH="off") == []
    assert undecided(ADMIN__BIND=bind, ADMIN__AUTH="off") == []
    assert undecided(ADMIN__BIND=bind, ADMIN__TOKEN_FILE="/run/token") == []
    assert undecided(ADMIN__BIND=bind, ADMIN__ROLE_HEADER="Remote-Groups", ADMIN__TRUSTED_PROXIES="10.0.0.1") == []


def test_a_proxy_that_authenticates_operators_must_be_named() -> None:
    needs = "needs ADMIN__TRUSTED_PROXIES, the addresses of the proxy that sets this header"
    for others in ({}, {"HTTP__TRUSTED_PROXIES": "10.0.0.1"}):  # those of the CDN name no operator
        problems = problems_of(ADMIN__ROLE_HEADER="Remote-Groups", **others)
        assert problems == [f"{P}ADMIN__ROLE_HEADER='Remote-Groups': {needs}"]
    behind_proxy = {"ADMIN__ROLE_HEADER": "Remote-Groups", "ADMIN__TRUSTED_PROXIES": "10.0.0.1"}
    assert "contradicts ADMIN__ROLE_HEADER" in problems_of(ADMIN__AUTH="off", **behind_proxy)[0]


def test_only_who_opens_a_port_must_say_who_may_use_it() -> None:
    everywhere = {"GRPC__BIND": "0.0.0.0:1", "ADMIN__BIND": "0.0.0.0:2"}
    assert len(undecided(**everywhere)) == 2
    (problem,) = undecided("processing", "http", **everywhere)
    assert problem.startswith(P + "ADMIN__AUTH")
    assert undecided("processing", ADMIN__AUTH="off", **everywhere) == []


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_a_port_of_this_machine_alone_need_not(bind: str) -> None:
    assert undecided(GRPC__BIND=bind, ADMIN__BIND=bind) == []


def test_authentication_is_configured_whole() -> None:
    assert "GRPC__TLS_CLIENT_CA" in problems_of(GRPC__AUTH="mtls", GRPC__CALLERS_FILE="callers.toml")[0]
    assert P + "GRPC__CALLERS_FILE" in problems_of(GRPC__AUTH="token")[0]
    assert P + "GRPC__CALLERS_FILE" in problems_of(GRPC__CALLERS_FILE="callers.toml")[0]
    assert "contradicts" in problems_of(ADMIN__AUTH="off", ADMIN__TOKEN="long-enough-a-token-of-operators")[0]


def test_tokens_are_never_shown() -> None:
    secret = "operators-secret-token-0123456789"
    config = load({P + "ADMIN__TOKEN": secret, P + "CLIENT__TOKEN": secret})
    assert effective(config)["admin"]["token"] == effective(config)["client"]["token"] == "***"
    assert secret not in repr(config)
    assert secret not in str(effective(config))
    for bad in ("tooshort", "with blanks in between", "ünprintable-token-of-some-length"):
        (problem,) = problems_of(CLIENT__TOKEN=bad)
        assert bad not in problem
    assert problems_of(ADMIN__TOKEN="x" * 31) == [
        f"{P}ADMIN__TOKEN=***: expected at least 32 printable ASCII characters without blanks"
    ]


def test_passwords_in_urls_are_masked_everywhere() -> None:
    url = "https://user:hunter2@store.example"
    assert effective(load({P + "S3__ENDPOINT_URL": url}))["s3"]["endpoint_url"] == "https://user:***@store.example"
    assert "hunter2" not in str(problems_of(S3__ENDPOINT_URL="ftp://user:hunter2@store.example"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://cdn", "http://cdn"),
        ("https://user:hunter2@cdn.example/purge", "https://***@cdn.example/purge"),
        ("https://hunter2@cdn.example/", "https://***@cdn.example/"),
        ("https://me:80/hunter2@cdn.example", "https://***@cdn.example"),
        ("https://me:80?hunter2@cdn.example/x", "https://***@cdn.example/x"),
        ("https://cdn.example/{path}?token=hunter2", "https://cdn.example/{path}?token=***"),
        ("https://cdn.example/?p={path}&token=a=hunter2&soft=1", "https://cdn.example/?p={path}&token=***&soft=***"),
        ("https://cdn.example/{path}?hunter2", "https://cdn.example/{path}?***"),
        ("https://cdn.example/{path}?", "https://cdn.example/{path}?"),
    ],
)
def test_no_token_of_a_purge_url_is_told(url: str, shown: str) -> None:
    config = load({P + "CDN__PURGE_URLS": f"http://other,{url}"})
    assert config.cdn.purge_urls == ("http://other", url)
    assert effective(config)["cdn"]["purge_urls"] == ["http://other", shown]


@pytest.mark.parametrize(
    "url",
    ["ftp://hunter2@cdn", "cdn?token=hunter2", "http://a:hunter2/b@cdn", "http://hunter2\N{FULLWIDTH SOLIDUS}@cdn"],
)
def test_a_purge_url_that_is_none_is_refused_without_being_told(url: str) -> None:
    (problem,) = problems_of(CDN__PURGE_URLS=f"http://other,{url}")
    assert problem == f"{P}CDN__PURGE_URLS=***: expected an http:// or https:// address"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"S3__BUCKET": "s3://media"}, "S3__BUCKET='s3://media': String should match"),
        ({"S3__BUCKET": "My_Bucket"}, "S3__BUCKET='My_Bucket': String should match"),
        ({"S3__REGION": ""}, "S3__REGION='': String should match"),
        ({"HTTP__PUBLIC_URL": "https://media.example.org/base?x=1"}, "expected an address without a query"),
        ({"CDN__PURGE_URLS": "https://cdn.example.org/purge/{url}"}, "{url} is unknown; a template has {path}"),
        ({"UPLOAD__MAX_VIDEO_BYTES": "0"}, "greater than 0"),
        ({"DELETE__DELAY": "100000d"}, "less than or equal to 315360000"),
        ({"TASKS__CLAIM_AFTER": "100ms"}, "greater than or equal to 0.5"),
        ({"SANDBOX__MEMORY": "4GiB"}, "SANDBOX__BUDGET: must be at least SANDBOX__MEMORY"),
        ({"SANDBOX__MEMORY": "1MiB"}, "greater than or equal to 268435456"),
        ({"SANDBOX__BUDGET": "1GiB"}, "SANDBOX__BUDGET='1GiB': must be at least SANDBOX__MEMORY"),
        ({"THUMBNAILS__SIZES": "huge:99999"}, "an edge can have at most 4096 pixels"),
        ({"REMOTE__KINDS": "poster:1MiB:1d"}, "expected kind:size:time"),
        ({"REMOTE__KINDS": "avatar:1MiB"}, "expected a number with a unit"),
        ({"REMOTE__KINDS": "avatar:1MiB:1d,avatar:2MiB:1d"}, "a kind is given twice"),
        ({"REMOTE__ALLOW_NETWORKS": "0.0.0.0/0"}, "would switch the address guard off"),
        ({"REMOTE__ALLOW_NETWORKS": "127.0.0.1,::/0"}, "would switch the address guard off"),
        ({"REMOTE__BUDGET": "1KiB"}, "must hold at least one file of REMOTE__MAX_BYTES"),
        ({"SWEEP__RATE": "inf"}, "less than or equal to 10000"),
        ({"REDIS__TIMEOUT": "1ms"}, "greater than or equal to 0.1"),
        ({"UPLOAD__URL_TTL": "7d", "UPLOAD__MULTIPART_TTL": "1m"}, "UPLOAD__MULTIPART_TTL='1m': must be at least"),
    ],
)
def test_values_that_would_do_harm_are_refused(settings: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({P + name: value for name, value in settings.items()})
    (line,) = caught.value.problems
    assert problem in line


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"CHAOS__ENABLED": "true"}, "CHAOS__ENABLED"),
        ({"SWEEP__MAX_FRACTION": "1"}, "SWEEP__MAX_FRACTION"),
        ({"SANDBOX__REQUIRE": "false"}, "SANDBOX__REQUIRE"),
        ({"SANDBOX__BUDGET": "1000000GiB"}, "SANDBOX__BUDGET"),
        ({"TASKS__CLAIM_AFTER": "5s"}, "TASKS__CLAIM_AFTER"),
        ({"TASKS__MAX_AGE": "1h"}, "TASKS__MAX_AGE"),
        ({"DELETE__DELAY": "0"}, "DELETE__DELAY"),
        ({"SWEEP__MARGIN": "0"}, "SWEEP__MARGIN"),
        ({"REMOTE__TTL": "0"}, "REMOTE__TTL"),
        ({"HTTP__TRUSTED_PROXIES": "0.0.0.0/0"}, "HTTP__TRUSTED_PROXIES"),
        ({"ADMIN__TRUSTED_PROXIES": "::/0"}, "ADMIN__TRUSTED_PROXIES"),
        ({"REMOTE__ALLOW_NETWORKS": "10.0.0.0/8"}, "REMOTE__ALLOW_NETWORKS"),
        ({f"DECODERS__{each}": "false" for each in ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "HEIC")}, "DECODERS__*"),
        ({"UPLOAD__MAX_PIXELS": "100000000"}, "SANDBOX__MEMORY"),
        ({"SANDBOX__MEMORY": "512MiB"}, "SANDBOX__MEMORY"),
    ],
)
def test_legal_settings_that_are_rarely_meant_are_a_warning(settings: dict[str, str], name: str) -> None:
    (line,) = dangers(load({P + key: value for key, value in settings.items()}))
    assert line.startswith(name)


@pytest.mark.parametrize(("limit", "warns"), [("2147483648\n", True), ("max\n", False)])
def test_the_memory_of_a_container_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, warns: bool
) -> None:
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(kernel, "_CONTAINER_MEMORY", tmp_path / "memory.max")
    assert any("SANDBOX__BUDGET is above 2.0 GiB" in each for each in dangers(load({}))) is warns


def test_a_development_server_may_kill_its_parts() -> None:
    assert not dangers(load({P + "CHAOS__ENABLED": "true", P + "ADMIN__ENVIRONMENT": "development"}))


def test_nothing_of_the_defaults_is_dangerous() -> None:
    assert dangers(load({})) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"REDIS__URL": "redis://:p@ss@host:6379/0"},  # the last @ counts
        {"HTTP__BIND": ":8080"},  # every address
        {"SANDBOX__SLOTS": "1", "TASKS__SLOTS": "64"},  # the tasks wait for each other
        {"EVENTS__MAX_ENTRIES": "100_000"},
        {"REMOTE__DENY_HOSTS": "*.example.org"},  # as without the star
        {"SANDBOX__MEMORY": "512MiB", "UPLOAD__MAX_PIXELS": "10000000"},
    ],
)
def test_odd_values_that_do_no_harm(settings: dict[str, str]) -> None:
    assert dangers(load({P + key: value for key, value in settings.items()})) == []
