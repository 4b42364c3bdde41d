"""Looking at what is in the store and on Redis, for people: changes nothing."""

from avion_media.inspection.dossier import dossier, is_unknown
from avion_media.inspection.moments import moment

__all__ = ["dossier", "is_unknown", "moment"]
