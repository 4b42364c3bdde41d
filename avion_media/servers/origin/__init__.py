"""The origin behind the CDN: media items and thumbnails over HTTP."""
