"""The built image in a container: as user 10001, on a read-only root, without a capability.

Run by `make image`, after the build. The containers share the machine's network, so that they reach the test services.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.image.layers import differences, digest
from tests.ops.manifests import ROOT
from tests.service.conftest import bucket  # noqa: F401 - a fixture
from tests.service.harness import Service, eventually, json_lines, running, service_environment
from tests.services.process import Program, accepts_connections, free_port, require, working_directory

BUILT = ROOT / "build/image"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
IMAGE = f"localhost/avion-media:{VERSION}"
# runc and cgroupfs: they also work where systemd does not run, and with both versions of control groups at once.
PODMAN = (
    *("podman", "--root", str(BUILT / "storage"), "--runroot", str(BUILT / "run")),
    *("--runtime", "runc", "--cgroup-manager", "cgroupfs"),
)
RUN = (
    *(*PODMAN, "run", "--rm", "--network", "host", "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=20000:20000"),
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)
# What each sample is uploaded as. All that the image's libraries must be able to do.
SAMPLES = {
    "jpeg-dog-12mp-6.jpg": "image/jpeg",
    "png-alpha-large.png": "image/png",
    "gif-animated.gif": "image/gif",
    "webp-animated.webp": "image/webp",
    "avif-still.avif": "image/avif",
    "mp4-h264-faststart.mp4": "video/mp4",
    "mp4-hevc.mp4": "video/mp4",
    "mp4-av1.mp4": "video/mp4",
    "mp4-fragmented.mp4": "video/mp4",
    "mov-iphone14pro-hevc-dolbyvision-rotated-gps.mov": "video/quicktime",
    "webm-vp8.webm": "video/webm",
    "webm-vp9.webm": "video/webm",
    "mkv-h264-ac3.mkv": "video/x-matroska",
}
MAX_BYTES = 350_000_000


def run(*arguments: str, program: str = "avion-media", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a container to its end."""
    variables = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
    command = [*RUN, *variables, "--entrypoint", program, IMAGE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def inside(program: str) -> str:
    """What a Python program in a container prints."""
    done = run("-c", program, program="python")
    assert done.returncode == 0, done.stderr
    return done.stdout


def serving(environment: dict[str, str]) -> tuple[str, ...]:
    """The command that runs ``avion-media`` in a container, with the service's variables."""
    ours = [name for name in environment if name.startswith(("AVION_MEDIA_", "AWS_"))]
    return (*RUN, *(word for name in ours for word in ("--env", name)), IMAGE)


def environment_of(redis_url: str, bucket: S3Bucket) -> dict[str, str]:  # noqa: F811
    """The settings of a container: loopback ports of its own, as in all tests."""
    url = bucket.address.endpoint_url
    return service_environment(redis_url, url, bucket.bucket, SANDBOX__REQUIRE="true", DRAIN__SETTLE="1s")


@pytest.fixture(scope="module")
def container(redis_of_module: str, bucket: S3Bucket) -> Iterator[Service]:  # noqa: F811
    """The whole service in one container."""
    environment = environment_of(redis_of_module, bucket)
    with running(environment, program=serving(environment)) as running_service:
        yield running_service


def test_the_process_has_no_privilege_and_nothing_to_write_to() -> None:
    status = inside("print(open('/proc/self/status').read())")
    assert re.search(r"^Uid:(\t10001){4}$", status, re.MULTILINE)
    assert re.search(r"^Gid:(\t10001){4}$", status, re.MULTILINE)
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
    assert inside("import os; print(os.statvfs('/').f_flag & os.ST_RDONLY)") == "1\n"


def test_decoders_are_confined_fully() -> None:
    done = run("doctor", "sandbox", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {each["status"] for each in json.loads(done.stdout)} == {"ok"}


def test_serve_refuses_to_run_open() -> None:
    done = run("serve")
    assert done.returncode == 2
    assert "GRPC__AUTH" in done.stderr


@pytest.mark.parametrize("name", SAMPLES)
def test_an_upload_becomes_ready(container: Service, data_directory: Path, name: str) -> None:
    status = container.upload(name, SAMPLES[name], (data_directory / name).read_bytes())
    assert status.state == wire.MediaStatus.READY, status
    assert container.get(f"/thumbnail/large/{status.media_id}").status_code == 200


def is_ready(service: Service, media_id: str) -> bool:
    """Whether the upload has become READY."""
    return service.status(media_id).state == wire.MediaStatus.READY


def test_sigterm_drains_and_what_was_accepted_becomes_ready(
    container: Service,
    redis_of_module: str,
    bucket: S3Bucket,  # noqa: F811
    data_directory: Path,
) -> None:
    environment = environment_of(redis_of_module, bucket)
    body = (data_directory / "jpeg-dog-12mp-6.jpg").read_bytes()
    with running(environment, program=serving(environment)) as first:
        accepted = []
        for _each in range(8):  # more than there are slots
            granted = first.request_upload("dog.jpg", "image/jpeg", len(body))
            assert first.put(granted, body).status_code == 200
            first.complete(granted.media_id)
            accepted.append(granted.media_id)
        assert first.stop() == 0
        phases = [line["phase"] for line in json_lines(first.log()) if line["event"] == "phase"]
        assert phases[-3:] == ["DRAINING", "STOPPING", "DONE"]
    for media_id in accepted:
        eventually(partial(is_ready, container, media_id), f"{media_id} READY")


def test_what_is_inside_is_what_runs_and_nothing_to_build_with() -> None:
    programs = ["cc", "gcc", "g++", "make", "pip", "uv", "git", "curl", "apt", "apt-get", "dpkg", "perl", "su", "mount"]
    assert set(inside(f"import shutil; print(*map(shutil.which, {programs}))").split()) == {"None"}
    files = inside(
        "import os\n"
        "for folder, _folders, names in os.walk('/'):\n"
        "    for path in (os.path.join(folder, name) for name in names):\n"
        "        if path.startswith(('/dev/', '/proc/', '/sys/')) or os.path.islink(path): continue\n"
        "        if os.stat(path).st_mode & 0o6002: print(path)\n"
    )
    assert files == "", "files that anybody can write, or with setuid or setgid"


def test_the_target_dev_runs_the_demo() -> None:
    done = subprocess.run(
        [*RUN, f"{IMAGE}-dev", "--demo", "/demo", "--once", "--free-ports"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    samples = len(list((ROOT / "ops/demo").iterdir()))
    assert f"{samples} of {samples} files ready" in done.stdout


@pytest.mark.timeout(1800)
def test_two_builds_of_one_commit_have_one_digest(tmp_path: Path) -> None:
    """The second uses no layer of an earlier build."""
    subprocess.run([ROOT / "ops/build-image", "--again"], check=True, timeout=1500)
    builds = {}
    for name in ("avion-media", "avion-media-again"):
        builds[name] = tmp_path / name
        push = ["push", "--quiet", f"localhost/{name}:{VERSION}", f"oci:{builds[name]}"]
        subprocess.run([*PODMAN, *push], check=True, timeout=300)
    first, second = builds.values()
    assert differences(first, second) == []
    assert digest(first) == digest(second)


def test_the_image_names_its_version_and_commit() -> None:
    done = subprocess.run([*PODMAN, "image", "inspect", IMAGE], capture_output=True, text=True, timeout=60, check=True)
    labels = json.loads(done.stdout)[0]["Labels"]
    assert labels["org.opencontainers.image.version"] == VERSION
    assert re.fullmatch("[0-9a-f]{40}", labels["org.opencontainers.image.revision"])
    assert labels["org.opencontainers.image.created"].startswith("20")
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_compiled_modules_are_used_whatever_the_times_of_files() -> None:
    flags = inside("import json, trio\nfor each in (json, trio): print(open(each.__cached__, 'rb').read(8)[4])")
    assert flags == "1\n1\n"  # a hash that is not checked (PEP 552), for Debian's modules and those of the environment


def test_the_files_of_python_packages_have_the_hashes_that_their_records_name() -> None:
    program = (
        "import base64, hashlib\n"
        "from importlib.metadata import distributions\n"
        "files = [file for each in distributions() for file in each.files or ()]\n"
        "def value(file):\n"
        "    digest = hashlib.sha256(file.locate().read_bytes()).digest()\n"
        "    return base64.urlsafe_b64encode(digest).rstrip(b'=').decode()\n"
        "print(len(files), *(file for file in files if file.hash and value(file) != file.hash.value))"
    )
    number, *changed = inside(program).split()
    assert int(number) > 1000
    assert changed == []


def test_the_build_left_none_of_its_own_settings() -> None:
    assert inside("import os; print(os.path.exists('/run/secrets'), 'SSL_CERT_FILE' in os.environ)") == "False False\n"


def test_the_image_is_not_larger_than_it_was() -> None:
    done = subprocess.run([*PODMAN, "image", "inspect", IMAGE], capture_output=True, text=True, timeout=60, check=True)
    (description,) = json.loads(done.stdout)
    assert description["Size"] <= MAX_BYTES


@pytest.fixture
def registry() -> Iterator[str]:
    """An empty registry on loopback."""
    port = free_port()
    with working_directory("registry") as directory:
        configuration = {
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(directory / "images")}},
            "http": {"addr": f"127.0.0.1:{port}"},
        }
        path = directory / "registry.json"  # JSON is YAML
        path.write_text(json.dumps(configuration))
        program = Program([require("docker-registry", "docker-registry"), "serve", path], directory / "log")
        try:
            program.wait_until(lambda: accepts_connections(port), timeout_s=30)
            yield f"127.0.0.1:{port}"
        finally:
            program.stop()


def test_a_signed_image_is_verified_and_a_foreign_key_is_not(registry: str, tmp_path: Path) -> None:
    """With throw-away keys, and without the public log of signatures."""
    name = f"{registry}/avion-media"
    digest_file = tmp_path / "digest"
    push = ["push", "--tls-verify=false", "--digestfile", str(digest_file), IMAGE, f"docker://{name}:{VERSION}"]
    subprocess.run([*PODMAN, *push], check=True, timeout=300, capture_output=True)
    image = f"{name}@{digest_file.read_text().strip()}"

    def cosign(*arguments: str) -> bool:
        program, environment = require("cosign", "cosign"), {**os.environ, "COSIGN_PASSWORD": "", "HOME": str(tmp_path)}
        done = subprocess.run(
            [program, *arguments], capture_output=True, cwd=tmp_path, timeout=120, env=environment, check=False
        )
        return done.returncode == 0

    assert cosign("generate-key-pair", "--output-key-prefix", "ours")
    assert cosign("generate-key-pair", "--output-key-prefix", "foreign")
    verify = ("verify", "--allow-http-registry", "--insecure-ignore-tlog=true", "--key")
    assert not cosign(*verify, "ours.pub", image), "it is not signed yet"
    assert cosign("sign", "--allow-http-registry", "--tlog-upload=false", "--yes", "--key", "ours.key", image)
    assert cosign(*verify, "ours.pub", image)
    assert not cosign(*verify, "foreign.pub", image)


def test_the_sbom_lists_what_is_inside() -> None:
    text = (BUILT / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {each["purl"]: each for each in json.loads(text)["components"]}
    debian = inside("print(open('/var/lib/dpkg/status').read().count('\\nStatus: install ok installed\\n'))")
    assert sum(each.startswith("pkg:deb/debian/") for each in components) == int(debian)
    assert sum("licenses" in each for each in components.values()) >= 0.95 * len(components)
    assert all("hashes" in each for purl, each in components.items() if purl.startswith(("pkg:deb/", "pkg:pypi/")))
    locked = {each["name"]: each["version"] for each in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    python = {each["name"]: each["version"] for purl, each in components.items() if purl.startswith("pkg:pypi/")}
    assert python["avion-media"] == VERSION
    assert python.items() <= locked.items()
    assert not python.keys() & {"pytest", "mypy", "moto", "pip", "uv"}
    assert {"trio", "pillow", "pyvips-binary", "av", "pdqhash", "pillow-heif"} <= python.keys()
    assert any(purl.startswith("pkg:generic/ffmpeg@8") for purl in components)
