"""What each request does to the bucket."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from urllib.parse import quote, unquote

from .messages import Answer, Field, Refused, Request
from .objects import Bucket, StoredObject, kept_headers

_MAX_KEYS = 1000
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_KEY = re.compile("<Key>([^<]*)</Key>")
_PART = re.compile(r"<Part>.*?</Part>", re.DOTALL)
_NUMBER = re.compile(r"<PartNumber>\s*(\d+)\s*</PartNumber>")
_ETAG = re.compile(r"<ETag>(?:&quot;|&#34;|\")?([0-9a-f-]+)(?:&quot;|&#34;|\")?</ETag>")

Operation = Callable[[Bucket, Request], Answer]


def perform(bucket: Bucket, request: Request) -> Answer:
    """Do what a request asks for."""
    try:
        return _operation(request)(bucket, request)
    except Refused as refused:
        return Answer.of_refusal(refused)


def _operation(request: Request) -> Operation:
    table = _OF_OBJECTS if request.key else _OF_BUCKET
    for method, parameter, operation in table:
        if request.method == method and (parameter is None or parameter in request.query):
            return operation
    raise Refused(405, "MethodNotAllowed")


# --- one object


def _get(bucket: Bucket, request: Request) -> Answer:
    found = bucket.get(request.key)
    headers = _shown(found)
    _check_read(found, request, "")
    data, status = found.data, 200
    if "range" in request.headers:
        start, end = _range(request.headers["range"], len(data))
        headers["content-range"] = f"bytes {start}-{end}/{len(data)}"
        data, status = data[start : end + 1], 206
    headers["content-length"] = str(len(data))
    return Answer(status, headers, data)


def _head(bucket: Bucket, request: Request) -> Answer:
    return _get(bucket, request)


def _shown(found: StoredObject) -> dict[str, str]:
    return {
        **found.headers,
        "etag": f'"{found.etag}"',
        "last-modified": found.last_modified,
        "accept-ranges": "bytes",
    }


def _check_read(found: StoredObject, request: Request, prefix: str) -> None:
    """Refuse a read whose conditions on the ETag do not hold."""
    if_match = request.headers.get(f"{prefix}if-match")
    if if_match is not None and if_match.strip('"') not in ("*", found.etag):
        raise Refused(412, "PreconditionFailed")
    if_none_match = request.headers.get(f"{prefix}if-none-match")
    if if_none_match is not None and if_none_match.strip('"') in ("*", found.etag):
        if prefix:
            raise Refused(412, "PreconditionFailed")
        raise Refused(304, "NotModified", {"etag": f'"{found.etag}"'})


def _range(text: str, size: int) -> tuple[int, int]:
    """Return the first and the last byte of a range."""
    match = _RANGE.fullmatch(text)
    if match is None or not any(match.groups()):
        raise Refused(416, "InvalidRange")
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last) if last else size - 1, size - 1)
    if start >= size or start > end:
        raise Refused(416, "InvalidRange")
    return start, end


def _put(bucket: Bucket, request: Request) -> Answer:
    _check_write(bucket, request)
    stored = bucket.put(request.key, request.body, kept_headers(request.headers))
    return Answer(200, {"etag": f'"{stored.etag}"'})


def _check_write(bucket: Bucket, request: Request) -> None:
    bucket.check(request.key, request.headers.get("if-match"), request.headers.get("if-none-match"))


def _put_or_copy(bucket: Bucket, request: Request) -> Answer:
    if "x-amz-copy-source" not in request.headers:
        return _put(bucket, request)
    source = _source(bucket, request)
    replaces = request.headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
    if not replaces and _source_key(request) == request.key:
        raise Refused(400, "InvalidRequest")
    _check_write(bucket, request)
    headers = kept_headers(request.headers) if replaces else source.headers
    stored = bucket.put(request.key, source.data, headers)
    return Answer.of_xml("CopyObjectResult", _result(stored))


def _source_key(request: Request) -> str:
    return unquote(request.headers["x-amz-copy-source"]).removeprefix("/").partition("/")[2]


def _source(bucket: Bucket, request: Request) -> StoredObject:
    found = bucket.get(_source_key(request))
    _check_read(found, request, "x-amz-copy-source-")
    return found


def _result(stored: StoredObject) -> list[Field]:
    return [("LastModified", stored.modified_iso), ("ETag", f'"{stored.etag}"')]


def _delete(bucket: Bucket, request: Request) -> Answer:
    bucket.delete(request.key)
    return Answer(204)


# --- uploads in parts


def _begin_upload(bucket: Bucket, request: Request) -> Answer:
    number = bucket.begin_upload(request.key, kept_headers(request.headers))
    fields: list[Field] = [("Bucket", request.bucket), ("Key", request.key), ("UploadId", number)]
    return Answer.of_xml("InitiateMultipartUploadResult", fields)


def _put_part(bucket: Bucket, request: Request) -> Answer:
    upload = bucket.upload(request.query["uploadId"], request.key)
    number = int(request.query["partNumber"])
    if not 1 <= number <= 10_000:
        raise Refused(400, "InvalidArgument")
    if "x-amz-copy-source" not in request.headers:
        part = bucket.put_part(upload, number, request.body)
        return Answer(200, {"etag": f'"{part.etag}"'})
    source = _source(bucket, request)
    start, end = 0, len(source.data) - 1
    if "x-amz-copy-source-range" in request.headers:
        start, end = _range(request.headers["x-amz-copy-source-range"], len(source.data))
    part = bucket.put_part(upload, number, source.data[start : end + 1])
    return Answer.of_xml("CopyPartResult", _result(part))


def _complete_upload(bucket: Bucket, request: Request) -> Answer:
    number = request.query["uploadId"]
    upload = bucket.upload(number, request.key)
    _check_write(bucket, request)
    wanted = []
    for part in _PART.findall(request.body.decode()):
        found_number, found_etag = _NUMBER.search(part), _ETAG.search(part)
        if found_number is None or found_etag is None:
            raise Refused(400, "MalformedXML")
        wanted.append((int(found_number[1]), found_etag[1]))
    stored = bucket.complete(number, upload, wanted)
    fields: list[Field] = [("Bucket", request.bucket), ("Key", request.key), ("ETag", f'"{stored.etag}"')]
    return Answer.of_xml("CompleteMultipartUploadResult", fields)


def _abort_upload(bucket: Bucket, request: Request) -> Answer:
    bucket.upload(request.query["uploadId"], request.key)
    del bucket.uploads[request.query["uploadId"]]
    return Answer(204)


def _list_parts(bucket: Bucket, request: Request) -> Answer:
    upload = bucket.upload(request.query["uploadId"], request.key)
    parts: list[Field] = [
        ("Part", [("PartNumber", number), *_result(part), ("Size", len(part.data))])
        for number, part in sorted(upload.parts.items())
    ]
    return Answer.of_xml("ListPartsResult", [("Key", request.key), ("IsTruncated", "false"), *parts])


def _list_uploads(bucket: Bucket, request: Request) -> Answer:
    prefix = request.query.get("prefix", "")
    uploads: list[Field] = [
        ("Upload", [("Key", upload.key), ("UploadId", number)])
        for number, upload in sorted(bucket.uploads.items(), key=lambda each: (each[1].key, each[0]))
        if upload.key.startswith(prefix)
    ]
    return Answer.of_xml("ListMultipartUploadsResult", [("IsTruncated", "false"), *uploads])


# --- the bucket


def _delete_many(bucket: Bucket, request: Request) -> Answer:
    text = request.body.decode()
    keys = [unescape(key) for key in _KEY.findall(text)]
    if not 1 <= len(keys) <= _MAX_KEYS:
        raise Refused(400, "MalformedXML")
    for key in keys:
        bucket.delete(key)
    quiet = "<Quiet>true</Quiet>" in text
    return Answer.of_xml("DeleteResult", [] if quiet else [("Deleted", [("Key", key)]) for key in keys])


def _list(bucket: Bucket, request: Request) -> Answer:
    prefix, delimiter = request.query.get("prefix", ""), request.query.get("delimiter", "")
    after = request.query.get("continuation-token") or request.query.get("start-after", "")
    most = min(int(request.query.get("max-keys", _MAX_KEYS)), _MAX_KEYS)

    def shown(text: str) -> str:
        return quote(text, safe="") if request.query.get("encoding-type") == "url" else text

    contents: list[Field] = []
    prefixes: list[Field] = []
    last, more = after, False
    for key in bucket.keys(prefix, after):
        group = _group(key, prefix, delimiter)
        if group is not None and group <= last:
            continue  # it is in the answer, or in the one before it
        if len(contents) + len(prefixes) == most:
            more = True
            break
        last = key if group is None else group
        if group is None:
            stored = bucket.objects[key]
            size: Field = ("Size", len(stored.data))
            contents.append(("Contents", [("Key", shown(key)), *_result(stored), size]))
        else:
            prefixes.append(("CommonPrefixes", [("Prefix", shown(group))]))
    fields: list[Field] = [
        ("Name", request.bucket),
        ("Prefix", prefix),
        ("MaxKeys", most),
        ("KeyCount", len(contents) + len(prefixes)),
        ("IsTruncated", "true" if more else "false"),
    ]
    if more:
        fields.append(("NextContinuationToken", last))
    return Answer.of_xml("ListBucketResult", [*fields, *contents, *prefixes])


def _group(key: str, prefix: str, delimiter: str) -> str | None:
    """Return what stands for all keys that go on behind a delimiter."""
    head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
    return f"{prefix}{head}{found}" if found else None


def _head_bucket(bucket: Bucket, request: Request) -> Answer:
    return Answer(200)


def _no_lifecycle(bucket: Bucket, request: Request) -> Answer:
    raise Refused(404, "NoSuchLifecycleConfiguration")


_OF_OBJECTS: tuple[tuple[str, str | None, Operation], ...] = (
    ("POST", "uploads", _begin_upload),
    ("POST", "uploadId", _complete_upload),
    ("PUT", "uploadId", _put_part),
    ("GET", "uploadId", _list_parts),
    ("DELETE", "uploadId", _abort_upload),
    ("GET", None, _get),
    ("HEAD", None, _head),
    ("PUT", None, _put_or_copy),
    ("DELETE", None, _delete),
)
_OF_BUCKET: tuple[tuple[str, str | None, Operation], ...] = (
    ("POST", "delete", _delete_many),
    ("GET", "uploads", _list_uploads),
    ("GET", "lifecycle", _no_lifecycle),
    ("GET", "list-type", _list),
    ("HEAD", None, _head_bucket),
)
