"""What faults do to nodes and connections."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
import trio

from trio_simulation import Fault, FaultPlan, Killed, LimitExceeded, Simulation, attempt, run
from trio_simulation.faults import KINDS, from_json, to_json
from trio_simulation.network.ends import RETRANSMISSION_S

PORT = 7


class Recorder:
    """A server that keeps what it receives, beside the simulation."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.ends: list[str] = []

    async def serve(self) -> None:
        await trio.serve_tcp(self._take, PORT)

    async def _take(self, stream: trio.SocketStream) -> None:
        try:
            async for data in stream:
                self.received.append(bytes(data))
        except trio.BrokenResourceError as error:
            self.ends.append(repr(error.__cause__))
        else:
            self.ends.append("end")


async def opened(host: str = "server") -> trio.SocketStream:
    return await trio.open_tcp_stream(host, PORT)


def test_a_killed_process_has_no_effect_any_more() -> None:
    recorder = Recorder()
    cleaned: list[type[BaseException]] = []

    async def client(simulation: Simulation) -> None:
        stream = await opened()
        await stream.send_all(b"before")
        try:
            await trio.sleep_forever()
        finally:
            simulation.note("written by the cleanup")
            with trio.CancelScope(shield=True):
                for attempt_it in (lambda: stream.send_all(b"after"), opened, lambda: trio.to_thread.run_sync(print)):
                    try:
                        await attempt_it()
                    except (trio.BrokenResourceError, Killed) as error:
                        cleaned.append(type(error))

    async def scenario(simulation: Simulation) -> None:
        simulation.node("server").start(recorder.serve)
        node = simulation.node("client")
        node.start(client, simulation)
        await trio.sleep(1)
        node.kill()
        await trio.sleep(1)
        assert recorder.ends == ["end"]

    done = attempt(scenario, seed=1, keep_trace=True)
    assert done.error is None
    assert recorder.received == [b"before"]
    assert cleaned == [trio.BrokenResourceError, Killed, Killed]
    assert done.lines is not None
    assert not any("cleanup" in line for line in done.lines)


def test_a_killed_server_refuses_until_it_is_started_again() -> None:
    recorder = Recorder()

    async def scenario(simulation: Simulation) -> None:
        server = simulation.node("server")
        server.start(recorder.serve)
        await trio.sleep(0.1)
        stream = await opened()
        server.kill()
        assert await stream.receive_some() == b""
        with pytest.raises(OSError, match="all attempts to connect"):
            await opened()
        server.restart()
        await trio.sleep(0.1)
        await (await opened()).send_all(b"again")
        await trio.sleep(0.1)
        assert recorder.received == [b"again"]

    run(scenario, seed=1)


def test_without_power_a_peer_hears_nothing_until_the_node_is_on_again() -> None:
    recorder = Recorder()

    async def scenario(simulation: Simulation) -> None:
        server = simulation.node("server")
        server.start(recorder.serve)
        await trio.sleep(0.1)
        stream = await opened()
        server.power_off()
        await stream.send_all(b"lost")
        with trio.move_on_after(60) as waited:
            await stream.receive_some()
        assert waited.cancelled_caught
        with trio.move_on_after(60) as waited:
            await opened()
        assert waited.cancelled_caught
        server.power_on()
        with pytest.raises(trio.BrokenResourceError, match="reset by peer"):
            await stream.receive_some()

    run(scenario, seed=1)


