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
    blocks = _BLOCK.findall(text)
    if not blocks:
        raise ValueError("there is no PEM certificate")
    try:
        return tuple(base64.b64decode("".join(block.split()), validate=True) for block in blocks)
    except binascii.Error as error:
        raise ValueError(f"a PEM certificate is not base64: {error}") from error


def certificate_to_pem(der: bytes) -> str:
    """Return the PEM text of one certificate."""
    body = base64.encodebytes(der).decode("ascii").replace("\n", "")
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])
