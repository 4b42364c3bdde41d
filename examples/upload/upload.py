"""upload.py FILE TYPE: upload a file, wait until it is published, and print where it is.

What was begun is kept in FILE.upload, so that an upload that was killed goes on when the same command is run again.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from avion_media_client import MediaClient, MediaError, UploadInParts


def main() -> None:
    path, content_type = Path(sys.argv[1]), sys.argv[2]
    kept = path.with_name(f"{path.name}.upload")
    begun = UploadInParts(**json.loads(kept.read_text())) if kept.exists() else None

    def keep(upload: UploadInParts) -> None:
        kept.write_text(json.dumps(asdict(upload)))

    def show(sent: int, size: int) -> None:
        print(f"{sent} of {size} bytes", file=sys.stderr)

    with MediaClient.from_environment() as media:
        try:
            media_id = media.upload(path, content_type, owner="alice", progress=show, begun=keep, resume=begun)
            kept.unlink(missing_ok=True)
            status = media.wait(media_id)
        except MediaError as error:
            print(repr(error), file=sys.stderr)
            sys.exit(error.sentence or "This did not work. Please try again later.")
        print(media_id, status.content_type, *sorted(status.thumbnails))


if __name__ == "__main__":
    main()