def test_a_paused_process_stands_still_and_wakes_with_old_beliefs() -> None:
    async def program(simulation: Simulation, seen: list[tuple[float, bytes]]) -> None:
        async def count() -> None:
            while True:
                await trio.sleep(1)
                seen.append((time.monotonic(), b"tick"))

        async def take(stream: trio.SocketStream) -> None:
            async for data in stream:
                seen.append((time.monotonic(), bytes(data)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            nursery.start_soon(trio.serve_tcp, take, PORT)

    async def scenario(simulation: Simulation) -> None:
        seen: list[tuple[float, bytes]] = []
        server = simulation.node("server")
        server.start(program, simulation, seen)
        await trio.sleep(2.5)
        began_at = time.monotonic()
        server.pause()
        # Its kernel still answers, until its buffers are full.
        stream = await opened()
        sent = 0
        with trio.move_on_after(10) as full:
            while True:
                sent += await stream.socket.send(b"x" * 1000)
        assert full.cancelled_caught
        await trio.sleep(90)
        assert [data for _, data in seen] == [b"tick", b"tick"]
        server.resume()
        await trio.sleep(2.5)
        assert all(at - began_at > 100 for at, _ in seen[2:])
        assert sum(len(data) for _, data in seen if data != b"tick") == sent

    run(scenario, seed=1)


@pytest.mark.parametrize("one_way", [False, True])
def test_a_partition_keeps_data_back_until_it_is_healed(one_way: bool) -> None:
    recorder = Recorder()

    async def client(simulation: Simulation) -> None:
        stream = await opened()
        cut = simulation.network.partition([simulation["client"]], [simulation["server"]], one_way=one_way)
        await stream.send_all(b"held")
        await trio.sleep(100)
        assert recorder.received == []
        cut.heal()
        await trio.sleep(0.1)
        assert recorder.received == [b"held"]
        back = simulation.network.partition([simulation["server"]], [simulation["client"]], one_way=True)
        await stream.send_all(b"arrives")
        await trio.sleep(0.1)
        assert recorder.received == [b"held", b"arrives"]
        back.heal()

    async def scenario(simulation: Simulation) -> None:
        simulation.node("server").start(recorder.serve)
        await trio.sleep(0.1)
        await simulation.node("client").run(client, simulation)

    run(scenario, seed=1)


def test_a_partition_that_lasts_breaks_the_connection_of_who_sends() -> None:
    recorder = Recorder()

    async def scenario(simulation: Simulation) -> None:
        simulation.node("server").start(recorder.serve)
        await trio.sleep(0.1)
        stream = await opened()
        simulation.network.partition([simulation.outside], simulation.nodes)
        began_at = trio.current_time()
        await stream.send_all(b"lost")
        with pytest.raises(trio.BrokenResourceError, match="timed out"):
            await stream.receive_some()
        assert trio.current_time() - began_at == pytest.approx(RETRANSMISSION_S, abs=1)
        with pytest.raises(OSError, match="all attempts") as failed:
            await opened()
        assert isinstance(failed.value.__cause__, ExceptionGroup)
        assert isinstance(failed.value.__cause__.exceptions[0], TimeoutError)
        simulation.network.heal()
        await trio.sleep(1)
        assert recorder.received == []

    run(scenario, seed=1)


def test_connections_are_reset_or_hang() -> None:
    recorder = Recorder()

    async def scenario(simulation: Simulation) -> None:
        server = simulation.node("server")
        server.start(recorder.serve)
        await trio.sleep(0.1)
        stream = await opened()
        assert simulation.network.reset(server, simulation.outside) == 1
        with pytest.raises(trio.BrokenResourceError, match="reset by peer"):
            await stream.send_all(b"x")
        await trio.sleep(0.1)
        assert "Connection reset by peer" in recorder.ends[0]
        stream = await opened()
        assert simulation.network.hang(server) == 1
        await stream.send_all(b"lost")
        await trio.sleep(100)
        assert recorder.received == []
        await (await opened()).send_all(b"another connection works")
        await trio.sleep(1)
        assert recorder.received == [b"another connection works"]

    run(scenario, seed=1)


def test_each_node_has_a_clock_of_its_own() -> None:
    async def read() -> tuple[float, float]:
        return time.time(), time.monotonic()

    async def scenario(simulation: Simulation) -> None:
        right, wrong = simulation.node("right"), simulation.node("wrong")
        wrong.set_clock(skew_s=-30, drift=0.01)
        await trio.sleep(1000)
        here, there = await right.run(read), await wrong.run(read)
        assert there[0] - here[0] == pytest.approx(-30 + 10)
        assert there[1] == here[1]
        wrong.set_clock(drift=0.0)
        await trio.sleep(1000)
        assert (await wrong.run(read))[0] - (await right.run(read))[0] == pytest.approx(-20)

    run(scenario, seed=1)


def test_a_slow_node_delays_what_it_sends_and_receives() -> None:
    async def scenario(simulation: Simulation) -> None:
        server = simulation.node("server")
        server.start(Recorder().serve)
        await trio.sleep(0.1)
        simulation.network.slow(server, 5.0)
        began_at = trio.current_time()
        for _ in range(10):
            await opened()
        assert trio.current_time() - began_at > 20

    run(scenario, seed=1)


def test_an_error_of_a_program_ends_the_run_unless_it_is_started_again() -> None:
    async def fail() -> None:
        await trio.sleep(1)
        raise ValueError("broken")

    async def scenario(simulation: Simulation, restart_after_s: float | None) -> None:
        simulation.node("one").start(fail, restart_after_s=restart_after_s)
        await trio.sleep(9)

    with pytest.raises(ValueError, match="broken") as failed:
        run(lambda simulation: scenario(simulation, None), seed=9)
    assert failed.value.__notes__[0].startswith("seed 9, after 1.000 virtual seconds, trace ")
    done = attempt(lambda simulation: scenario(simulation, 2.0), seed=9, keep_trace=True)
    assert done.error is None
    assert done.lines is not None
    assert sum("failed one ValueError" in line for line in done.lines) == 3


def test_a_program_that_waits_without_end_is_ended() -> None:
    async def scenario(_simulation: Simulation) -> None:
        await trio.sleep_forever()

    with pytest.raises(LimitExceeded, match="had not ended after 50 virtual seconds"):
        run(scenario, seed=1, limit_s=50)


def test_no_shield_outlives_the_run() -> None:
    cleaned = trio.Event()

    async def stubborn() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)
                cleaned.set()
                await trio.sleep_forever()

    async def scenario(simulation: Simulation) -> None:
        simulation.node("one").start(stubborn)
        simulation.node("two").start(stubborn, restart_after_s=1.0)
        await trio.sleep(1)
        simulation["two"].kill()
        await trio.sleep(10)

    done = attempt(scenario, seed=1)
    assert done.error is None
    assert done.virtual_s == 11
    assert cleaned.is_set()


def test_all_kinds_of_faults_happen_and_are_undone_the_same_way_twice() -> None:
    plan = FaultPlan(nodes=["one", "two", "three"], span_s=200, mean_pause_s=1)
    faults = plan.draw(1)
    assert {fault.kind for fault in faults} == set(KINDS)
    assert plan.draw(1) == faults != plan.draw(2)
    assert from_json(to_json(faults)) == faults

    async def chat(names: list[str]) -> None:
        async def talk(stream: trio.SocketStream) -> None:
            with suppress(trio.BrokenResourceError):
                async for data in stream:
                    await stream.send_all(data)
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_tcp, talk, PORT)
            while True:
                for name in names:
                    try:
                        with trio.fail_after(5):
                            async with await opened(name) as stream:
                                await stream.send_all(b"x")
                                await stream.receive_some()
                    except (OSError, trio.BrokenResourceError, trio.TooSlowError):
                        pass
                await trio.sleep(1)

    async def scenario(simulation: Simulation) -> None:
        for name in plan.nodes:
            simulation.node(name).start(chat, list(plan.nodes))
        await simulation.until_faults_are_over()
        await trio.sleep(30)
        assert all(node.process is not None and not node.process.stopped for node in simulation.nodes)
        for name in plan.nodes:
            await opened(name)

    runs = [attempt(scenario, seed=1, faults=faults) for _ in range(2)]
    assert [each.error for each in runs] == [None, None]
    assert runs[0].digest == runs[1].digest


def test_a_fault_of_the_scenario_s_own() -> None:
    happened: list[tuple[str, float]] = []

    async def scenario(simulation: Simulation) -> None:
        def begin(_simulation: Simulation, fault: Fault) -> None:
            happened.append((fault.kind, trio.current_time()))

        simulation.fault_kinds["failover"] = begin
        simulation.node("redis")
        await simulation.until_faults_are_over()

    run(scenario, seed=1, faults=[Fault("failover", 3.0, 1.0, ("redis",))])
    assert happened == [("failover", 3.0)]
    with pytest.raises(ValueError, match="no fault is called flood"):
        run(scenario, seed=1, faults=[Fault("flood", 3.0, 1.0, ("redis",))])
