"""The ids of remote media in tests: the buckets of all tests have the same key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avion_media.common.errors import Dependency
from avion_media.common.ids import RemoteId, RemoteIds
from avion_media.common.keys import REMOTE_SECRET
from avion_media.common.resources import ResourceSlot
from avion_media.items.item import Items

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

REMOTE_IDS = RemoteIds(b"the key of all buckets in tests.")


def remote_id_for(normalised_url: str) -> RemoteId:
    """Return the id that a service on such a bucket gives this URL."""
    return REMOTE_IDS.of(normalised_url)


def known_remote_ids() -> ResourceSlot[RemoteIds]:
    """Return the slot of a process that has read the key."""
    slot = ResourceSlot[RemoteIds](Dependency.STORE)
    slot.fill(REMOTE_IDS)
    return slot


def knowing(items: Items) -> Items:
    """Let this process know the key, as a service does after its start."""
    items.remote_ids.fill(REMOTE_IDS)
    return items


def put_remote_key(client: S3Client, bucket: str) -> None:
    """Do what `avion-media init` does with the key."""
    client.put_object(Bucket=bucket, Key=REMOTE_SECRET, Body=REMOTE_IDS.key)
