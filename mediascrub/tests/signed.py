"""Files with content credentials: signed by the SDK of the C2PA's reference implementation, or made by hand."""

from __future__ import annotations

import io
import json
import struct
from datetime import UTC, datetime, timedelta
from functools import cache

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mediascrub import Format
from mediascrub.credentials import CREDENTIALS_TYPE
from mediascrub.isobmff import make_box
from mediascrub.png import make_chunk

MIME_TYPES = {
    Format.JPEG: "image/jpeg",
    Format.PNG: "image/png",
    Format.GIF: "image/gif",
    Format.WEBP: "image/webp",
    Format.AVIF: "image/avif",
    Format.HEIC: "image/heic",
    Format.MP4: "video/mp4",
    Format.MOV: "video/quicktime",
    Format.M4A: "audio/mp4",
    Format.MP3: "audio/mpeg",
    Format.FLAC: "audio/flac",
    Format.WAV: "audio/wav",
}
"""The formats in which C2PA has a place for a manifest."""
UUID = bytes.fromhex("D8FEC3D61B0E483C92975828877EC481")
_MANIFEST = {
    "claim_generator_info": [{"name": "test", "version": "1"}],
    "assertions": [
        {
            "label": "c2pa.actions",
            "data": {
                "actions": [
                    {
                        "action": "c2pa.created",
                        "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture",
                    }
                ]
            },
        }
    ],
}


def sign(content: bytes, fmt: Format, *, thumbnail: bool = False) -> tuple[bytes, bytes]:
    """Return the file with content credentials, and the manifest in it. ``thumbnail``: with a picture of its own."""
    context = c2pa.Context.from_dict({"builder": {"thumbnail": {"enabled": thumbnail}}})
    signed = io.BytesIO()
    with c2pa.Builder(json.dumps(_MANIFEST), context) as builder, c2pa.Signer.from_info(_signer()) as signer:
        manifest: bytes = builder.sign(signer, MIME_TYPES[fmt], io.BytesIO(content), signed)
    return signed.getvalue(), manifest


def validate(content: bytes, fmt: Format, manifest: bytes | None = None) -> str:
    """Return what the SDK calls the credentials of a file: ``Valid`` if all but the unknown signer is right.

    ``manifest`` is that beside the file.
    """
    with c2pa.Reader(MIME_TYPES[fmt], io.BytesIO(content), manifest) as reader:
        state: str = json.loads(reader.json())["validation_state"]
        return state


@cache
def _signer() -> c2pa.C2paSignerInfo:
    """Return a key with a certificate by C2PA 2.2, 14.5, and that of its issuer."""
    now = datetime.now(UTC)
    issuer_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer, subject = (
        x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
        )
        for name in ("Issuer", "Signer")
    )

    def certificate(name: x509.Name, public: ec.EllipticCurvePublicKey, *, is_issuer: bool) -> bytes:
        usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
        usage |= {"encipher_only": False, "decipher_only": False}
        builder = x509.CertificateBuilder(issuer, name, public, x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(is_issuer, None), critical=True).add_extension(
            x509.KeyUsage(digital_signature=not is_issuer, key_cert_sign=is_issuer, crl_sign=is_issuer, **usage),
            critical=True,
        )
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        if not is_issuer:
            authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
            builder = builder.add_extension(authority, critical=False)
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=True
            )
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    chain = certificate(subject, key.public_key(), is_issuer=False)
    chain += certificate(issuer, issuer_key.public_key(), is_issuer=True)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return c2pa.C2paSignerInfo(alg=b"es256", sign_cert=chain, private_key=private, ta_url=None)


def manifest_of(content: bytes = b"what nobody reads") -> bytes:
    """Return a superbox that looks like a manifest from outside."""
    return make_box(b"jumb", make_box(b"jumd", CREDENTIALS_TYPE, b"\x03c2pa\x00"), content)


def with_manifest(file: bytes, fmt: Format, manifest: bytes, *, purpose: bytes = b"manifest") -> bytes:
    """Return the file with a manifest where C2PA has it; in formats made of boxes, at the end."""
    if fmt is Format.JPEG:
        return file[:2] + b"".join(jpeg_segments(manifest)) + file[2:]
    if fmt is Format.PNG:
        return file[:33] + make_chunk(b"caBX", manifest) + file[33:]
    if fmt is Format.GIF:
        blocks = [manifest[start : start + 255] for start in range(0, len(manifest), 255)]
        data = b"".join(bytes((len(block),)) + block for block in blocks)
        return file[:-1] + b"\x21\xff\x0bC2PA_GIF\x01\x00\x00" + data + b"\x00" + file[-1:]
    if fmt in (Format.MP3, Format.FLAC):
        content = b"\x03application/c2pa\0c2pa\0\0" + manifest
        frame = b"GEOB" + _syncsafe(len(content)) + b"\0\0" + content
        return b"ID3\x04\0\0" + _syncsafe(len(frame)) + frame + file
    if fmt in (Format.WEBP, Format.WAV):
        chunk = b"C2PA" + struct.pack("<I", len(manifest)) + manifest + bytes(len(manifest) % 2)
        return file[:4] + struct.pack("<I", len(file) - 8 + len(chunk)) + file[8:] + chunk
    return file + make_box(b"uuid", UUID, bytes(4), purpose, b"\x00", bytes(8), manifest)


def _syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def jpeg_segments(manifest: bytes, *, number: int = 7, part_bytes: int = 60_000) -> list[bytes]:
    """Return the APP11 segments of a manifest: the box ``number``, in parts."""
    header, content = manifest[:8], manifest[8:]
    parts = [content[start : start + part_bytes] for start in range(0, len(content), part_bytes)]
    return [
        struct.pack(">2sH2sHI", b"\xff\xeb", 18 + len(part), b"JP", number, 1 + index) + header + part
        for index, part in enumerate(parts)
    ]
