"""PEM text to DER octets (RFC 7468), without a look at what they mean: a chain may hold what no X.509 parser takes."""

from __future__ import annotations

import base64
import binascii
import re

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----")


def certificates_from_pem(text: str) -> tuple[bytes, ...]:
    """Return the DER octets of every certificate in a PEM text, in order; what stands between the blocks is skipped.

    Raises:
        ValueError: there is no certificate, or one is not base64.
    """
    certificates, refused = certificate_blocks(text)
    if refused:
        raise ValueError(f"a PEM certificate is malformed: {refused[0]}")
    if not certificates:
        raise ValueError("there is no PEM certificate")
    return tuple(der for _, der in certificates)


def certificate_blocks(text: str) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Return the certificates of a PEM text that are base64, each by its place, and a line for each that is not."""
    blocks = [(f"certificate {place}", _decoded(block)) for place, block in enumerate(_BLOCK.findall(text), 1)]
    certificates = [(name, der) for name, der in blocks if der is not None]
    return certificates, [f"{name}: not base64" for name, der in blocks if der is None]


def _decoded(block: str) -> bytes | None:
    try:
        return base64.b64decode("".join(block.split()), validate=True)
    except binascii.Error:
        return None


def certificate_to_pem(der: bytes) -> str:
    """Return the PEM text of one certificate."""
    body = base64.encodebytes(der).decode("ascii").replace("\n", "")
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])
