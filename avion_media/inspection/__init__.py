"""Looking at what is in the store and on Redis, for people: changes nothing."""

from avion_media.inspection.dossier import dossier, is_unknown, moment

__all__ = ["dossier", "is_unknown", "moment"]
