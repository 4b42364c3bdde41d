"""Looking at what is in the store and on Redis, for people. It changes neither."""

from avion_media.operations.inspection.report import format_time, is_unknown, media_report

__all__ = ["format_time", "is_unknown", "media_report"]
