"""Deletions: one record per media item, notices ordered by position, removals by generation, a journal in the
bucket."""

from avion_media.items.deletion.channel import LISTENERS, NoticeChannel
from avion_media.items.deletion.journal import DeletionJournal
from avion_media.items.deletion.notices import Notice, NoticeStream, parse_notice
from avion_media.items.deletion.records import (
    NOTICES_GROUP,
    DeletionRecord,
    DeletionRecords,
    DeletionState,
    Mark,
    Undelete,
    removal_id,
)
from avion_media.items.deletion.removal import NoticeHandler, RemoveDeleted, delete
from avion_media.items.deletion.replay import JournalReplay
from avion_media.items.deletion.undelete import undelete
