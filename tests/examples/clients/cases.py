"""What the client makes of a photo (argv: path, id of nobody, origin), one line of JSON for each case.

Without an origin: what it does at a service that does not know private media, and has an upload of another file.
Without an id: what it does at a store that hangs once, then takes a file, then refuses one.
"""

import json
import os
import sys
from collections.abc import Callable

import httpx
from avion_media_client import (
    Conflict,
    FileChanged,
    InvalidRequest,
    MediaClient,
    MediaDeleted,
    MediaError,
    MediaFailed,
    NotFound,
    StoreRefused,
    Unavailable,
    UploadInParts,
    media,
)


def say(case: str, *what: object) -> None:
    print(json.dumps([case, *what]))


def raised(case: str, kind: type[MediaError], call: Callable[[], object]) -> None:
    try:
        call()
    except kind as error:
        say(case, error.reason, error.fields, error.sentence)


def main() -> None:
    if len(sys.argv) == 2:
        with MediaClient(os.environ["AVION_MEDIA_GRPC__BIND"], store_s=0.5) as client:
            say("sent again", client.upload(sys.argv[1], "image/jpeg"))
            raised("refused", StoreRefused, lambda: client.upload(sys.argv[1], "image/jpeg"))
        say("in clear", [address for address in os.environ["ADDRESSES"].split() if takes_a_token(address)])
        return
    photo, nobody, *origin = sys.argv[1:]
    with MediaClient.from_environment() as client:

        def upload_private() -> str:
            return client.upload(photo, "image/jpeg", visibility=media.MEDIA_VISIBILITY_PRIVATE)

        if not origin:
            raised("older", Unavailable, upload_private)
            begun = UploadInParts(nobody, "upload")
            raised("changed", FileChanged, lambda: client.upload(photo, "image/jpeg", resume=begun))
            say("joined", client.upload(photo, "image/jpeg", resume=UploadInParts(nobody, "joined")))
            client.delete([nobody], delay_s=0)
            return
        media_id = client.upload(photo, "image/jpeg", owner="alice")
        client.wait(media_id)
        say("not owned", client.delete([media_id], owner="bob") == [media_id])
        say("deleted", list(client.delete([media_id], owner="alice")))
        raised("wait", MediaDeleted, lambda: client.wait(media_id))
        say("restored", client.undelete([media_id]).restored == [media_id])
        say("state", media.MediaStatus.State.Name(client.wait(media_id).state))
        raised("unknown", NotFound, lambda: client.status(nobody))
        raised("invalid", InvalidRequest, lambda: client.upload(photo, "image/jpeg", owner="a b"))
        try:
            client.upload(photo, "text/plain")
        except InvalidRequest as refused:
            say("refused", str(refused).partition(": ")[0], refused.sentence)
        early = nobody_uploaded(client)
        try:
            client.complete(early)
        except Conflict as error:
            say("early", error.reason, error.fields if error.media_id == early else error.media_id, error.sentence)
        try:
            client.wait(client.upload(__file__, "image/png", filename="program.png"))
        except MediaFailed as failed:
            say("failed", failed.reason, failed.sentence, failed.retryable)
        private = client.wait(upload_private())
        signed = client.sign([private.media_id], ttl_s=600, audience="bob")
        url = origin[0] + private.path.replace("{token}", signed.tokens[private.media_id])
        say("signed", httpx.get(url, trust_env=False, verify=False).status_code)
        client.revoke([private.media_id], audience="bob")
        say("revoked", httpx.get(url, trust_env=False, verify=False).status_code)


def takes_a_token(address: str) -> bool:
    try:
        MediaClient(address, token="secret").close()
    except ValueError as error:
        if "pass tls_ca" not in str(error):
            raise
        return False
    return True


def nobody_uploaded(client: MediaClient) -> str:
    request = media.RequestMediaUploadRequest(filename="a.jpg", content_type="image/jpeg", size=9)
    return client.call("RequestMediaUpload", request, media.RequestMediaUploadResponse).media_id


if __name__ == "__main__":
    main()
