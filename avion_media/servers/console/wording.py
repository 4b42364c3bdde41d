"""Writes times, sizes, names and reasons for the console: the filters of its templates."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from markupsafe import Markup

from avion_media.common.errors import ADVICE, MEANINGS, Reason
from avion_media.common.formats import by_content_type
from avion_media.common.ids import MediaId, id_or_none
from avion_media.common.settings import format_size
from avion_media.common.tasks import QUEUES
from avion_media.items.moderation import Ground, InvalidHost, parse_host
from guarded_fetch import InvalidUrl, parse_remote_url

_HASH: Final = re.compile(r"\b[0-9a-f]{32,64}\b")
GROUNDS: Final = {
    str(Ground.TERMS): "Against the rules of this server",
    str(Ground.ILLEGAL): "Illegal",
    str(Ground.CHILD_SAFETY): "Child safety",
    str(Ground.NONCONSENSUAL): "Shown without consent",
    str(Ground.TERROR): "Terrorist content",
    str(Ground.COPYRIGHT): "Copyright",
    str(Ground.COURT_ORDER): "Order of a court",
    str(Ground.OTHER): "Another ground",
}
"""The grounds of a block, by value."""
_REASONS: Final = {str(each): each for each in Reason}


def count(number: float) -> str:
    """A whole number, with commas between thousands."""
    return f"{round(number):,}"


def address(path: str, fields: Mapping[str, str]) -> str:
    """The address of a page, with the fields that are not empty."""
    query = urlencode({name: value for name, value in fields.items() if value})
    return f"{path}?{query}" if query else path


def rate(per_s: float) -> str:
    """A rate, with one digit while it is small."""
    return f"{per_s:.1f}" if per_s < 100 else count(per_s)


def sized(number: float) -> Markup:
    """A size with the exact number of bytes in its title."""
    return Markup('<span title="{} bytes">{}</span>').format(count(number), format_size(number))


def duration(seconds: float | None) -> str:
    """A duration in its two largest units; coarser below a minute, so that an idle page does not change each second."""
    if seconds is None:
        return "–"
    whole = int(seconds)
    if whole < 10:
        return f"{whole} s"
    if whole < 60:
        return f"{whole // 5 * 5} s"
    for unit_s, unit, part_s, part in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= unit_s:
            rest = whole % unit_s // part_s
            return f"{whole // unit_s} {unit}" + (f" {rest} {part}" if rest else "")
    return f"{whole // 60} min"


def took(seconds: float) -> str:
    """How long something took: a duration, with one digit while it is short."""
    return f"{round(seconds, 1):g} s" if seconds < 10 else duration(seconds)


def clip(seconds: float) -> str:
    """The length of a video or of audio: minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


def ago(unix_s: float, now: float) -> str:
    """A time as seen from ``now``: past or coming."""
    passed_s = now - unix_s
    if abs(passed_s) < 10:
        return "just now"
    return f"{duration(passed_s)} ago" if passed_s > 0 else f"in {duration(-passed_s)}"


def exactly(unix_s: float) -> str:
    """The same time for the title of its element."""
    return f"{datetime.fromtimestamp(unix_s, UTC):%-d %b %Y, %H:%M:%S} UTC"


def _iso(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _unix_s(moment: float | str) -> float:
    """Read a time in Unix seconds or ISO 8601."""
    return datetime.fromisoformat(moment).timestamp() if isinstance(moment, str) else float(moment)


def when(moment: float | str, now: float | None = None) -> Markup:
    """A time (Unix seconds or ISO 8601) as an element: relative, with the exact one in its title; empty for none."""
    if not moment:
        return Markup("–")
    unix_s = _unix_s(moment)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        _iso(unix_s),
        exactly(unix_s),
        ago(unix_s, time.time() if now is None else now),
    )


def fixed(moment: float | str, form: str = "%H:%M") -> Markup:
    """A time as an element that stays as it is, with all of it in its title; by default the minute of the day."""
    unix_s = _unix_s(moment)
    shown = datetime.fromtimestamp(unix_s, UTC).strftime(form)
    return Markup('<time datetime="{}" title="{}" data-clock>{}</time>').format(_iso(unix_s), exactly(unix_s), shown)


def dated(moment: float | str) -> Markup:
    """A time as a date, followed by the relative time."""
    return Markup("<span>{} ({})</span>").format(fixed(moment, "%-d %b, %H:%M"), when(moment))


def type_of(content_type: str) -> str:
    """The name of a content type: JPEG for ``image/jpeg``."""
    found = by_content_type(content_type)
    return content_type if found is None else found.name.upper()


def format_of(media_id: str) -> str:
    """The declared format of an upload, which is in its id; empty for any other text."""
    any_id = id_or_none(media_id)
    return any_id.format.name.upper() if isinstance(any_id, MediaId) else ""


def as_id(text: str) -> str:
    """The text if it is the id of a media item, otherwise empty."""
    return str(id_or_none(text) or "")


def as_host(text: str) -> str:
    """The host that a text names, in normal form; empty if it is none that can be blocked."""
    with suppress(InvalidHost):
        return parse_host(text).host
    return ""


def short(subject: str) -> str:
    """An id without its middle, a URL without the middle of its path: never without its end."""
    if "://" in subject:
        try:
            url = parse_remote_url(subject)
        except InvalidUrl:
            return subject[:60]
        path = url.target.split("?")[0]
        end = path.rpartition("/")[2] or path
        return f"{url.host}/{'' if path.count('/') < 2 else '…/'}{end.lstrip('/')}"[:80]
    return subject if len(subject) < 26 else f"{subject[:8]}…{subject[-6:]}"


def with_short_hashes(text: str) -> str:
    """A sentence without the middle of the hashes in it."""
    return _HASH.sub(lambda found: short(found[0]), text)


def meaning(code: str) -> str:
    """A reason as a sentence. An unknown code stays as it is."""
    if code not in _REASONS:
        return f"The error has no known code: {code}." if code else "The error has no code."
    text = MEANINGS[_REASONS[code]].replace("`", "")
    return f"{text[0].upper()}{text[1:]}."


def advice(code: str) -> str:
    """What an operator does about it."""
    return (
        ADVICE[_REASONS[code]].replace("`", "") if code in _REASONS else "Read the error, and look for it in the log."
    )


def queue_title(name: str) -> str:
    """The title of a queue."""
    return QUEUES[name].title if name in QUEUES else name
