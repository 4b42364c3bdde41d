"""The model of a store gives the answers of a real one, and fails as it is asked to.

`s3_answers.json` has the answers of Ceph 18; a test of the service asks Ceph again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import h11
import pytest
import trio

from trio_simulation import Fault, Simulation, attempt, run
from trio_simulation.s3 import Request, S3Model, Trouble

from .http_client import request
from .s3_questions import answers

ANSWERS = Path(__file__).parent / "s3_answers.json"


async def send(
    method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> tuple[int, Mapping[str, str], bytes]:
    async with await trio.open_tcp_stream("store", 80) as stream:
        return await request(stream, method, "store", f"/photos/{target}", headers or {}, body)


def started(simulation: Simulation) -> S3Model:
    model = S3Model("photos")
    simulation.node("store").start(model.serve)
    simulation.fault_kinds.update(model.fault_kinds())
    return model


def test_the_same_answers_as_a_real_store() -> None:
    async def scenario(simulation: Simulation) -> object:
        started(simulation)
        await trio.sleep(0.1)
        return await answers(send, "photos")

    assert run(scenario, seed=1) == json.loads(ANSWERS.read_text(encoding="utf-8"))


def test_many_requests_on_one_connection_and_another_bucket() -> None:
    async def scenario(simulation: Simulation) -> None:
        model = started(simulation)
        await trio.sleep(0.1)
        async with await trio.open_tcp_stream("store", 80) as stream:
            for number in range(3):
                status, _, _ = await request(stream, "PUT", "store", f"/photos/{number}", {}, b"x" * 100_000)
                assert status == 200
            status, headers, body = await request(stream, "GET", "store", "/photos/1", {}, b"")
            assert (status, headers["date"], body) == (200, "Fri, 15 Jan 2027 08:00:00 GMT", b"x" * 100_000)
            assert (await request(stream, "GET", "store", "/other/1", {}, b""))[0] == 404
            assert (await request(stream, "PATCH", "store", "/photos/1", {}, b""))[0] == 405
        assert sorted(model.objects) == ["0", "1", "2"]
        assert model.call("HEAD", "/photos/0").status == 200
        assert model.requests == 6

    run(scenario, seed=1)


def test_troubles() -> None:
    async def scenario(simulation: Simulation) -> None:
        model = started(simulation)
        await trio.sleep(0.1)

        def choose(asked: Request) -> Trouble | None:
            troubles = {
                "refused": Trouble(refused=True),
                "lost": Trouble(lost=True),
                "slow": Trouble(delay_s=30.0),
            }
            return troubles.get(asked.key)

        model.trouble = choose
        assert (await send("PUT", "refused"))[0] == 503
        with pytest.raises(h11.RemoteProtocolError):
            await send("PUT", "lost")
        began_at = trio.current_time()
        assert (await send("PUT", "slow"))[0] == 200
        assert trio.current_time() - began_at > 30
        assert sorted(model.objects) == ["lost", "slow"]

    run(scenario, seed=1)


def test_faults_of_a_store_begin_and_end() -> None:
    async def scenario(simulation: Simulation) -> list[int]:
        started(simulation)
        statuses = []
        while trio.current_time() < 40:
            await trio.sleep(1)
            try:
                status, _, _ = await send("PUT", "key")
            except h11.RemoteProtocolError:
                status = 0
            statuses.append(status)
        return statuses

    faults = [
        Fault("store refuses", 5, 10, ("store",), amount=1.0),
        Fault("store refuses", 8, 3, ("store",), amount=1.0),
        Fault("store loses replies", 20, 10, ("store",), amount=0.5),
    ]
    done = attempt(scenario, seed=1, faults=faults)
    assert done.error is None
    statuses = done.value
    assert statuses[:4] == [200] * 4
    assert statuses[5:13] == [503] * 8
    assert {0, 200} == set(statuses[20:28])
    assert statuses[-8:] == [200] * 8
