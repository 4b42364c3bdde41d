"""The clients in three languages do the same: uploads that go on after a kill, errors as types, deletion.

The fixtures of the clients run as the page about them shows.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread

import compose_spec
import grpc
import pytest
from google.protobuf.message import Message

from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.wire.avion import media_pb2 as media
from tests.examples.commands import blocks, follow
from tests.examples.conftest import ROOT, Secured, environment

CASES = Path(__file__).parent / "clients"
PAGE = ROOT / "docs/how-to/test-against-it.md"
DEV = """#!/bin/sh
trap 'kill $dev' TERM
avion-media dev "$@" & dev=$!
wait $dev
wait $dev
echo $? >> $0.ended
"""
PART_BYTES, PARTS = 8 << 20, 5
ON_THIS_MACHINE = ["localhost:1", "127.0.0.1:1", "[::1]:1", "dns:///localhost:1", "unix:/run/media.sock"]
ELSEWHERE = [
    "media.example:1",
    "127.0.0.1.example:1",
    "dns://127.0.0.1/media.example:1",
    "[::2]:1",
    "localhost.example:1",
]


@dataclass
class Language:
    """How the programs of one language are started, and with what environment."""

    name: str
    upload: Sequence[str]
    cases: Sequence[str]
    environment: dict[str, str]


@pytest.fixture(scope="module")
def typescript(examples: Path) -> Path:
    """The package for Node.js, compiled."""
    package = examples.parent / "clients/typescript"
    follow("npm run --silent build", package, environment())
    return package


@pytest.fixture(scope="module", params=["python", "node", "go"])
def language(request: pytest.FixtureRequest, secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> Language:
    """Programs that are built as their README says, and have the credentials of a caller."""
    folder = secured.examples / "upload"
    shell = environment(**secured.caller, AVION_MEDIA_GRPC__BIND="127.0.0.1:1")  # where a client has no address
    if request.param == "python":
        shell["PYTHONPATH"] = str(secured.examples.parent / "clients/python")
        return Language("python", ("python", str(folder / "upload.py")), ("python", str(CASES / "cases.py")), shell)
    if request.param == "node":
        package = request.getfixturevalue("typescript")
        (folder / "node_modules").mkdir()
        (folder / "node_modules/avion-media-client").symlink_to(package)
        shutil.copy(CASES / "cases.mjs", folder)
        return Language("node", ("node", str(folder / "upload.mjs")), ("node", str(folder / "cases.mjs")), shell)
    _with_modules, with_packages = blocks(folder / "README.md", "Go")
    follow("\n".join(with_packages.splitlines()[:-1]), folder, shell)
    shutil.copy(CASES / "cases.go", folder)
    follow(with_packages.splitlines()[-2].replace("-o upload upload.go", "-o cases cases.go"), folder, shell)
    return Language("go", (str(folder / "upload"),), (str(folder / "cases"),), shell)


@contextmanager
def service_with(
    answers: Mapping[str, Message], language: Language
) -> Iterator[tuple[dict[str, str], dict[str, bytes]]]:
    """A service with these answers. Yields the environment of its clients, and the last request of each method."""
    requests: dict[str, bytes] = {}

    def answer(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        requests[method] = request
        if method == "SignUploadParts" and media.SignUploadPartsRequest.FromString(request).upload_id == "joined":
            context.abort(grpc.StatusCode.NOT_FOUND, "joined")
        return answers[method].SerializeToString()

    handlers = {method: grpc.unary_unary_rpc_method_handler(partial(answer, method)) for method in answers}
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("avion.MediaService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    shell = {name: value for name, value in language.environment.items() if "CLIENT__" not in name}
    shell["AVION_MEDIA_GRPC__BIND"] = f"127.0.0.1:{port}"
    try:
        yield shell, requests
    finally:
        server.stop(None)


def store(listener: socket.socket) -> None:
    """A store that takes no byte of the first PUT, takes the second, and refuses the third at its head."""
    with listener, listener.accept()[0], listener.accept()[0] as taking:
        read = taking.makefile("rb")
        head = iter(read.readline, b"\r\n")
        length = next(int(line.split()[1]) for line in list(head) if line.lower().startswith(b"content-length:"))
        while length:
            length -= len(read.read(min(length, 1 << 20)))
        taking.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        taking.shutdown(socket.SHUT_RDWR)
        with listener.accept()[0] as refusing:
            refusing.recv(1)
            refusing.sendall(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            with suppress(OSError):
                while refusing.recv(1 << 20):
                    pass


def test_an_upload_goes_on_after_a_kill(
    language: Language, secured: Secured, data_directory: Path, tmp_path: Path
) -> None:
    clip = (data_directory / "mp4-h264-faststart.mp4").read_bytes()
    padding = PARTS * PART_BYTES - len(clip)
    film = tmp_path / "film.mp4"
    film.write_bytes(clip + padding.to_bytes(4) + b"free" + bytes(padding - 8))
    command = [*language.upload, str(film), "video/mp4"]
    before = secured.line.whole.total()
    secured.line.cut_after(2 * PART_BYTES + PART_BYTES // 2)
    with subprocess.Popen(command, env=language.environment, stderr=subprocess.PIPE) as first:
        assert secured.line.lost.wait(60)
        first.send_signal(signal.SIGKILL)
    secured.line.restore()

    second = subprocess.run(command, env=language.environment, capture_output=True, text=True, timeout=120, check=True)

    assert second.stderr.splitlines()[0] == f"{2 * PART_BYTES} of {PARTS * PART_BYTES} bytes"
    assert second.stdout.split()[1:] == ["video/mp4", "large", "medium", "small"]
    assert secured.line.whole.total() == before + PARTS  # each part once
    assert not film.with_name("film.mp4.upload").exists()


def test_errors_deletions_and_tokens(language: Language, secured: Secured, data_directory: Path) -> None:
    photo, nobody = data_directory / "jpeg-orientation-6.jpg", new_media_id(JPEG, 1_700_000_000_000)
    command = [*language.cases, str(photo), str(nobody), secured.service.http_url]
    done = subprocess.run(command, env=language.environment, capture_output=True, text=True, timeout=120, check=False)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        ["not owned", True],
        ["deleted", []],
        ["wait", "DELETED", {}, "This file was deleted."],
        ["restored", True],
        ["state", "READY"],
        ["unknown", "", {}, "This file is not there any more."],
        ["invalid", "", {"owner": "OWNER_INVALID"}, ""],
        ["refused", "RequestMediaUpload", "This type of file is not supported."],
        ["early", "NOTHING_UPLOADED", {}, ""],
        ["failed", "unsupported_type", "This type of file is not supported.", False],
        ["signed", 200],
        ["revoked", 403],
    ], done.stderr


def test_no_byte_is_sent_that_must_not_or_need_not(language: Language, data_directory: Path) -> None:
    """A private file must not become public. A file of another size does not continue an upload. One whose parts the
    store has joined already, although no answer said so, is completed as it is. The service has no store, so that a
    byte would be an error."""
    nowhere = "http://127.0.0.1:1/"
    answers = {
        "GetCapabilities": media.Capabilities(),
        "RequestMediaUpload": media.RequestMediaUploadResponse(media_id="older", upload_url=nowhere),
        "SignUploadParts": media.SignUploadPartsResponse(parts=[media.UploadPart(number=1, size=5, url=nowhere)]),
        "GetMediaStatus": media.MediaStatus(media_id="nobody", state=media.MediaStatus.PENDING_UPLOAD),
        "CompleteMediaUpload": media.CompleteMediaUploadResponse(),
        "DeleteMedia": media.DeleteMediaResponse(),
    }
    command = [*language.cases, str(data_directory / "jpeg-orientation-6.jpg"), "nobody"]
    with service_with(answers, language) as (shell, requests):
        done = subprocess.run(command, env=shell, capture_output=True, text=True, timeout=120, check=False)

    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        ["older", "", {}, ""],
        ["changed", "", {}, "The file has changed. Please upload it again."],
        ["joined", "nobody"],
    ], done.stderr
    completion = media.CompleteMediaUploadRequest.FromString(requests["CompleteMediaUpload"])
    assert (completion.media_id, completion.upload_id) == ("nobody", "joined")
    deletion = media.DeleteMediaRequest.FromString(requests["DeleteMedia"])
    assert deletion.HasField("delay")
    assert deletion.delay.ToSeconds() == 0


def test_a_store_that_hangs_costs_one_attempt(language: Language, tmp_path: Path) -> None:
    """What a store refuses before it has all bytes is refused. Without TLS a token stays on this machine."""
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(bytes(16 << 20))  # more than the buffers of a connection take
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/photo"
    answers = {
        "GetCapabilities": media.Capabilities(),
        "RequestMediaUpload": media.RequestMediaUploadResponse(media_id="photo", upload_url=url),
        "CompleteMediaUpload": media.CompleteMediaUploadResponse(),
    }
    Thread(target=store, args=[listener], daemon=True).start()
    with service_with(answers, language) as (shell, _requests):
        shell["ADDRESSES"] = " ".join([*ELSEWHERE, *ON_THIS_MACHINE])
        done = subprocess.run(
            [*language.cases, str(photo)], env=shell, capture_output=True, text=True, timeout=20, check=False
        )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        ["sent again", "photo"],
        ["refused", "", {}, ""],
        ["in clear", ON_THIS_MACHINE],
    ], done.stderr


def test_the_fixtures_start_the_service_and_end_it(
    examples: Path, typescript: Path, data_directory: Path, tmp_path: Path
) -> None:
    folders = {}
    for section in ("pytest", "Vitest", "Go"):
        folders[section] = tmp_path / section
        folders[section].mkdir()
        shutil.copy(data_directory / "jpeg-orientation-6.jpg", folders[section] / "photo.jpg")
    packages = folders["Vitest"] / "node_modules"
    packages.mkdir()
    (packages / "avion-media-client").symlink_to(typescript)
    for package in (Path(__file__).parent / "vitest/node_modules").iterdir():
        (packages / package.name).symlink_to(package)
    dev = tmp_path / "dev"
    dev.write_text(DEV)
    dev.chmod(0o755)
    shell = environment(
        PYTHONPATH=str(examples.parent / "clients/python"),
        REPOSITORY=str(examples.parent),
        AVION_DEV_COMMAND=str(dev),
    )

    def run(section: str) -> str:
        return follow("".join(blocks(PAGE, section)), folders[section], shell)

    def run_without_service(section: str) -> str:
        command = blocks(PAGE, section)[-1].splitlines()[-1]
        nowhere = {**shell, "AVION_DEV_COMMAND": "nowhere/avion-media dev"}
        done = subprocess.run(
            ["bash", "-c", command], cwd=folders[section], env=nowhere, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    with ThreadPoolExecutor() as pool:
        printed = dict(zip(folders, pool.map(run, folders), strict=True))
        problems = list(pool.map(run_without_service, folders))

    assert "1 passed" in printed["pytest"]
    assert "1 passed" in printed["Vitest"]
    assert "PASS\nok" in printed["Go"]
    assert dev.with_suffix(".ended").read_text().split() == ["0", "0", "0"]
    for problem in problems:
        assert "nowhere/avion-media did not start" in problem
        assert "Set AVION_DEV_COMMAND to the command that starts the service" in problem


def test_what_vitest_injects_has_its_type(typescript: Path, tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/avion-media-client").symlink_to(typescript)
    for package in (Path(__file__).parent / "vitest/node_modules").iterdir():
        (tmp_path / "node_modules" / package.name).symlink_to(package)
    (tmp_path / "photo.test.mts").write_text(
        """import { MediaClient } from 'avion-media-client';
