"""`avion-media doctor`: does this store, this Redis and this kernel do what the service relies on?

Each check is one sentence that must hold, tried for real; a failure is reported with its consequence. A new
check is one entry in the list of its module.
"""

from avion_media.operations.doctor.check import Area, CheckResult, CheckStatus
from avion_media.operations.doctor.examination import examine, examine_forgeries

__all__ = ["Area", "CheckResult", "CheckStatus", "examine", "examine_forgeries"]
