"""TLS by the standard library's `ssl`: contexts, the certificates that a server presented, the system's trust anchors.

The engine verifies the chain itself, after the handshake and before any mail (RFC 3207 section 4.1). OpenSSL therefore
verifies nothing at any level: what it knows of trust anchors and names is not what RFC 7672 asks for, and a handshake
that fails on a self-signed certificate would turn opportunistic TLS into cleartext.

>>> context = client_context("dane")
>>> context.minimum_version.name
'TLSv1_2'
"""

from __future__ import annotations

import contextlib
import os
import ssl
from pathlib import Path
from typing import Any

from mailtlspolicy.pkix import TrustStore
from mailtlspolicy.x509.pem import certificate_blocks

_DER = 2  # what `ssl` of Python 3.10 to 3.12 calls ENCODING_DER, in a private module
_LEGACY_SERVER_CONNECT = 0x4  # `ssl.OP_LEGACY_SERVER_CONNECT`, named since Python 3.12

# With which OpenSSL begins the names of the errors (1000 and above) that stand for an alert received, and no others
_ALERTS = "SSLV3_", "TLSV1_", "TLSV13_", "SSL_TLS_ALERT_"

_OPPORTUNISTIC = {"none", "may"}
_REQUIRED = {"encrypt", "dane", "secure"}


def client_context(level: str) -> ssl.SSLContext:
    """Make the context for sessions at one level; it can serve any number of hosts.

    `encrypt`, `dane`, `secure`: TLS 1.2 or later. RFC 7671 section 3 asks for TLS 1.0 "at least" and 1.2 by preference;
    RFC 8996 has since withdrawn what is older than 1.2. OpenSSL's security level 1 whatever the system's default: what
    a path is signed with is for the engine to judge, at that level.

    `may`, and `none` for who starts TLS all the same: whatever OpenSSL can still do, at security level 0 and with
    servers that lack secure renegotiation, since the alternative is cleartext (RFC 7435 section 3).

    No level offers anonymous cipher suites, though RFC 7672 section 8.2 would allow them at `may`: every server copes
    without them, and then always presents certificates. Tickets are refused, since a resumed session presents none. No
    compression.

    Raises:
        ValueError: the word is no level.
    """
    if level not in _OPPORTUNISTIC | _REQUIRED:
        raise ValueError(f"{level!r} is none of none, may, encrypt, dane, secure")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    if level in _REQUIRED:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("DEFAULT:!aNULL:!eNULL:@SECLEVEL=1")
    else:
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED  # SSL 3.0 stays off: `ssl` says so by an option
        context.options |= _LEGACY_SERVER_CONNECT
        context.set_ciphers("DEFAULT:!aNULL:!eNULL:@SECLEVEL=0")
    return context


def presented_chain(session: ssl.SSLSocket | ssl.SSLObject) -> tuple[bytes, ...]:
    """Return the certificates that a server presented, as DER, in the order sent, nothing added or left out.

    With asyncio, `session` is `writer.get_extra_info("ssl_object")`.

    Empty where no certificate was presented in this session: before the handshake, in a resumed session (what an
    earlier one presented proves nothing about this one), and where the implementation does not give the chain out. To
    the engine that is "no certificate", which never passes.
    """
    if session.session_reused:
        return ()
    # A method of the object since Python 3.13, and before that of the object of C that it holds
    getter = getattr(session, "get_unverified_chain", None) or getattr(
        getattr(session, "_sslobj", None), "get_unverified_chain", None
    )
    if getter is None or session.version() is None:
        return ()
    chain: list[Any] = getter() or []
    return tuple(item if isinstance(item, bytes) else item.public_bytes(_DER) for item in chain)


def name_of(error: ssl.SSLError) -> tuple[str | None, bool]:
    """Return what OpenSSL calls an error, and whether it is an alert that the peer sent.

    The name of an alert that `ssl` has no name for is made from OpenSSL's text; of one that nobody has registered it is
    "UNKNOWN_ALERT". None where OpenSSL says nothing.
    """
    if isinstance(error, ssl.SSLZeroReturnError):
        return "CLOSE_NOTIFY", True  # which ends a session in good order (RFC 8446 section 6.1), and no handshake
    name: str | None = error.reason
    if name is None and error.library == "SSL":
        text = (error.strerror or "").removeprefix("[SSL] ").partition(" (")[0]
        if text.startswith("unknown error"):  # OpenSSL has a text for each of its own: an alert, by its number
            return "UNKNOWN_ALERT", True
        name = text.replace(" ", "_").replace("/", "_").upper() or None
    return name, name is not None and name.startswith(_ALERTS)


def system_trust_store() -> TrustStore:
    """Return the trust anchors that this system's OpenSSL uses by default (RFC 8461 sections 3.3 and 4.2).

    SSL_CERT_FILE and SSL_CERT_DIR say where they are, as ever. What is there and is no certificate is left out, and in
    the store's `left_out`. Empty where there are none: then nothing is trusted.
    """
    paths = ssl.get_default_verify_paths()
    folders = os.environ.get(paths.openssl_capath_env, paths.openssl_capath).split(os.pathsep)
    # OpenSSL loads nothing of a file with one bad certificate in it. Of a folder it reads no files of other names.
    files = [Path(os.environ.get(paths.openssl_cafile_env, paths.openssl_cafile))]
    files += (file for folder in filter(None, folders) for file in sorted(Path(folder).glob("*.[0-9]")))
    anchors: list[tuple[str, bytes]] = []
    left_out: list[str] = []
    for file in files:
        with contextlib.suppress(OSError):
            found, refused = certificate_blocks(file.read_text("ascii", errors="replace"))
            anchors += [(f"{file}, {name}", der) for name, der in found]
            left_out += [f"{file}, {why}" for why in refused]
    # Those of other kinds: of Windows, and with attributes (BEGIN TRUSTED CERTIFICATE)
    anchors += [("OpenSSL", der) for der in ssl.create_default_context().get_ca_certs(binary_form=True)]
    return TrustStore.of_anchors(anchors, left_out)
