"""MPEG audio, layer III (ISO/IEC 11172-3, 2.4, and 13818-3): frames stay, and damaged ones; all else goes.

The first frame can have no sound but what a player must know: the number of frames, a table for seeking, and how many
samples to leave out at both ends (Xing or Info, with LAME's extension: http://gabriel.mp3-tech.org/mp3infotag.html). Of
it the fields that are known stay, but no ReplayGain. Bits inside other frames that no decoder reads stay.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator

from mediascrub import flac
from mediascrub.bounds import Quota, VideoBounds
from mediascrub.errors import ScrubCode, ScrubError, corrupt
from mediascrub.formats import Format
from mediascrub.movie import Edits, MoviePlan, sound_plan
from mediascrub.ranges import Range
from mediascrub.sparse import SparseFile
from mediascrub.tags import empty_id3v2, empty_tags_at_end, id3v2_credentials

HEAD_BYTES = 4
_SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", re.DOTALL)  # of layer III, with or without a checksum
_MPEG1, _MPEG2, _MPEG25 = 3, 2, 0
_KBITS = {  # by whether it is MPEG-1
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {_MPEG1: (44100, 48000, 32000), _MPEG2: (22050, 24000, 16000), _MPEG25: (11025, 12000, 8000)}
_SAMPLES = {_MPEG1: 1152, _MPEG2: 576, _MPEG25: 576}
_MONO = 3
_SIDE_BYTES = {(True, False): 32, (True, True): 17, (False, False): 17, (False, True): 9}  # of MPEG-1, of one channel

# Between two frames so much is most likely a damaged one, which decoders read in ways of their own: it stays, unless a
# tag is in it. The longest frame has 1441 bytes.
_DAMAGE_BYTES = 1441
_TAG = re.compile(rb"ID3|3DI|TAG|LYRICS")

# Of the first frame, behind its header and side information.
_COUNTS = ((1, 4), (2, 4), (4, 100), (8, 4))  # the flag of a field, and its bytes
_ENCODERS = (b"LAME", b"Lavf", b"Lavc")  # whose extension libav reads; a version follows
_EXTENSION_BYTES, _NAME_BYTES, _VERSION_BYTES, _GAIN, _CRC_BYTES = 36, 4, 5, slice(11, 19), 2


def frame_bytes(head: bytes) -> int:
    """Return the length of the frame with this header; 0 for anything else, and in the free format, which none says."""
    if len(head) < HEAD_BYTES or not _SYNC.match(head):
        return 0
    version, bits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if not 0 < bits < 15 or rate == 3:
        return 0
    kbits = _KBITS[version == _MPEG1][bits - 1]
    return _SAMPLES[version] // 8 * kbits * 1000 // _RATES[version][rate] + (head[2] >> 1 & 1)


def _kind(head: bytes) -> tuple[int, int]:
    """Return what all frames have in common: version, layer and sample rate."""
    return head[1] & 0xFE, head[2] & 0x0C


def plan(file: SparseFile, fmt: Format, *, poster_s: float, bounds: VideoBounds) -> MoviePlan:
    """See `MovieFormat`. The format is FLAC if that follows an ID3 tag."""
    view, edits = file.mapped(), Edits(file.peek)
    start = empty_id3v2(file, 0, edits, bounds)
    if view[start : start + HEAD_BYTES] == flac.MARK:
        return flac.plan(file, fmt, poster_s=poster_s, bounds=bounds)
    end = empty_tags_at_end(file, start, edits)
    first, position, count = b"", start, 0
    for frame in _frames(view, start, end, bounds):
        between = view[position : min(frame.offset, position + _DAMAGE_BYTES + 1)]
        if not count or len(between) > _DAMAGE_BYTES or _TAG.search(between):
            edits.zero(position, frame.offset - position)
        if not count:
            first = view[frame.offset : min(frame.end, end)]
            edits.put(frame.offset, _neutral_first(first))
        position, count = min(frame.end, end), count + 1
    if start == end:
        raise ScrubError(ScrubCode.NO_SOUND)
    if not count:
        if end - start >= HEAD_BYTES and _SYNC.match(view, start) and view[start + 2] >> 4 == 0:
            raise ScrubError(ScrubCode.UNSUPPORTED, "frames of the free format")  # browsers do not play them
        raise corrupt("no frame of MPEG audio, layer III")
    edits.zero(position, end - position)
    version = first[1] >> 3 & 3
    duration_s = count * _SAMPLES[version] / _RATES[version][first[2] >> 2 & 3]
    bounds.check_duration(duration_s)
    patches = edits.joined_with(())
    return sound_plan(file, fmt, duration_s, patches, id3v2_credentials(file, patches))


def _frames(view: mmap.mmap, start: int, end: int, bounds: VideoBounds) -> Iterator[Range]:
    """Yield the frames. Behind anything else, one counts if another of its kind follows it, the end, or zeros: a scrub
    leaves them there.
    """
    frames, false = Quota(bounds.max_samples, "frames"), Quota(bounds.max_boxes, "false headers")
    kind: tuple[int, int] | None = None
    in_sync = False
    while start < end:
        head = view[start : start + HEAD_BYTES]
        length = frame_bytes(head)
        if length and kind in (None, _kind(head)):
            following = view[start + length : min(start + length + HEAD_BYTES, end)]
            fits = frame_bytes(following) and _kind(following) == _kind(head)
            if in_sync or fits or (start + length <= end and not any(following)):
                frames.take()
                yield Range(start, length)
                kind, in_sync, start = _kind(head), True, start + length
                continue
        false.take()
        found = _SYNC.search(view, start + 1, end)
        in_sync, start = False, found.start() if found else end


def _neutral_first(frame: bytes) -> bytes:
    """Return the first frame: unchanged if it has sound, else without what no player needs."""
    side_bytes = _SIDE_BYTES[frame[1] >> 3 & 3 == _MPEG1, frame[3] >> 6 == _MONO]
    at = HEAD_BYTES + side_bytes
    if frame[at : at + 4] in (b"Xing", b"Info"):
        flags = int.from_bytes(frame[at + 4 : at + 8], "big")
        end = at + 8 + sum(length for flag, length in _COUNTS if flags & flag)
        return frame[:end].ljust(len(frame), b"\0")[:end] + _neutral_extension(frame, end)
    return frame


def _neutral_extension(frame: bytes, at: int) -> bytes:
    """Return the rest of the first frame: LAME's extension, whose checksum is of all before it, or zeros."""
    extension = bytearray(frame[at : at + _EXTENSION_BYTES])
    if extension[:_NAME_BYTES] not in _ENCODERS or len(extension) < _EXTENSION_BYTES:
        return bytes(len(frame) - at)
    extension[_NAME_BYTES : _NAME_BYTES + _VERSION_BYTES] = bytes(_VERSION_BYTES)
    extension[_GAIN] = bytes(_GAIN.stop - _GAIN.start)
    before = frame[:at] + extension[:-_CRC_BYTES]
    return (bytes(extension[:-_CRC_BYTES]) + _crc16(before).to_bytes(_CRC_BYTES, "big")).ljust(len(frame) - at, b"\0")


def _crc16(data: bytes) -> int:
    """Return the CRC with the polynomial 0x8005, its bits reversed."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc
