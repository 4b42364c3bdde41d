"""Thumbnails in sRGB and a BlurHash, from one decode of a picture.

It runs in the sandbox, because the bytes are untrusted and could hijack a decoder. Each step has one library
(docs/decisions/0004-imaging-libraries.md): Pillow decodes JPEG, GIF, AVIF and HEIC, converts colours and writes files;
libvips decodes PNG and WebP, scales and turns. `thumbnails.make` loads both, so only sandboxed jobs import it.
"""
