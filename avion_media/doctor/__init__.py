"""`avion-media doctor`: does this store, this Redis and this kernel do what the service relies on?

Each probe is one sentence that must hold, tried for real; what does not hold is said with its consequence. A new
probe is one entry in the list of its module.
"""

from avion_media.doctor.examination import examine, examine_forgeries
from avion_media.doctor.probe import Area, Finding, Verdict

__all__ = ["Area", "Finding", "Verdict", "examine", "examine_forgeries"]
