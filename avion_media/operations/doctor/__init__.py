"""`avion-media doctor`: does this store, this Redis and this kernel do what the service relies on?

Each check is one sentence that must hold, tried for real; a failure is reported with its consequence. A new check is
one decorated function.
"""

from avion_media.operations.doctor.check import Area, CheckResult, CheckStatus, Found
from avion_media.operations.doctor.examination import examine, examine_forgeries

__all__ = ["Area", "CheckResult", "CheckStatus", "Found", "examine", "examine_forgeries"]
