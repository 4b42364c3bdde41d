"""Thumbnails in sRGB and a BlurHash, from one decode of a picture.

It runs in the sandbox, because the bytes are untrusted and could hijack a decoder. Each step has one library
(docs/decisions/0004-imaging-libraries.md). Usual pictures are decoded, scaled and written in planes (`planes`), the
others by Pillow and libvips. `thumbnails.make` loads all of them, so only sandboxed jobs import it.
"""