import { inject } from 'vitest';
const { address, origin, redisUrl } = inject('avionMedia');
export const used: [MediaClient, string, string] = [new MediaClient(address), origin, redisUrl];
"""
    )
    compiler = f"{typescript}/node_modules/.bin/tsc --preserveSymlinks --typeRoots {typescript}/node_modules/@types"
    follow(f"{compiler} --noEmit --strict --skipLibCheck --module nodenext photo.test.mts", tmp_path, environment())


def test_the_compose_file_is_valid() -> None:
    (block,) = blocks(PAGE, "Compose", "yaml")
    compose_spec.PyCompose.from_yaml(block)


def test_the_generated_code_is_that_of_the_interface(tmp_path: Path) -> None:
    """That of Python is checked by ``ops/generate-proto --check``."""
    for name in ("go", "typescript"):
        shutil.copytree(ROOT / "clients" / name, tmp_path / name, symlinks=True)
    shutil.copytree(ROOT / "proto", tmp_path.parent / "proto", dirs_exist_ok=True)
    shutil.copy(ROOT / "clients/generate", tmp_path)
    follow("./generate", tmp_path, environment())
    for path in [*(tmp_path / "go/mediapb").iterdir(), *(tmp_path / "typescript/src/generated").rglob("*.ts")]:
        assert path.read_text() == (ROOT / "clients" / path.relative_to(tmp_path)).read_text(), path
