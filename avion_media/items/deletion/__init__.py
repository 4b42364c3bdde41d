"""Deletions: one record per media item, notices ordered by position, removals by generation, a journal in the
bucket."""

from avion_media.items.deletion.handler import DeletionHandler
from avion_media.items.deletion.journal import DeletionJournal
from avion_media.items.deletion.names import NOTICES_GROUP, generation_of, removal_id
from avion_media.items.deletion.notices import Notice, NoticeChannel, NoticeStream, parse_notice
from avion_media.items.deletion.records import DeletionRecord, DeletionRecords, DeletionState, Mark, Removal, Undelete
from avion_media.items.deletion.removal import RemoveDeleted
from avion_media.items.deletion.replay import JournalReplay
from avion_media.items.deletion.undelete import undelete

__all__ = [
    "NOTICES_GROUP",
    "DeletionHandler",
    "DeletionJournal",
    "DeletionRecord",
    "DeletionRecords",
    "DeletionState",
    "JournalReplay",
    "Mark",
    "Notice",
    "NoticeChannel",
    "NoticeStream",
    "Removal",
    "RemoveDeleted",
    "Undelete",
    "generation_of",
    "parse_notice",
    "removal_id",
    "undelete",
]
