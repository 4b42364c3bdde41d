"""The bucket and its rules, which `avion-media init` creates. Safe to repeat; other rules are kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from avion_media.backends.store.calls import StoreCalls
from avion_media.backends.store.errors import no_bucket, no_store
from avion_media.common.keys import GONE_PREFIX, INCOMING_PREFIX, REVOCATION_PREFIX

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


# Browsers PUT directly to the store, from any site. The presigned URL decides what they can do, not the site.
_CORS_RULE: dict[str, Any] = {
    "ID": "avion-media-upload",
    "AllowedMethods": ["PUT"],
    "AllowedOrigins": ["*"],
    "AllowedHeaders": [
        "content-type",
        "x-amz-acl",
        "x-amz-checksum-sha256",
        "x-amz-content-sha256",
        "x-amz-copy-source-if-match",
        "x-amz-meta-credentials",
        "x-amz-meta-owner",
    ],
    "ExposeHeaders": ["ETag"],
    "MaxAgeSeconds": 3600,
}
# BlockPublicAcls stays off, because with it Ceph 18 refuses every PutObject (403), even without an ACL. Ignoring public
# ACLs protects as well.
_PUBLIC_ACCESS: Any = {"IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": True}
_NO_SUCH_FEATURE = frozenset({400, 405, 501})
_DAY_S = 86_400.0
REVOCATIONS_KEPT_S = 8 * _DAY_S
"""How long revocations of tokens are kept: longer than a token can be valid, by a day."""
REMOVED_KEPT_S = 30 * _DAY_S
"""How long a deletion is remembered after its removal, with the life of an upload: longer than anything can write a
removed item again."""
_FORMER_RULE = "avion-media-quarantine"
"""The former rule for evidence, which removed it by the age of its objects. A sweep removes it now, by its record."""
_OWNED = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})


@dataclass(frozen=True, slots=True)
class Lives:
    """How long the lifecycle rules of this service keep accepted uploads in ``incoming/``, and parts.

    The rules count whole days.
    """

    incoming_s: float
    multipart_s: float


def _rules(lives: Lives) -> list[dict[str, Any]]:
    """Return the lifecycle rules of this service."""
    return [
        {
            "ID": "avion-media-incoming",
            "Status": "Enabled",
            "Filter": {"Prefix": INCOMING_PREFIX},
            "Expiration": {"Days": math.ceil(lives.incoming_s / _DAY_S)},
        },
        {
            "ID": "avion-media-private",
            "Status": "Enabled",
            "Filter": {"Prefix": REVOCATION_PREFIX},
            "Expiration": {"Days": math.ceil(REVOCATIONS_KEPT_S / _DAY_S)},
        },
        {
            "ID": "avion-media-removed",
            "Status": "Enabled",
            "Filter": {"Prefix": GONE_PREFIX},
            "Expiration": {"Days": math.ceil((REMOVED_KEPT_S + lives.incoming_s) / _DAY_S)},
        },
        {
            "ID": "avion-media-multipart",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": math.ceil(lives.multipart_s / _DAY_S)},
        },
    ]


async def ensure_bucket(calls: StoreCalls, lives: Lives, media: int) -> list[str]:
    """Create what is missing, and return what that was. After an error or a cancel, run it again.

    Raises `Unavailable` if a bucket with ``media`` media items would be created: they are lost.
    """
    created = []
    bucket, region = calls.bucket, calls.config.region
    # A region is sent only to AWS: other stores read it as the name of an unknown zone.
    location = "" if calls.config.endpoint_url or region == "us-east-1" else region
    if await calls.change("CreateBucket", lambda client: _create_bucket(client, bucket, location, media)):
        created.append(f"bucket {bucket}")
    if await calls.change("PutBucketCors", lambda client: _add_cors_rule(client, bucket)):
        created.append("CORS rule for uploads from browsers")
    if await calls.change(
        "PutBucketLifecycleConfiguration", lambda client: _add_lifecycle_rules(client, bucket, _rules(lives))
    ):
        created.append("lifecycle rules for incoming/, private/, gone/ and unfinished multipart uploads")
    if await calls.change("PutPublicAccessBlock", lambda client: _block_public_access(client, bucket)):
        created.append("public-access block")
    return created


def _create_bucket(client: S3Client, bucket: str, location: str, media: int) -> bool:
    try:
        client.head_bucket(Bucket=bucket)
        return False
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
        if not _says_no_such_bucket(client, bucket):
            raise no_store() from error
        if media:
            raise no_bucket(media) from error
    options: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": location}} if location else {}
    try:
        client.create_bucket(Bucket=bucket, **options)
    except ClientError as error:  # another process was faster; if the bucket is not ours, the next call fails
        if error.response["Error"]["Code"] not in _OWNED:
            raise
        return False
    return True


def _says_no_such_bucket(client: S3Client, bucket: str) -> bool:
    """Return whether a store says so: the response to a HEAD has no code, and any server may answer 404."""
    try:
        client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    except ClientError as error:
        return error.response["Error"]["Code"] == "NoSuchBucket"
    return False


def _block_public_access(client: S3Client, bucket: str) -> bool:
    """Set the public-access block. Many stores have none; `doctor` tests what clients can read."""
    try:
        asked = partial(client.get_public_access_block, Bucket=bucket)
        present = _configured(asked, "PublicAccessBlockConfiguration", "NoSuchPublicAccessBlockConfiguration") or {}
        if _PUBLIC_ACCESS.items() <= present.items():
            return False
        wanted: Any = {"BlockPublicAcls": False} | present | _PUBLIC_ACCESS
        client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=wanted)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] not in _NO_SUCH_FEATURE:
            raise
        return False
    return True


def _add_cors_rule(client: S3Client, bucket: str) -> bool:
    rules = _configured(partial(client.get_bucket_cors, Bucket=bucket), "CORSRules", "NoSuchCORSConfiguration") or []
    if any(_same_cors(rule, _CORS_RULE) for rule in rules):
        return False
    others = [rule for rule in rules if rule.get("ID") != _CORS_RULE["ID"]]
    wanted: list[Any] = [*others, _CORS_RULE]
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": wanted})
    return True


def _same_cors(rule: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Return whether both have the same effect. Stores reorder the lists, and may lose the ID."""
    lists = ("AllowedMethods", "AllowedOrigins", "AllowedHeaders", "ExposeHeaders")
    return all({*map(str.lower, rule.get(name, []))} == {*map(str.lower, wanted[name])} for name in lists)


