"""The contexts and the presented chain, against servers of the standard library's `ssl`."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
import warnings
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mailtlspolicy.adapters.tls import client_context, presented_chain, system_trust_store
from mailtlspolicy.pkix import TrustStore, verify
from tests.tls_server import Credentials, credentials

if TYPE_CHECKING:
    from collections.abc import Iterator

OPPORTUNISTIC = ["none", "may"]
REQUIRED = ["encrypt", "dane", "secure"]
LEVELS = OPPORTUNISTIC + REQUIRED


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return credentials(tmp_path_factory.mktemp("tls"))


@contextmanager
def serving(context: ssl.SSLContext) -> Iterator[socket.socket]:
    """The client's end of a connection to a server that does one handshake, sends an octet and waits for the end."""
    client, server = socket.socketpair()
    client.settimeout(5)
    server.settimeout(5)

    def serve() -> None:
        try:
            with context.wrap_socket(server, server_side=True) as session:
                session.sendall(b"!")
                session.recv(1)
                session.unwrap()
        except OSError:
            server.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield client
    finally:
        client.close()
        thread.join()


def in_memory(client_side: ssl.SSLContext, server_side: ssl.SSLContext) -> ssl.SSLObject:
    """The client's `SSLObject` after a handshake without sockets."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname="mx.example")
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    for _ in range(20):
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    assert not waiting
    return client


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("level", LEVELS)
def test_the_chain_of_a_socket_is_what_was_sent(served: Credentials, level: str, version: ssl.TLSVersion) -> None:
    context = served.context()
    context.maximum_version = version
    with serving(context) as sock, client_context(level).wrap_socket(sock, server_hostname="mx.example") as session:
        assert presented_chain(session) == served.chain


@pytest.mark.parametrize("version", VERSIONS)
def test_the_chain_of_an_ssl_object_is_what_was_sent(served: Credentials, version: ssl.TLSVersion) -> None:
    context = served.context()
    context.maximum_version = version
    assert presented_chain(in_memory(client_context("dane"), context)) == served.chain


def test_the_chain_of_an_asyncio_stream_is_what_was_sent(served: Credentials) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.transport.abort()

    async def look() -> tuple[bytes, ...]:
        server = await asyncio.start_server(hold, "127.0.0.1", 0, ssl=served.context())
        async with server:
            port = server.sockets[0].getsockname()[1]
            _, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client_context("dane"), server_hostname="mx.example"
            )
            chain = presented_chain(writer.get_extra_info("ssl_object"))
            writer.close()
            await writer.wait_closed()
            return chain

    assert asyncio.run(look()) == served.chain


@pytest.mark.parametrize("version", VERSIONS)
def test_a_resumed_session_presents_nothing(served: Credentials, version: ssl.TLSVersion) -> None:
    server_side, client_side = served.context(), client_context("dane")
    server_side.maximum_version = version
    with serving(server_side) as sock, client_side.wrap_socket(sock) as first:
        assert first.recv(1) == b"!"  # with TLS 1.3, what resumes a session comes after the handshake
        session = first.session
        assert presented_chain(first) == served.chain
        first.unwrap()  # with TLS 1.2, a session that did not end well is not resumed
    with serving(server_side) as sock, client_side.wrap_socket(sock, session=session) as second:
        assert second.session_reused
        assert second.getpeercert(binary_form=True) == served.chain[0]  # remembered, not presented
        assert presented_chain(second) == ()


def test_a_resumed_session_presents_nothing_even_if_a_later_openssl_remembers(served: Credentials) -> None:
    class Resumed(ssl.SSLObject):
        session_reused = True

        def get_unverified_chain(self) -> list[bytes]:
            return list(served.chain)

        def version(self) -> str:
            return "TLSv1.3"

    assert presented_chain(object.__new__(Resumed)) == ()


def test_there_is_no_chain_before_the_handshake_or_after_the_session(served: Credentials) -> None:
    context = client_context("dane")
    assert presented_chain(context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())) == ()
    with serving(served.context()) as sock:
        session = context.wrap_socket(sock, do_handshake_on_connect=False)
        assert presented_chain(session) == ()
        session.close()
    with context.wrap_socket(socket.socket()) as unconnected:
        assert presented_chain(unconnected) == ()


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_verified_and_nothing_resumed_or_compressed(level: str) -> None:
    context = client_context(level)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    assert context.options & ssl.OP_NO_TICKET
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_SSLv3
    assert context.maximum_version is ssl.TLSVersion.MAXIMUM_SUPPORTED


@pytest.mark.parametrize("level", LEVELS)
def test_the_security_level_does_not_depend_on_the_system(level: str) -> None:
    context = client_context(level)
    assert context.security_level == (0 if level in OPPORTUNISTIC else 1)
    if level in OPPORTUNISTIC:
        assert context.options & 0x4  # SSL_OP_LEGACY_SERVER_CONNECT: servers without RFC 5746


@pytest.mark.parametrize("level", LEVELS)
def test_no_level_offers_anonymous_or_null_cipher_suites(level: str) -> None:  # RFC7672-8.2-b: may be, at `may`
    # RFC3207-6-b, RFC7672-8.2-a: what gives no privacy, or no certificate, is not even offered
    descriptions = [str(cipher["description"]) for cipher in client_context(level).get_ciphers()]
    assert descriptions
    assert not [text for text in descriptions if "Au=None" in text or "Enc=None" in text]


@pytest.mark.parametrize("level", LEVELS)
def test_a_server_with_anonymous_suites_alone_is_refused(served: Credentials, level: str) -> None:
    context = served.context(ciphers="aNULL:@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(context) as sock, pytest.raises(ssl.SSLError):
        client_context(level).wrap_socket(sock)


def old_server(served: Credentials) -> ssl.SSLContext:
    context = served.context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1
    return context


@pytest.mark.parametrize("level", OPPORTUNISTIC)
def test_old_tls_is_better_than_cleartext(served: Credentials, level: str) -> None:
    with serving(old_server(served)) as sock, client_context(level).wrap_socket(sock) as session:
        assert session.version() == "TLSv1"


@pytest.mark.parametrize("level", REQUIRED)
def test_where_tls_is_required_it_is_1_2_or_later(served: Credentials, level: str) -> None:
    assert client_context(level).minimum_version is ssl.TLSVersion.TLSv1_2
    with serving(old_server(served)) as sock, pytest.raises(ssl.SSLError):
        client_context(level).wrap_socket(sock)


@pytest.mark.parametrize("level", LEVELS)
def test_a_weak_leaf_is_for_the_engine_to_judge(tmp_path_factory: pytest.TempPathFactory, level: str) -> None:
    weak = credentials(tmp_path_factory.mktemp("weak"), weak=True)
    with serving(weak.context()) as sock, client_context(level).wrap_socket(sock) as session:
        assert presented_chain(session) == weak.chain


@pytest.mark.parametrize("level", ["", "DANE", "verify"])
def test_a_word_that_is_no_level_is_misuse(level: str) -> None:
    with pytest.raises(ValueError, match="none of"):
        client_context(level)


# --- the system's trust anchors

CERTIFICATES = Path(__file__).resolve().parent.parent / "vectors" / "certificates"


def pem(name: str) -> str:
    return (CERTIFICATES / f"{name}.pem").read_text("ascii")


def der(name: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem(name))


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the trust anchors of a system that has none yet: the file "anchors.pem", the folder "hashed"."""
    (tmp_path / "hashed").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "anchors.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "hashed"))
    return tmp_path


