"""All of `urls` against a network that is full of canaries: run as a program inside an empty network namespace.

Everything that must not be reached stands on the loopback here, on the ports that the guard allows, and so does one
public address with an accomplice that redirects to wherever it is asked to. The kernel's own count of opened
connections (``ActiveOpens``) is the judge: it also sees what no canary hears. Prints one JSON object.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import unquote

import trio

from guarded_fetch import AddressGuard, Fetcher, InvalidUrl, parse_remote_url
from guarded_fetch.errors import FetchRejected, FetchUnavailable

from .strangers import Names, Stranger, says, stranger
from .urls import HOSTILE, NAMES, PUBLIC

CANARIES = (
    "127.0.0.1", "127.0.0.2", "127.127.127.127", "169.254.169.254", "169.254.170.2", "10.0.0.1", "172.16.0.1",
    "192.168.0.1", "100.64.0.1", "100.100.100.200", "192.0.0.192", "168.63.129.16", "198.18.0.1", "::1",
    "fd00:ec2::254", "fc00::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:db8::1",
    "2001:0:7f00:1::",
)  # fmt: skip
PORTS = (80, 443)
_TLS = ssl.create_default_context()


async def main() -> None:
    """Run everything and print what came of it."""
    _furnish()
    async with AsyncExitStack() as stack:
        canaries = [
            await stack.enter_async_context(stranger(says(b""), host=host, port=port))
            for host in CANARIES
            for port in PORTS
        ]
        accomplice = await stack.enter_async_context(stranger(_accomplice, host=PUBLIC, port=80))
        report = {
            "control": await _control(canaries),
            "public": await _outcome("http://public.example/picture"),
            "direct": await _direct(),
            "redirected": await _redirected(accomplice),
            "rebinding": await _outcome("http://rebind.example/?http://rebind.example/"),
            "knocks": sum(each.connections for each in canaries),
        }
    json.dump(report, sys.stdout)


def _furnish() -> None:
    addresses = [*CANARIES, PUBLIC]
    extra = [each for each in addresses if each not in ("127.0.0.1", "::1")]
    commands = ["link set lo up"]
    commands += [f"addr add {each}/{'128 nodad' if ':' in each else '32'} dev lo" for each in extra]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)


async def _accomplice(stream: trio.abc.Stream, head: bytes) -> None:
    path, _, location = head.split(b" ")[1].partition(b"?")
    if path == b"/picture":
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npicture")
    elif path == b"/":
        to = unquote(location.decode(), errors="surrogateescape").encode("utf-8", "surrogateescape")
        await stream.send_all(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + to + b"\r\n\r\n")
    else:
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


async def _control(canaries: list[Stranger]) -> int:
    """Every canary hears a knock, and the kernel counts it: without this the zeros below would mean nothing."""
    before = _active_opens()
    for each in canaries:
        stream = await trio.open_tcp_stream(each.host, each.port)
        await stream.aclose()
        while not each.connections:
            await trio.lowlevel.checkpoint()
        each.connections = 0
    assert _active_opens() - before == len(canaries)
    return len(canaries)


async def _direct() -> dict[str, object]:
    outcomes = {}
    before = _active_opens()
    for template in HOSTILE:
        for port in ("", ":80", ":443", ":8080"):
            text = template.replace("{port}", port)
            outcomes[ascii(text)] = await _outcome(text)
    return {"outcomes": outcomes, "opened": _active_opens() - before}


async def _redirected(accomplice: Stranger) -> dict[str, object]:
    outcomes = {}
    before = _active_opens()
    accomplice.connections = 0
    for template in HOSTILE:
        location = template.replace("{port}", "")
        if len(location) > 500:
            continue  # too long to be handed to the accomplice in a URL
        quoted = "".join(f"%{byte:02X}" for byte in location.encode("utf-8", "surrogatepass"))
        outcomes[ascii(location)] = await _outcome(f"http://public.example/?{quoted}")
    return {"outcomes": outcomes, "opened_elsewhere": _active_opens() - before - accomplice.connections}


async def _outcome(text: str) -> str:
    names = Names(NAMES)
    names.add("rebind.example", [PUBLIC], ["127.0.0.1"])
    fetcher = Fetcher(AddressGuard(), max_bytes=1000, timeout_s=5.0, user_agent="test", resolve=names, ssl_context=_TLS)
    with tempfile.TemporaryFile(buffering=0) as file:
        try:
            await fetcher.fetch(parse_remote_url(text), file.fileno())
        except InvalidUrl:
            return "invalid"
        except FetchRejected as rejection:
            return str(rejection.code)
        except FetchUnavailable as error:
            return f"unavailable: {error.detail}"
    return "fetched"


def _active_opens() -> int:
    names, values = (
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Tcp:")
    )
    return int(values[names.index("ActiveOpens")])


if __name__ == "__main__":
    trio.run(main)
