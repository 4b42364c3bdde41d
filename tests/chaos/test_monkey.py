"""A seeded monkey kills random nodes under load: nothing is lost, no call is INTERNAL, no resource grows."""

from __future__ import annotations

import grpc
import redis

from tests.chaos.load import Caller, SteadyCalls, SteadyUploads
from tests.chaos.scale import MONKEY_S, SEED
from tests.chaos.usage import Usage, usage_of
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running, service_environment

ALLOWED = {"OK", "UNAVAILABLE"}


def test_a_monkey_loses_nothing(
    redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket, picture: bytes
) -> None:
    environment = service_environment(
        redis_of_process, bucket.address.endpoint_url, bucket.bucket, CHAOS__ENABLED="true", TASKS__CLAIM_AFTER="2s"
    )
    with running(environment) as service, grpc.insecure_channel(service.grpc_address) as channel:
        caller = Caller(channel, retries=True)
        first = [caller.upload(picture) for _ in range(4)]
        caller.wait_ready(first)
        before = settled(service)
        steady = Caller(channel, retries=False)
        with SteadyCalls(steady, first[0]) as calls, SteadyUploads(caller, picture) as uploads:
            kills = monkey(service)
        caller.wait_ready(uploads.media_ids)
        after = eventually(lambda: grown_back(service, before), f"usage to be back at {before}", 40)
        print(
            f"\nmonkey, seed {SEED}, {MONKEY_S:g} s: {kills}; {calls.made} calls {dict(steady.codes)},"
            f" {len(uploads.media_ids)} uploads {dict(caller.codes)}, all ready\n  {before}\n  {after}"
        )
        assert set(steady.codes) | set(caller.codes) <= ALLOWED, (steady.problems, caller.problems)
        assert steady.codes["OK"]  # how many depends on how fast a machine starts everything again
        assert redis_client.xlen("{media_processing_queue}:dlq") == 0


def monkey(service: Service) -> str:
    """Run `avion-media chaos`, and return its last output."""
    arguments = ("chaos", "--seed", str(SEED), "--seconds", str(MONKEY_S))
    done = service.run_cli(*arguments, timeout_s=MONKEY_S + 60)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout.splitlines()[-1]


def settled(service: Service) -> Usage:
    """Return the usage of an idle service: the minimum, once two measurements in a row agree."""
    looks = [usage_of(service)]

    def agree() -> bool:
        looks.append(usage_of(service))
        return looks[-1] == looks[-2] and looks[-1].tasks == min(each.tasks for each in looks)

    eventually(agree, "usage to settle", 20)
    return looks[-1]


def grown_back(service: Service, before: Usage) -> Usage | None:
    """Wait until the usage is at most that of before, and return it."""
    now = usage_of(service)
    return now if now.within(before) else None