async def missing_lifecycle_rules(calls: StoreCalls, lives: Lives) -> list[str]:
    """Return the names of rules of this service that the bucket lacks, or has in another form."""
    rules = await calls.query("GetBucketLifecycleConfiguration", lambda client: _lifecycle_rules(client, calls.bucket))
    return [rule["ID"] for rule in _rules(lives) if not _has_lifecycle(rules, rule)]


async def early_expirations(calls: StoreCalls, prefix: str, kept_s: float) -> list[str]:
    """Return all rules, with their days, that remove objects below ``prefix`` before ``kept_s``, whosever they are."""
    rules = await calls.query("GetBucketLifecycleConfiguration", lambda client: _lifecycle_rules(client, calls.bucket))
    return [
        f"{rule.get('ID', 'a rule without a name')}: {_days(rule, prefix)} days"
        for rule in rules
        if _days(rule, prefix) * _DAY_S < kept_s
    ]


def _days(rule: dict[str, Any], folder: str) -> float:
    """Return after how many days a rule removes objects from a folder; infinite if it does not.

    A rule for some objects only (a tag, a size) counts, because an object there can be one of them. A rule with a date
    counts as zero days: at that date it removes everything.
    """
    expiration = rule.get("Expiration", {})
    selected = rule.get("Filter", {})
    prefix = selected.get("Prefix", selected.get("And", {}).get("Prefix", rule.get("Prefix", "")))
    if rule.get("Status") != "Enabled" or not (prefix.startswith(folder) or folder.startswith(prefix)):
        return math.inf
    return 0 if "Date" in expiration else expiration.get("Days") or math.inf


def _lifecycle_rules(client: S3Client, bucket: str) -> list[Any]:
    asked = partial(client.get_bucket_lifecycle_configuration, Bucket=bucket)
    return _configured(asked, "Rules", "NoSuchLifecycleConfiguration") or []


def _configured(ask: Callable[[], Any], name: str, none: str) -> Any:
    """Return a configuration of the bucket; None if the store answers with the code ``none``."""
    try:
        return ask()[name]
    except ClientError as error:
        if error.response["Error"]["Code"] != none:
            raise
        return None


def _add_lifecycle_rules(client: S3Client, bucket: str, wanted_rules: list[dict[str, Any]]) -> bool:
    rules = _lifecycle_rules(client, bucket)
    has_former = any(rule.get("ID") == _FORMER_RULE for rule in rules)
    if not has_former and all(_has_lifecycle(rules, rule) for rule in wanted_rules):
        return False
    ours = {_FORMER_RULE, *(rule["ID"] for rule in wanted_rules)}
    wanted: list[Any] = [*(rule for rule in rules if rule.get("ID") not in ours), *wanted_rules]
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": wanted})
    return True


def _has_lifecycle(rules: list[Any], wanted: dict[str, Any]) -> bool:
    return any(rule.get("ID") == wanted["ID"] and _same_lifecycle(rule, wanted) for rule in rules)


def _same_lifecycle(rule: dict[str, Any], wanted: dict[str, Any]) -> bool:
    effects = ("Status", "Expiration", "AbortIncompleteMultipartUpload")
    prefix = rule.get("Filter", {}).get("Prefix", rule.get("Prefix", ""))
    return prefix == wanted["Filter"]["Prefix"] and all(rule.get(name) == wanted.get(name) for name in effects)