def test_a_system_without_anchors_trusts_nothing(system: Path) -> None:
    assert system_trust_store() == TrustStore()
    (system / "anchors.pem").write_text("no certificate\n")
    (system / "hashed").rmdir()
    assert system_trust_store() == TrustStore()


def test_the_anchors_of_the_file_are_taken(system: Path) -> None:
    (system / "anchors.pem").write_text(f"# ours\n{pem('ta')}\n{pem('stranger')}")
    store = system_trust_store()
    assert set(store.certificates) == {der("ta"), der("stranger")}
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    chain = (der("leaf"), der("int"))
    assert verify(chain, store, "mx1.provider.example", now=now).satisfied
    (system / "anchors.pem").write_text(pem("stranger"))
    assert not verify(chain, system_trust_store(), "mx1.provider.example", now=now).satisfied


def test_the_anchors_of_the_folder_are_those_named_by_hash(system: Path) -> None:
    (system / "hashed" / "01234567.0").write_text(pem("ta"))
    (system / "hashed" / "01234567.1").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (system / "hashed" / "89abcdef.0").mkdir()
    (system / "hashed" / "89abcdef.1").write_bytes(b"\xff\xfe")
    (system / "hashed" / "stranger.pem").write_text(pem("stranger"))
    assert system_trust_store().certificates == (der("ta"),)


@pytest.mark.parametrize("bad", ["AAAA", "!!!!"], ids=["no certificate", "no base64"])
def test_one_bad_anchor_costs_none_of_the_others_and_is_named(system: Path, bad: str) -> None:
    block = f"-----BEGIN CERTIFICATE-----\n{bad}\n-----END CERTIFICATE-----\n"
    (system / "anchors.pem").write_text(pem("ta") + block + pem("stranger"))
    (system / "hashed" / "01234567.0").write_text(block)
    store = system_trust_store()
    assert set(store.certificates) == {der("ta"), der("stranger")}
    assert store.left_out
    assert all("certificate 2" in line or "certificate 1" in line for line in store.left_out)
    assert store.left_out[0].startswith(f"{system / 'anchors.pem'}, certificate 2")


def test_roots_with_serial_number_0_are_taken_without_a_warning(system: Path) -> None:
    """Several public roots have it. `cryptography` warns, which is an error here, and will refuse them."""
    (system / "anchors.pem").write_text(pem("ta-serial-zero") + pem("ta"))
    (system / "hashed" / "01234567.0").write_text(pem("ta-serial-negative"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = system_trust_store()
    assert set(store.certificates) == {der("ta-serial-zero"), der("ta-serial-negative"), der("ta")}
    assert store.left_out == ()
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert verify([der("leaf-ta-serial-zero")], store, "mx1.provider.example", now=now).satisfied


def test_an_anchor_in_file_and_folder_counts_once(system: Path) -> None:
    (system / "anchors.pem").write_text(pem("ta"))
    (system / "hashed" / "01234567.0").write_text(pem("ta"))
    (system / "hashed" / "89abcdef.0").write_text(pem("stranger"))
    assert sorted(system_trust_store().certificates) == sorted([der("ta"), der("stranger")])


def test_there_may_be_several_folders(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (system / "more").mkdir()
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join([str(system / "hashed"), str(system / "more")]))
    (system / "hashed" / "01234567.0").write_text(pem("ta"))
    (system / "more" / "89abcdef.0").write_text(pem("stranger"))
    assert set(system_trust_store().certificates) == {der("ta"), der("stranger")}


def test_an_empty_name_of_a_folder_is_not_the_working_directory(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(system / "hashed")
    (system / "hashed" / "01234567.0").write_text(pem("ta"))
    for folders in ("", os.pathsep, str(system) + os.pathsep):
        monkeypatch.setenv("SSL_CERT_DIR", folders)
        assert system_trust_store() == TrustStore()
