"""The type of a file by its content alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediascrub import HEAD_BYTES, Format, Sniffed, sniff


def box(kind: bytes, payload: bytes = b"") -> bytes:
    return (8 + len(payload)).to_bytes(4, "big") + kind + payload


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    return box(b"ftyp", major + bytes(4) + b"".join(compatible))


def ebml(doc_type: bytes, before: bytes = b"") -> bytes:
    payload = before + b"\x42\x82" + bytes([0x80 | len(doc_type)]) + doc_type
    return b"\x1a\x45\xdf\xa3" + bytes([0x80 | len(payload)]) + payload


def sniffed(content: bytes) -> Sniffed:
    return sniff(content, size=len(content))


@pytest.mark.parametrize(
    ("content", "fmt"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", Format.JPEG),
        (b"\xff\xd8\xff\xdb", Format.JPEG),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", Format.PNG),
        (b"GIF87a\x01\x00", Format.GIF),
        (b"GIF89a/*", Format.GIF),
        (b"RIFF\x10\x00\x00\x00WEBPVP8L", Format.WEBP),
        (ftyp(b"avif", b"mif1"), Format.AVIF),
        (ftyp(b"avis", b"avif", b"avis", b"msf1", b"iso8"), Format.AVIF),
        (ftyp(b"mif1", b"miaf", b"avif"), Format.AVIF),
        (ftyp(b"mif1", b"heic"), Format.HEIC),
        (ftyp(b"heix", b"mif1"), Format.HEIC),
        (ftyp(b"hevc", b"msf1", b"isom"), Format.HEIC),
        (ftyp(b"isom", b"iso2", b"avc1", b"mp41"), Format.MP4),
        (ftyp(b"mp42"), Format.MP4),
        (ftyp(b"XAVC", b"mp42", b"iso2"), Format.MP4),
        (ftyp(b"3gp4", b"isom", b"3gp4"), Format.MP4),
        (ftyp(b"3g2a"), Format.MP4),
        (ftyp(b"qt  "), Format.MOV),
        (ftyp(b"qt  ", b"isom"), Format.MOV),
        (ftyp(b"niko", b"qt  "), Format.MOV),
        (box(b"wide") + b"\x00\x00\x00\x01mdat" + (28).to_bytes(8, "big") + bytes(12), Format.MOV),
        (box(b"moov", bytes(100)), Format.MOV),
        (b"\x00\x00\x00\x00mdat" + bytes(8), Format.MOV),
        (box(b"free", bytes(9)) + ftyp(b"isom"), Format.MP4),
        (box(b"free", bytes(HEAD_BYTES)) + box(b"mdat"), Format.MOV),
        (ebml(b"webm"), Format.WEBM),
        (ebml(b"matroska", before=b"\x42\x86\x81\x01"), Format.MKV),
        (ebml(b"webm\x00\x00"), Format.WEBM),
        (ftyp(b"M4A ", b"mp42", b"isom"), Format.M4A),
        (b"ID3\x04", Format.MP3),
        ((b"\xff\xf3\x44\xc0" + bytes(92)) * 2, Format.MP3),
        (b"OggS\x00", Format.OGG),
        (b"fLaC\x00", Format.FLAC),
        (b"RIFF\xff\xff\xff\xffWAVEfmt ", Format.WAV),
        (b"RF64\xff\xff\xff\xffWAVEds64", Format.WAV),
    ],
)
def test_accepted_formats_are_known_by_their_content(content: bytes, fmt: object) -> None:
    assert sniffed(content).format is fmt


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "svg"),
        (b'\xef\xbb\xbf <?xml version="1.0"?>\n<!-- a <b> --><!DOCTYPE svg [<!ENTITY x "y">]>\n<svg:svg>', "svg"),
        ("\ufeff<svg/>".encode("utf-16-le"), "svg"),
        (b"<!DOCTYPE html><title>x</title>", "html"),
        (b"\n\n<script>alert(1)</script>", "html"),
        (b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'>", "dash"),
        (b"<?xml version='1.0'?><feed>", "xml"),
        (b"<!-- never closed", "xml"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\nfile:///etc/passwd", "hls"),
        (b"ffconcat version 1.0\nfile /etc/passwd", "ffconcat"),
        (b"#!/bin/sh\nid", "script"),
        (b"<?php system($x);", "script"),
        ("grüße <3".encode(), "text"),
        (b"The moov box is described below.", "text"),
        (b"we, free and wide", "text"),
        (b"%PDF-1.7", "pdf"),
        (b"PK\x03\x04rest", "zip"),
        (b"BM" + bytes(12) + b"\x28\x00\x00\x00", "bmp"),
        (b"BMW is a car maker in Munich", "text"),
        (b"II*\x00\x08\x00\x00\x00", "tiff"),
        (b"\xff\x0a\x00", "jxl"),
        (b"\xff\xf3\x44\xc0" + bytes(4000), "unknown"),
        (b"RIFF\x10\x00\x00\x00AVI LIST", "avi"),
        (b"RIFF\x10\x00\x00\x00XXXX", "unknown"),
        (ftyp(b"crx ", b"crx ", b"isom"), "cr3"),
        (ftyp(b"zzzz"), "isobmff"),
        (ebml(b"evil"), "ebml"),
        (b"\x1a\x45\xdf\xa3", "ebml"),
        (b"\x1a\x45\xdf\xa3\x00\x42\x82", "ebml"),
        ((b"G" + bytes(187)) * 3, "mpeg-ts"),
        (b"\x00\x01\x02\x03\x04\x05\x06\x07\x08", "unknown"),
        (b"\x00\x00\x00\x04free", "unknown"),
        (box(b"free", bytes(20)), "unknown"),
        (b"a", "unknown"),
        (b"", "empty"),
    ],
)
def test_everything_else_is_named_and_never_media(content: bytes, name: str) -> None:
    assert sniffed(content).format is None
    assert sniffed(content).name == name


@given(st.binary(max_size=200), st.integers(0, 1 << 40))
def test_any_bytes_get_an_answer(head: bytes, size: int) -> None:
    assert sniff(head, size=size).name


@pytest.mark.parametrize(
    "head",
    [b"a" * HEAD_BYTES, b"<" * HEAD_BYTES, b"<!--" * 1024, b"<?x?>" * 800, b"<!doctype[" * 400, box(b"free") * 512],
)
def test_a_hostile_head_takes_no_time(head: bytes) -> None:
    before = time.process_time()
    sniff(head, size=1 << 30)
    assert time.process_time() - before < 0.1
