"""Two replicas restarted in turn behind clients that balance by health (grpcio and grpc-go): neither notices."""

from __future__ import annotations

import random
import signal
import statistics
import time
from contextlib import ExitStack
from pathlib import Path

import redis

from tests.chaos.load import (
    ONLY_GRPC_GO,
    ONLY_GRPCIO,
    Caller,
    SteadyCalls,
    SteadyGoCalls,
    SteadyUploads,
    balanced_channel,
    ready_events,
)
from tests.chaos.scale import ROLLING_RESTARTS, SEED
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running, service_environment


def test_rolling_restarts_go_unnoticed(
    redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket, picture: bytes, steady_go_calls: Path
) -> None:
    chance = random.Random(SEED)
    with Replicas(redis_of_process, bucket) as replicas, balanced_channel(replicas.addresses) as channel:
        caller = Caller(channel, retries=False)
        first = caller.upload(picture)
        caller.wait_ready([first])
        drains_s = []
        with (
            SteadyCalls(caller, first) as calls,
            SteadyGoCalls(steady_go_calls, replicas.addresses, caller, first) as go_calls,
            SteadyUploads(caller, picture) as uploads,
        ):
            for turn in range(ROLLING_RESTARTS):
                eventually(lambda: all(map(served, replicas.running)), "both replicas to serve calls")
                time.sleep(chance.uniform(0, 0.5))  # at a random moment of the load
                drains_s.append(replicas.restart(turn % 2))
        caller.wait_ready(uploads.media_ids)
        print(
            f"\n{ROLLING_RESTARTS} rolling restarts, seed {SEED}:"
            f" {calls.made} calls by grpcio, {go_calls.made} by grpc-go, {len(uploads.media_ids)} uploads,"
            f" {dict(caller.codes)}; drain median {statistics.median(drains_s):.2f} s, worst {max(drains_s):.2f} s"
        )
        assert set(caller.codes) == {"OK"}, caller.problems
        announced = ready_events(redis_client)
        assert {each: announced[each] for each in uploads.media_ids} == dict.fromkeys(uploads.media_ids, 1)
        eventually(lambda: nothing_left(redis_client), "the queue to be empty")  # a task ends after its event


def test_a_killed_replica_costs_time_only(
    redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket, picture: bytes
) -> None:
    with Replicas(redis_of_process, bucket) as replicas, balanced_channel(replicas.addresses) as channel:
        caller = Caller(channel, retries=True)
        uploaded = [caller.upload(picture) for _ in range(8)]
        replicas.running[0].process.send_signal(signal.SIGKILL)
        replicas.running[0].process.wait(30)
        caller.wait_ready(uploaded)
        # If a replica is killed between the state and its event, the next owner of the task publishes the event.
        eventually(lambda: nothing_left(redis_client), "the queue to be empty")
        announced = ready_events(redis_client)
        assert {each: announced[each] for each in uploaded} == dict.fromkeys(uploaded, 1)
        assert set(caller.codes) <= {"OK", "UNAVAILABLE"}, caller.problems


class Replicas:
    """Two processes on one Redis and one store, which keep their addresses after restarts."""

    def __init__(self, redis_url: str, bucket: S3Bucket) -> None:
        self._environments = [
            service_environment(
                redis_url,
                bucket.address.endpoint_url,
                bucket.bucket,
                DRAIN__SETTLE="1s",
                DRAIN__GRACE="10s",
                TASKS__CLAIM_AFTER="2s",
            )
            for _ in range(2)
        ]
        self.addresses = [each["AVION_MEDIA_GRPC__BIND"] for each in self._environments]
        self.running: list[Service] = []
        self._stacks = [ExitStack(), ExitStack()]

    def __enter__(self) -> Replicas:
        for stack, environment in zip(self._stacks, self._environments, strict=True):
            self.running.append(stack.enter_context(running(environment)))
        return self

    def __exit__(self, *_exception: object) -> None:
        for stack in self._stacks:
            stack.close()

    def restart(self, index: int) -> float:
        """Send SIGTERM, wait for the end, and start again. Return the seconds of the drain."""
        service = self.running[index]
        asked_at = time.monotonic()
        status = service.stop(30)
        took_s = time.monotonic() - asked_at
        assert status == 0, service.log()[-3000:]
        self._stacks[index].close()
        self.running[index] = self._stacks[index].enter_context(running(self._environments[index]))
        return took_s


def served(service: Service) -> bool:
    """Return whether calls of both clients reach this replica: each has a method that the other one does not call."""
    metrics = service.metrics()
    counted = {
        method
        for line in metrics.splitlines()
        if line.startswith("rpc_server_call_duration") and "_count" in line
        for method in (ONLY_GRPCIO, ONLY_GRPC_GO)
        if f"/{method}" in line
    }
    return counted == {ONLY_GRPCIO, ONLY_GRPC_GO}


def nothing_left(client: redis.Redis) -> bool:
    """Return whether no task waits, is leased, is delayed or is a dead letter."""
    queue = "media_processing_queue"
    return (
        not client.xlen(queue)
        and client.zcard(f"{{{queue}}}:waiting") <= 1
        and not client.exists(f"{{{queue}}}:delayed", f"{{{queue}}}:dlq")
    )
