"""Custom resources as JSON schemas: the parts that are used here, and nothing beyond them.

Written from the references of KEDA (2.14 and later), the Prometheus Operator (monitoring.coreos.com/v1) and the Gateway
API (gateway.networking.k8s.io/v1), since their definitions come with no package. Unknown fields are errors, as they
would be typing mistakes.
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


def _trigger(kind: str, source: str, length: str) -> Schema:
    """A trigger of KEDA on Redis: what it counts, and from which length on a replica more is wanted."""
    return _object(
        ("name", "type", "metadata", "authenticationRef"),
        type={"const": kind},
        name=_TEXT,
        metadata=_object(
            (source, length),
            **{source: _TEXT, length: _NUMBER_AS_TEXT},
            databaseIndex=_NUMBER_AS_TEXT,
            enableTLS={"enum": ["true", "false"]},
        ),
        authenticationRef=_object(("name",), name=_TEXT),
    )


# No consumerGroup, since KEDA ignores streamLength beside it; nor lagCount, which it reads as 0 where Redis knows no
# lag (and KEDA 2.16 refuses activationLagCount "0": kedacore/keda#6481).
_REDIS_STREAMS = _trigger("redis-streams", "stream", "streamLength")
# The scaler counts lists, sets, sorted sets and hashes alike.
_REDIS = _trigger("redis", "listName", "listLength")

_HOST: Schema = {"type": "string", "pattern": r"^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)+$"}
_DURATION: Schema = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}
_LABELS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_PARENTS: Schema = {
    "type": "array",
    "items": _object(("name",), name=_TEXT, namespace=_TEXT, sectionName=_TEXT),
    "minItems": 1,
}
_BACKENDS: Schema = {
    "type": "array",
    "items": _object(("name", "port"), name=_TEXT, port={"type": "integer"}),
    "minItems": 1,
}
_METHOD = _object(method=_object(service=_TEXT, method=_TEXT, type={"enum": ["Exact", "RegularExpression"]}))
_ROUTE_RULES = {
    "HTTPRoute": _object(("backendRefs",), backendRefs=_BACKENDS),
    "GRPCRoute": _object(("backendRefs",), matches={"type": "array", "items": _METHOD}, backendRefs=_BACKENDS),
}
_RELABELING = _object(
    ("action", "targetLabel"),
    action={"const": "replace"},
    targetLabel=_TEXT,
    replacement=_TEXT,
    sourceLabels={"type": "array", "items": _TEXT},
)
_RULE: Schema = {
    "oneOf": [
        _object(("record", "expr"), record=_TEXT, expr=_TEXT),
        _object(
            ("alert", "expr", "labels", "annotations"),
            alert=_TEXT,
            expr=_TEXT,
            **{"for": _DURATION},
            labels=_LABELS,
            annotations=_LABELS,
        ),
    ]
}


def _resource(version: str, kind: str, spec: Schema) -> Schema:
    return _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": version},
        kind={"const": kind},
        metadata=_METADATA,
        spec=spec,
    )


SCHEMAS: dict[str, Schema] = {
    "PodMonitor": _resource(
        "monitoring.coreos.com/v1",
        "PodMonitor",
        _object(
            ("selector", "podMetricsEndpoints"),
            selector=_object(("matchLabels",), matchLabels=_LABELS),
            podMetricsEndpoints={
                "type": "array",
                "items": _object(
                    ("port",),
                    port=_TEXT,
                    path=_TEXT,
                    interval=_DURATION,
                    scrapeTimeout=_DURATION,
                    relabelings={"type": "array", "items": _RELABELING},
                ),
            },
        ),
    ),
    "PrometheusRule": _resource(
        "monitoring.coreos.com/v1",
        "PrometheusRule",
        _object(
            ("groups",),
            groups={
                "type": "array",
                "items": _object(("name", "rules"), name=_TEXT, rules={"type": "array", "items": _RULE}),
            },
        ),
    ),
    **{
        kind: _resource(
            "gateway.networking.k8s.io/v1",
            kind,
            _object(
                ("parentRefs", "rules"),
                parentRefs=_PARENTS,
                hostnames={"type": "array", "items": _HOST},
                rules={"type": "array", "items": rules, "minItems": 1},
            ),
        )
        for kind, rules in _ROUTE_RULES.items()
    },
    "ScaledObject": _resource(
        "keda.sh/v1alpha1",
        "ScaledObject",
        _object(
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
                # Where a formula is given, triggers need names, and `fallback` an integer target.
                scalingModifiers=_object(("formula", "target"), formula=_TEXT, target=_NUMBER_AS_TEXT),
            ),
            triggers={"type": "array", "items": {"oneOf": [_REDIS_STREAMS, _REDIS]}, "minItems": 1},
        ),
    ),
    "TriggerAuthentication": _resource(
        "keda.sh/v1alpha1",
        "TriggerAuthentication",
        _object(
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
