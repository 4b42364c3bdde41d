"""The admin port, never public: what it serves, who is let in, and the server."""

from avion_media.admin.application import admin_application
from avion_media.admin.operators import OperatorGate
from avion_media.admin.serving import ADMIN_LIMITS, AdminServer

__all__ = ["ADMIN_LIMITS", "AdminServer", "OperatorGate", "admin_application"]
