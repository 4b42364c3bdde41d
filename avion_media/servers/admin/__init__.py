"""The admin port, which must not be public: its endpoints and its access control."""

from avion_media.servers.admin.application import admin_application
from avion_media.servers.admin.operation_routes import operation_routes
from avion_media.servers.admin.operators import OperatorGate

__all__ = ["OperatorGate", "admin_application", "operation_routes"]
