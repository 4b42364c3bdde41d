"""What KEDA takes, as JSON schemas: the parts of its custom resources that are used here, and nothing beyond them.

Written from KEDA's reference (ScaledObject, TriggerAuthentication, the scaler "Redis Streams", version 2.12 and later):
its definitions come with no package. Unknown fields are errors, as they would be typing mistakes.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": [*required],
        "additionalProperties": False,
    }


_TEXT: Schema = {"type": "string", "minLength": 1}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER_AS_TEXT: Schema = {"type": "string", "pattern": "^[0-9]+$"}  # a trigger's metadata are all strings
_METADATA: Schema = {"type": "object", "required": ["name"]}
_POLICY = _object(
    ("type", "value", "periodSeconds"), type={"enum": ["Pods", "Percent"]}, value=_COUNT, periodSeconds=_COUNT
)
_RULES = _object(
    stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
    policies={"type": "array", "items": _POLICY},
    selectPolicy={"enum": ["Max", "Min", "Disabled"]},
)
_REDIS_STREAMS = _object(
    ("type", "metadata", "authenticationRef"),
    type={"const": "redis-streams"},
    name=_TEXT,
    metadata=_object(
        # No consumerGroup, since KEDA ignores streamLength beside it; nor lagCount, which it reads as 0 where Redis
        # knows no lag (and KEDA 2.16 refuses activationLagCount "0": kedacore/keda#6481).
        ("stream", "streamLength"),
        stream=_TEXT,
        streamLength=_NUMBER_AS_TEXT,
        databaseIndex=_NUMBER_AS_TEXT,
        enableTLS={"enum": ["true", "false"]},
    ),
    authenticationRef=_object(("name",), name=_TEXT),
)
# The scaler counts lists, sets, sorted sets and hashes alike.
_REDIS = _object(
    ("type", "metadata", "authenticationRef"),
    type={"const": "redis"},
    name=_TEXT,
    metadata=_object(
        ("listName", "listLength"),
        listName=_TEXT,
        listLength=_NUMBER_AS_TEXT,
        databaseIndex=_NUMBER_AS_TEXT,
        enableTLS={"enum": ["true", "false"]},
    ),
    authenticationRef=_object(("name",), name=_TEXT),
)

SCHEMAS: dict[str, Schema] = {
    "ScaledObject": _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "keda.sh/v1alpha1"},
        kind={"const": "ScaledObject"},
        metadata=_METADATA,
        spec=_object(
            ("scaleTargetRef", "minReplicaCount", "maxReplicaCount", "triggers"),
            scaleTargetRef=_object(("name",), apiVersion=_TEXT, kind=_TEXT, name=_TEXT),
            minReplicaCount=_COUNT,
            maxReplicaCount=_COUNT,
            idleReplicaCount=_COUNT,
            pollingInterval=_COUNT,
            cooldownPeriod=_COUNT,
            fallback=_object(("failureThreshold", "replicas"), failureThreshold=_COUNT, replicas=_COUNT),
            advanced=_object(
                restoreToOriginalReplicaCount={"type": "boolean"},
                horizontalPodAutoscalerConfig=_object(name=_TEXT, behavior=_object(scaleUp=_RULES, scaleDown=_RULES)),
            ),
            triggers={"type": "array", "items": {"oneOf": [_REDIS_STREAMS, _REDIS]}, "minItems": 1},
        ),
    ),
    "TriggerAuthentication": _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "keda.sh/v1alpha1"},
        kind={"const": "TriggerAuthentication"},
        metadata=_METADATA,
        spec=_object(
            ("secretTargetRef",),
            secretTargetRef={
                "type": "array",
                "items": _object(
                    ("parameter", "name", "key"),
                    parameter={"enum": ["address", "username", "password", "tls", "ca"]},
                    name=_TEXT,
                    key=_TEXT,
                ),
            },
        ),
    ),
}
