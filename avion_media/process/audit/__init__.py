"""The audit log: who changed what, by which entrance, and with what outcome. It is in the bucket, as chains of hashes.

`record` is one record and its hash, `log` writes, `reading` lists and finds, `verification` checks the chains.
docs/audit.md describes the format for programs that check it without this code.
"""

from avion_media.process.audit.log import AuditLog
from avion_media.process.audit.record import OK, AuditRecord

__all__ = ["OK", "AuditLog", "AuditRecord"]
