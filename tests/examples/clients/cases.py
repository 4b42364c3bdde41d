"""What the client makes of a photo (argv: path, id of nobody), one line of JSON for each case."""

import json
import sys
from collections.abc import Callable

from avion_media_client import (
    Conflict,
    InvalidRequest,
    MediaClient,
    MediaDeleted,
    MediaError,
    MediaFailed,
    NotFound,
    media,
)


def say(case: str, *what: object) -> None:
    print(json.dumps([case, *what]))


def raised(case: str, kind: type[MediaError], call: Callable[[], object]) -> None:
    try:
        call()
    except kind as error:
        say(case, error.reason, error.fields)


def main() -> None:
    photo, nobody = sys.argv[1:]
    with MediaClient.from_environment() as client:
        media_id = client.upload(photo, "image/jpeg", owner="alice")
        client.wait(media_id)
        say("not owned", client.delete([media_id], owner="bob") == [media_id])
        say("deleted", list(client.delete([media_id], owner="alice")))
        raised("wait", MediaDeleted, lambda: client.wait(media_id))
        say("restored", client.undelete([media_id]).restored == [media_id])
        say("state", media.MediaStatus.State.Name(client.wait(media_id).state))
        raised("unknown", NotFound, lambda: client.status(nobody))
        raised("invalid", InvalidRequest, lambda: client.upload(photo, "image/jpeg", owner="a b"))
        raised("early", Conflict, lambda: client.complete(nobody_uploaded(client)))
        try:
            client.wait(client.upload(__file__, "image/png", filename="program.png"))
        except MediaFailed as failed:
            say("failed", failed.reason, str(failed), failed.retryable)


def nobody_uploaded(client: MediaClient) -> str:
    request = media.RequestMediaUploadRequest(filename="a.jpg", content_type="image/jpeg", size=9)
    return client.call("RequestMediaUpload", request, media.RequestMediaUploadResponse).media_id


if __name__ == "__main__":
    main()
