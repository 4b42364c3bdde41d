"""The poster of a large video: bytes and seconds by ranges, against download-then-ffmpeg."""
