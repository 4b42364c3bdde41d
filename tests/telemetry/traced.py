"""What traces of the service look like, by the contract; and a service that sends them soon."""

from __future__ import annotations

from tests.conftest import S3Bucket
from tests.service.harness import service_environment
from tests.service.published import CROCKFORD
from tests.telemetry.collector import Collector

REQUEST = "avion.MediaService/RequestMediaUpload"
COMPLETE = "avion.MediaService/CompleteMediaUpload"
SEND = "send media_processing_queue"
PROCESS = "process media_processing_queue"


def trace_of(media_id: str) -> str:
    """The id's 128 bits in hex, by the contract's alphabet."""
    value = 0
    for character in media_id:
        value = value << 5 | CROCKFORD.index(character)
    return f"{value:032x}"


def environment(redis_url: str, bucket: S3Bucket, otlp: Collector, **settings: str) -> dict[str, str]:
    """Of a service that sends its spans soon."""
    ours = service_environment(redis_url, bucket.address.endpoint_url, bucket.bucket, **settings)
    return ours | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_SERVICE_NAME": "media-under-test",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=tests",
    }
