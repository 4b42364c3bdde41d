"""The plan crosses a process boundary."""

from __future__ import annotations

import json

from avion_media.media.plans import plan_from_json, plan_to_json
from mediascrub.tests.videos import DATA, examine


def test_a_plan_survives_json() -> None:
    plan = examine(DATA / "mov-iphone14pro-hevc-dolbyvision-rotated-gps.mov")
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan
