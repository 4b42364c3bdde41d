"""The admin port, never public: what it serves, and who is let in."""

from avion_media.admin.application import admin_application
from avion_media.admin.operators import OperatorGate

__all__ = ["OperatorGate", "admin_application"]
