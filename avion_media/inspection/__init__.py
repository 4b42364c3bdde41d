"""Looking at what is in the store and on Redis, for people: changes nothing."""

from avion_media.inspection.moments import moment
from avion_media.inspection.report import is_unknown, media_report

__all__ = ["is_unknown", "media_report", "moment"]
