"""Moderation: blocks of media, block lists, evidence, media that wait for a moderator, the operator's hook."""

from avion_media.items.moderation.blocking import MAX_NOTE, Blocking, NotBlocked, Unwanted
from avion_media.items.moderation.entries import EXACT, Entry, HashType, InvalidEntry, parse_entry, parse_list
from avion_media.items.moderation.hosts import BlockedHost, BlockedHosts, HostNotBlocked, InvalidHost, parse_host
from avion_media.items.moderation.likeness import Likeness
from avion_media.items.moderation.lists import CHANNEL, OWN, Blocklists, Changes, Match
from avion_media.items.moderation.records import (
    Block,
    BlockState,
    Ended,
    Ground,
    ModerationRecords,
    ModerationStatus,
    Notice,
    notice_time,
)
from avion_media.items.moderation.reviews import NoNotice, NotHeld, waits
from avion_media.items.moderation.screening import HeldForReview, Moderation, Screening
