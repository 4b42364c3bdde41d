"""The object store: S3, with a limited number of calls at once, and presigned URLs without any I/O.

No other package uses boto3. The rest of the service uses the dataclasses of `objects`, the errors of
`avion_media.common.errors`, and three more of `errors` (`TooLarge`, `RangeNotSatisfiable`, `StoreRefused`).
"""

from avion_media.backends.store.bucket import REMOVED_KEPT_S, Lives
from avion_media.backends.store.clients import ca_bundle
from avion_media.backends.store.contents import read_secret
from avion_media.backends.store.errors import LOST_BUCKET, RangeNotSatisfiable, StoreRefused, TooLarge, UploadMissing
from avion_media.backends.store.facts import stored_facts
from avion_media.backends.store.multipart import NOT_EXAMINED, MultipartUploads, StoredPart, UnfinishedUpload
from avion_media.backends.store.part_urls import examine_part_urls
from avion_media.backends.store.patch_copy import patch_copy
from avion_media.backends.store.store import ObjectStore, open_store
from trio_s3 import (
    ByteRange,
    Bytes,
    ContentRange,
    FileSource,
    ListedObject,
    ObjectInfo,
    ObjectPart,
    PresignedPut,
    upload_guard,
    within,
)
