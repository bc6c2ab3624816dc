"""A mail server to try a sender with: it listens on a free port of this machine, offers STARTTLS, keeps what it gets.

It takes one session at a time and any sender and recipient. It is there to be tried against, not to receive mail.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import tempfile
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

if TYPE_CHECKING:
    from io import BufferedIOBase


class MailServer:
    """The server, running until the program ends.

    Attributes:
        address: where it listens.
        port: likewise.
        tlsa: the text of the TLSA record for its key, "3 1 1 ...".
        mails: the messages received.
    """

    def __init__(self, name: str) -> None:
        """Make a key and a self-signed certificate for this name, and listen."""
        key = ec.generate_private_key(ec.SECP256R1())
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.tlsa = f"3 1 1 {hashlib.sha256(spki).hexdigest()}"
        self.mails: list[str] = []
        self._name = name
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:  # `ssl` reads keys from files only
            file = Path(folder) / "key.pem"
            private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            file.write_bytes(private + _certificate(name, key).public_bytes(Encoding.PEM))
            self._context.load_cert_chain(file)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address, self.port = self._listener.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with contextlib.suppress(OSError):
                self._session(connection)

    def _session(self, connection: socket.socket) -> None:
        with contextlib.ExitStack() as opened:
            opened.enter_context(connection)
            stream = opened.enter_context(connection.makefile("rwb"))
            _reply(stream, b"220 ready")
            while line := stream.readline():
                verb = line.split()[0].upper()
                if verb == b"EHLO":
                    offer = b"" if isinstance(connection, ssl.SSLSocket) else b"250-STARTTLS\r\n"
                    _reply(stream, f"250-{self._name}\r\n".encode() + offer + b"250 8BITMIME")
                elif verb == b"STARTTLS":
                    _reply(stream, b"220 go ahead")
                    connection = opened.enter_context(self._context.wrap_socket(connection, server_side=True))
                    stream = opened.enter_context(connection.makefile("rwb"))
                elif verb == b"DATA":
                    _reply(stream, b"354 end with a dot")
                    mail = ""
                    while (line := stream.readline()) not in {b".\r\n", b""}:
                        mail += line.decode().removeprefix(".")  # RFC 5321 section 4.5.2
                    if not line:
                        return
                    self.mails.append(mail)
                    _reply(stream, b"250 kept")
                elif verb == b"QUIT":
                    _reply(stream, b"221 bye")
                    return
                else:
                    _reply(stream, b"250 ok")


def _reply(stream: BufferedIOBase, text: bytes) -> None:
    stream.write(text + b"\r\n")
    stream.flush()


def _certificate(name: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
    return builder.not_valid_after(now + timedelta(days=30)).sign(key, SHA256())
