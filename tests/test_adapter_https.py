"""Both HTTPS fetchers, against scripted policy hosts on loopback; the expectations are the clauses'."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hmac
import itertools
import socket
import ssl
import struct
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mailtlspolicy.adapters.https import (
    MAX_ADDRESSES,
    MAX_HEAD_OCTETS,
    HttpsFetcher,
    content_type,
    is_public_address,
    policy_context,
)
from mailtlspolicy.adapters.https_async import AsyncHttpsFetcher
from mailtlspolicy.dns.effects import Answer, FailureKind, Lookup, LookupFailure, RecordType
from mailtlspolicy.sts.effects import Fetch, Fetched, FetchFailure, FetchFailureKind
from mailtlspolicy.sts.fetching import fetch_whole, fetch_whole_async
from tests import webpki
from tests.smtp_server import SmtpServer
from tests.tls_server import PATIENCE, without_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mailtlspolicy.sts.fetching import AsyncResponse, Response
    from tests.authority import Issued

HOST = "mta-sts.client.example"
PATH = "/.well-known/mta-sts.txt"
POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mx.client.example\r\nmax_age: 604800\r\n"

# --- the policy host --------------------------------------------------------------------------------------------------


def head(*fields: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode("latin-1")


def reply(body: bytes = POLICY, *fields: str, status: str = "200 OK", media_type: str = "text/plain") -> bytes:
    return head(f"Content-Type: {media_type}", f"Content-Length: {len(body)}", *fields, status=status) + body


def chunk(octets: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(octets), octets)


class PolicyHost:
    """Accepts one connection after the other, does the handshake, hears a request and runs `script`."""

    def __init__(self) -> None:
        self.context: ssl.SSLContext | None = None
        self.script: Callable[[ssl.SSLSocket], None] = lambda _: None
        self.heard: list[bytes] = []
        self.sni: list[str | None] = []
        self.connections = 0
        self.outlasted = False  # whether a client has outlasted the patience of the host
        self.said = threading.Event()  # what there is to say before it waits
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._closing = False
        self._connection: socket.socket | None = None
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._serve, name="policy host")
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if self._closing:
                    return
                self._connection = connection.dup()  # a script may detach it
                self._idle.clear()
                self.connections += 1
                connection.settimeout(PATIENCE)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    self._handle(connection)
                except TimeoutError:
                    self.outlasted = True
                except OSError:
                    continue
                finally:
                    self._connection.close()
                    self._idle.set()

    def _handle(self, connection: socket.socket) -> None:
        if self.context is None:  # silent: until the client hangs up
            self._wait(connection)
            return
        with connection.dup() as raw:
            try:
                session = self.context.wrap_socket(connection, server_side=True)
            except OSError:
                while raw.recv(4096):  # to hang up at once could cost the client the alert
                    pass
                return
        with session:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                octets = session.recv(4096)
                if not octets:
                    return
                request += octets
            self.heard.append(request)
            self.script(session)

    def _wait(self, connection: socket.socket) -> None:
        self.said.set()
        while connection.recv(4096):
            pass

    def presents(self, file: Path) -> None:
        """Present a chain from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.sni_callback = self._note
        self.context = context

    def _note(self, _: object, name: str | None, __: object) -> None:
        self.sni.append(name)

    def says(self, *octets: bytes, seconds: float = 0.0, polite: bool = True) -> None:
        """Send pieces, some time between them, then end the TLS session, or cut the connection."""

        def script(session: ssl.SSLSocket) -> None:
            for piece in octets:
                session.sendall(piece)
                time.sleep(seconds)
            if polite:
                session.unwrap()

        self.script = script

    def repeats(self, first: bytes, more: bytes, seconds: float = 0.0) -> None:
        """Send something, and something more again and again until the client hangs up."""

        def script(session: ssl.SSLSocket) -> None:
            def send() -> None:
                session.sendall(more)
                time.sleep(seconds)

            session.sendall(first)
            without_end(send)

        self.script = script

    def waits(self, said: bytes = b"") -> None:
        """Send something, then wait until the client hangs up."""

        def script(session: ssl.SSLSocket) -> None:
            session.sendall(said)
            self._wait(session)

        self.script = script

    def settle(self) -> None:
        """Wait for the end of a connection: many a script does not end before the client hangs up."""
        assert self._idle.wait(2 * PATIENCE)

    def drop(self) -> None:
        """End the connection now, whatever the script does."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
        self.settle()

    def close(self) -> None:
        self._closing = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._listener.close()


class Pki:
    """Trust anchors, and the chains that a policy host may present."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = webpki.root()
        self.issuer = webpki.intermediate(self.root)
        self.anchors = webpki.pem(self.root).decode()

    def context(self) -> ssl.SSLContext:
        return policy_context(cadata=self.anchors)

    def chain(self, leaf: Issued, *others: Issued) -> Path:
        return webpki.write(self.folder / f"{leaf.certificate.serial_number}.pem", leaf, *others)

    def named(self, *names: str, **more: Any) -> Path:
        return self.chain(webpki.leaf(self.issuer, *names, **more), self.issuer)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("https"))


@pytest.fixture(scope="module")
def good_chain(pki: Pki) -> Path:
    return pki.named(HOST)


@pytest.fixture(scope="module")
def _host() -> Iterator[PolicyHost]:
    host = PolicyHost()
    yield host
    host.close()


@pytest.fixture
def host(_host: PolicyHost, good_chain: Path) -> Iterator[PolicyHost]:
    """The policy host, with a good certificate and a good policy."""
    _host.heard, _host.sni, _host.connections, _host.outlasted = [], [], 0, False
    _host.said.clear()
    _host.presents(good_chain)
    _host.says(reply())
    yield _host
    _host.settle()


# --- the fetchers -----------------------------------------------------------------------------------------------------


class Names:
    """Answers for the policy host; what is not there is NODATA."""

    def __init__(
        self, a: tuple[str, ...] | FailureKind = (), aaaa: tuple[str, ...] | FailureKind = (), seconds: float = 0.0
    ) -> None:
        self.data = {RecordType.A: a, RecordType.AAAA: aaaa}
        self.seconds = seconds
        self.asked: list[Lookup] = []

    def answer(self, question: Lookup) -> Answer | LookupFailure:
        self.asked.append(question)
        data = self.data[question.rdtype]
        if isinstance(data, FailureKind):
            return LookupFailure(question, data, "as told")
        return Answer(question, secure=False, records=data, ttl=60)

    def lookup(self, question: Lookup) -> Answer | LookupFailure:
        time.sleep(self.seconds)
        return self.answer(question)


class AsyncNames:
    def __init__(self, names: Names) -> None:
        self.names = names

    async def lookup(self, question: Lookup) -> Answer | LookupFailure:
        await asyncio.sleep(self.names.seconds)
        return self.names.answer(question)


LOOPBACK = Names(("127.0.0.1",))


class Client:
    """Fetches with the one fetcher or the other."""

    def __init__(self, kind: str, context: ssl.SSLContext, port: int) -> None:
        self.kind = kind
        self.given: dict[str, Any] = {"context": context, "port": port, "allow": lambda _: True}

    def __call__(self, names: Names = LOOPBACK, *, seconds: int = 30, octets: int = 65_536, **given: Any) -> Any:
        request = Fetch(given.pop("policy_host", HOST), max_octets=octets, max_seconds=seconds)
        given = self.given | given
        if self.kind == "sync":
            return fetch_whole(HttpsFetcher(names, **given), request)

        async def fetch() -> Fetched | FetchFailure:
            return await fetch_whole_async(AsyncHttpsFetcher(AsyncNames(names), **given), request)

        return asyncio.run(fetch())

    def bare(self, request: Fetch, consume: int | None = None) -> list[Any]:
        """The fetch without the limits that are kept outside: the head or a failure, and so many pieces, or all."""
        if self.kind == "sync":
            return _consume(HttpsFetcher(LOOPBACK, **self.given).fetch(request), consume)

        async def fetch() -> list[Any]:
            response = await AsyncHttpsFetcher(AsyncNames(LOOPBACK), **self.given).fetch(request)
            return await _consume_async(response, consume)

        return asyncio.run(fetch())


def _consume(response: Response | FetchFailure, count: int | None) -> list[Any]:
    if isinstance(response, FetchFailure):
        return [response]
    seen: list[Any] = [response.status]
    with contextlib.closing(response.body):
        while count is None or len(seen) <= count:
            piece = next(response.body, None)
            if piece is None:
                break
            seen.append(piece)
    return seen


async def _consume_async(response: AsyncResponse | FetchFailure, count: int | None) -> list[Any]:
    if isinstance(response, FetchFailure):
        return [response]
    seen: list[Any] = [response.status]
    try:
        while count is None or len(seen) <= count:
            piece = await anext(response.body, None)
            if piece is None:
                break
            seen.append(piece)
    finally:
        await response.body.aclose()
    return seen


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, pki: Pki, host: PolicyHost) -> Client:
    return Client(request.param, pki.context(), host.port)


def failed(result: object) -> FetchFailureKind | None:
    return result.kind if isinstance(result, FetchFailure) else None


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_policy_is_fetched(client: Client, host: PolicyHost) -> None:
    assert client() == Fetched(200, "text/plain", POLICY)
    assert host.sni == [HOST]


def test_the_request_is_unconditional_and_identifies_nothing(client: Client, host: PolicyHost) -> None:
    host.says(reply(POLICY, 'ETag: "1"', "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT", "Set-Cookie: a=b"))
    client()
    client()
    first, *fields = host.heard[0].decode().removesuffix("\r\n\r\n").split("\r\n")
    assert first == f"GET {PATH} HTTP/1.1"
    sent = dict(field.split(": ", 1) for field in fields)
    agent = sent.pop("User-Agent")
    assert agent.startswith("mailtlspolicy")
    assert sent == {"Host": HOST, "Accept": "text/plain", "Accept-Encoding": "identity", "Connection": "close"}
    assert host.heard[0] == host.heard[1]  # RFC 8461 section 3.3: no HTTP caching


def test_a_context_that_takes_servers_without_a_certificate_is_refused() -> None:
    context = policy_context()
    context.set_ciphers("ALL:aNULL:@SECLEVEL=0")
    with pytest.raises(ValueError, match="without a certificate"):
        HttpsFetcher(LOOPBACK, context=context)


def test_a_proxy_of_the_environment_is_not_used(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert client() == Fetched(200, "text/plain", POLICY)


@pytest.mark.parametrize("bad", ["client.example\r\nX: y", "192.0.2.1", "", "a..example"])
def test_a_policy_host_that_is_no_name_is_a_mistake_of_the_caller(client: Client, bad: str) -> None:
    with pytest.raises(ValueError, match=r"name|label|address"):
        client(policy_host=bad)


# --- certificates -----------------------------------------------------------------------------------------------------

TRUST = FetchFailureKind.CERTIFICATE_NOT_TRUSTED
NAME = FetchFailureKind.CERTIFICATE_HOST_MISMATCH
DATE = FetchFailureKind.CERTIFICATE_EXPIRED

CHAINS: dict[str, tuple[Callable[[Pki], Path], FetchFailureKind | None]] = {
    # RFC8461-3.3-g
    "wildcard": (lambda pki: pki.named("*.client.example"), None),
    "several names": (lambda pki: pki.named("www.client.example", HOST), None),
    "expired": (lambda pki: pki.named(HOST, days=(-30, -1)), DATE),
    "not yet valid": (lambda pki: pki.named(HOST, days=(1, 30)), DATE),
    "of another name": (lambda pki: pki.named("client.example"), NAME),
    "wildcard of two labels": (lambda pki: pki.named("*.example"), NAME),
    "wildcard within a label": (lambda pki: pki.named("mta-*.client.example"), NAME),
    "common name alone": (lambda pki: pki.named(common_name=HOST), NAME),
    "common name beside another": (lambda pki: pki.named("client.example", common_name=HOST), NAME),
    "self-signed": (lambda pki: pki.chain(webpki.leaf(None, HOST)), TRUST),
    "without its intermediate": (lambda pki: pki.chain(webpki.leaf(pki.issuer, HOST)), TRUST),
    "of an unknown root": (lambda pki: pki.chain(webpki.leaf(webpki.root("Unknown"), HOST)), TRUST),
}


@pytest.mark.parametrize("case", CHAINS)
def test_the_certificate_has_to_be_trusted_current_and_of_the_policy_host(
    client: Client, host: PolicyHost, pki: Pki, case: str
) -> None:
    chain, kind = CHAINS[case]
    host.presents(chain(pki))
    assert failed(client()) == kind
    assert bool(host.heard) is (kind is None)
    assert kind is None or kind.is_webpki


def test_the_certificate_is_not_asked_for_the_address(client: Client, host: PolicyHost, pki: Pki) -> None:
    """The asynchronous fetcher dials a URL that holds the address: what counts is the policy host all the same."""
    host.presents(pki.named("127.0.0.1", "localhost"))
    assert failed(client()) == NAME


def test_a_bad_certificate_ends_the_fetch(client: Client, host: PolicyHost, pki: Pki) -> None:
    host.presents(pki.named("client.example"))
    assert failed(client(Names(("127.0.0.1", "127.0.0.1")))) == NAME
    assert host.connections == 1


def test_without_trust_anchors_nothing_is_fetched(client: Client) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    assert failed(client(context=context)) == TRUST


def test_by_default_the_trust_anchors_are_those_of_the_system(client: Client) -> None:
    assert failed(client(context=None)) == TRUST


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_a_server_of_tls_1_1_is_refused(client: Client, host: PolicyHost) -> None:
    assert host.context is not None
    host.context.set_ciphers("DEFAULT:@SECLEVEL=0")
    host.context.minimum_version = ssl.TLSVersion.TLSv1_1
    host.context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert failed(client()) == FetchFailureKind.TLS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(client: Client, host: PolicyHost, version: ssl.TLSVersion) -> None:
    assert host.context is not None
    host.context.minimum_version = host.context.maximum_version = version
    assert client() == Fetched(200, "text/plain", POLICY)


def test_a_server_that_hangs_up_during_the_handshake_has_no_tls(client: Client, host: PolicyHost) -> None:
    assert host.context is not None

    def hang_up(session: ssl.SSLObject | ssl.SSLSocket, _: object, __: object) -> None:
        assert isinstance(session, ssl.SSLSocket)
        session.shutdown(socket.SHUT_RDWR)

    host.context.sni_callback = hang_up
    assert failed(client()) == FetchFailureKind.TLS


def test_a_server_that_wants_a_certificate_of_ours_has_no_tls(client: Client, host: PolicyHost, pki: Pki) -> None:
    """With TLS 1.3 the alert comes after the handshake."""
    assert host.context is not None
    host.context.load_verify_locations(cadata=pki.anchors)
    host.context.verify_mode = ssl.CERT_REQUIRED
    assert failed(client()) == FetchFailureKind.TLS


def loose(attribute: str, value: Any) -> ssl.SSLContext:
    context = policy_context()
    context.check_hostname = False
    if attribute != "verify_mode":
        context.check_hostname = attribute != "check_hostname"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        setattr(context, attribute, value)
    return context


@pytest.mark.parametrize("kind", [HttpsFetcher, AsyncHttpsFetcher])
@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("verify_mode", ssl.CERT_NONE),
        ("verify_mode", ssl.CERT_OPTIONAL),
        ("check_hostname", False),
        ("hostname_checks_common_name", True),
        ("minimum_version", ssl.TLSVersion.TLSv1_1),
        ("minimum_version", ssl.TLSVersion.MINIMUM_SUPPORTED),
        # which OpenSSL has since 3.0
        *([("options", ssl.OP_ALL | ssl.OP_IGNORE_UNEXPECTED_EOF)] if hasattr(ssl, "OP_IGNORE_UNEXPECTED_EOF") else []),
    ],
)
def test_a_context_that_verifies_less_than_it_has_to_is_refused(kind: Any, attribute: str, value: Any) -> None:
    with pytest.raises(ValueError, match="the context"):
        kind(LOOPBACK, context=loose(attribute, value))


@pytest.mark.parametrize("kind", [HttpsFetcher, AsyncHttpsFetcher])
@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(kind: Any, port: int) -> None:
    with pytest.raises(ValueError, match="a port is"):
        kind(LOOPBACK, context=policy_context(), port=port)


# --- responses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_no_redirect_is_followed(client: Client, host: PolicyHost, status: str) -> None:
    other = PolicyHost()
    try:
        host.says(reply(b"", f"Location: https://127.0.0.1:{other.port}{PATH}", status=status))
        assert client() == Fetched(int(status[:3]), "text/plain", b"")
        host.says(reply(b"", f"Location: https://{HOST}:{host.port}{PATH}", status=status))
        assert client() == Fetched(int(status[:3]), "text/plain", b"")
        host.settle()
        assert (other.connections, len(host.heard)) == (0, 2)
    finally:
        other.close()


@pytest.mark.parametrize("status", ["206 Partial", "404 Not Found", "429 Slow down", "500 Error", "503 Later", "299 "])
def test_every_status_is_handed_over(client: Client, host: PolicyHost, status: str) -> None:
    host.says(reply(b"body", status=status))
    assert client() == Fetched(int(status[:3]), "text/plain", b"body")


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_response_that_can_have_no_body_has_none(client: Client, host: PolicyHost, status: str) -> None:
    host.says(head("Content-Length: 5", status=status), polite=False)
    assert client() == Fetched(int(status[:3]), None, b"")


def test_interim_responses_are_skipped(client: Client, host: PolicyHost) -> None:
    host.says(head(status="100 Continue") + head("Link: </x>", status="103 Early Hints"), reply())
    assert client() == Fetched(200, "text/plain", POLICY)


@pytest.mark.parametrize(
    ("fields", "content_type"),
    [
        ([], None),
        (["Content-Type:"], None),
        (["content-TYPE: text/plain;charset=UTF-8 "], "text/plain;charset=UTF-8"),
        (["Content-Type: text/plain;", " charset=utf-8"], "text/plain; charset=utf-8"),
        (["Content-Type: text/plain", "Content-Type: text/plain"], "text/plain, text/plain"),
        (["Content-Type: text/html", "Content-Type: text/plain"], "text/html, text/plain"),
        (["Content-Type: multipart/mixed"], "multipart/mixed"),
        (["Content-Type: message/rfc822"], "message/rfc822"),
        (["Content-Type: text/plain\xa0"], "text/plain\xa0"),
    ],
)
def test_the_content_type_is_handed_over_as_it_is(
    client: Client, host: PolicyHost, fields: list[str], content_type: str | None
) -> None:
    host.says(head(*fields, f"Content-Length: {len(POLICY)}") + POLICY)
    assert client() == Fetched(200, content_type, POLICY)


def test_a_compressed_body_is_not_touched(client: Client, host: PolicyHost) -> None:
    body = gzip.compress(b"x" * 1_000_000)
    host.says(reply(body, "Content-Encoding: gzip"))
    assert client() == Fetched(200, "text/plain", body)


def test_a_chunked_body_is_put_together(client: Client, host: PolicyHost) -> None:
    pieces = [b"5;name=value\r\nversi\r\n", chunk(POLICY[5:]), b"0\r\nTrailer: x\r\n\r\n"]
    host.says(head("Content-Type: text/plain", "Transfer-Encoding: Chunked"), *pieces, seconds=0.01)
    assert client() == Fetched(200, "text/plain", POLICY)


def test_a_body_may_end_with_the_tls_session(client: Client, host: PolicyHost) -> None:
    host.says(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + POLICY)
    assert client() == Fetched(200, "text/plain", POLICY)


def test_a_body_does_not_end_with_the_connection(client: Client, host: PolicyHost) -> None:
    """Who cuts it could leave out MX patterns, and the rest would still be a policy."""
    host.says(head("Content-Type: text/plain") + POLICY, polite=False)
    assert failed(client()) == FetchFailureKind.HTTP


@pytest.mark.parametrize("octets", [0, 1, 65_535, 65_536, 65_537, 100_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_a_failure(client: Client, host: PolicyHost, octets: int, *, chunked: bool) -> None:
    body = b"x" * octets
    if chunked:
        pieces = b"".join(chunk(body[start : start + 7000]) for start in range(0, octets, 7000))
        host.says(head("Transfer-Encoding: chunked") + pieces + b"0\r\n\r\n")
    else:
        host.says(reply(body))
    result = client()
    if octets > 65_536:
        assert failed(result) == FetchFailureKind.TOO_LONG
    else:
        assert isinstance(result, Fetched)
        assert result.body == body


@pytest.mark.parametrize("fields", [["Transfer-Encoding: chunked"], ["Content-Length: 1000000000"], []])
def test_an_endless_body_is_cut_off(client: Client, host: PolicyHost, fields: list[str]) -> None:
    host.repeats(head(*fields), chunk(b"x" * 10_000) if "chunked" in str(fields) else b"x" * 10_000)
    assert failed(client()) == FetchFailureKind.TOO_LONG


BROKEN = {
    "nothing": b"",
    "no HTTP": b"220 mx.client.example ESMTP\r\n",
    "no status": b"HTTP/1.1\r\n\r\n",
    "status of letters": b"HTTP/1.1 OK\r\n\r\n",
    "cut head": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n",
    "line that is no field": head("Content-Type: text/plain", "garbage", "Content-Length: 4") + b"body",
    "field without a name": head("Content-Type: text/plain", ": x", "Content-Length: 4") + b"body",
    "short body": head("Content-Length: 1000") + POLICY,
    "short chunk": head("Transfer-Encoding: chunked") + b"ff\r\nbody",
    "no last chunk": head("Transfer-Encoding: chunked") + chunk(POLICY),
    "chunk of garbage": head("Transfer-Encoding: chunked") + chunk(POLICY) + b"garbage\r\n",
    "chunk without a size": head("Transfer-Encoding: chunked") + b"\r\n\r\n",
    "coding other than chunked": head("Transfer-Encoding: gzip, chunked") + chunk(POLICY) + b"0\r\n\r\n",
    "negative length": head("Content-Length: -1") + POLICY,
    "length of letters": head("Content-Length: many") + POLICY,
    "two lengths": head("Content-Length: 4", "Content-Length: 5") + b"body!",
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_response_is_a_failure(client: Client, host: PolicyHost, case: str) -> None:
    host.says(BROKEN[case])
    result = client()
    assert failed(result) == FetchFailureKind.HTTP
    assert result.detail


@pytest.mark.parametrize("more", [b"X: y\r\n" * 1000, b"x" * 1000, b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n"])
def test_an_endless_head_is_a_failure(client: Client, host: PolicyHost, more: bytes) -> None:
    host.repeats(b"HTTP/1.1 200 OK\r\n" if b"HTTP" not in more else b"", more)
    if client.kind == "async" and b"HTTP" in more:  # httpx counts no interim responses; they are not kept, though
        assert failed(client(seconds=1)) == FetchFailureKind.TIMEOUT
    else:
        assert failed(client()) == FetchFailureKind.HTTP


def test_a_long_head_is_read(client: Client, host: PolicyHost) -> None:
    fields = [f"X-{number}: {'x' * 1000}" for number in range(MAX_HEAD_OCTETS // 1100)]
    host.says(reply(POLICY, *fields))
    assert client() == Fetched(200, "text/plain", POLICY)


# --- time -------------------------------------------------------------------------------------------------------------


DRIPS = {
    "head": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "body": (head("Content-Length: 1000"), b"x"),
    "chunks": (head("Transfer-Encoding: chunked"), b"1\r\nx\r\n"),
    "body without a length": (head(), b"x"),
}


@pytest.mark.parametrize("case", DRIPS)
def test_a_dripping_response_ends_with_the_time(client: Client, host: PolicyHost, case: str) -> None:
    host.repeats(*DRIPS[case], seconds=0.2)
    start = time.monotonic()
    parts = client.bare(Fetch(HOST, max_octets=65_536, max_seconds=1))  # by its own clock, not by `fetch_whole`'s
    assert failed(parts[-1]) == FetchFailureKind.TIMEOUT
    assert time.monotonic() - start > 0.9
    assert not host.outlasted


def test_a_server_that_says_nothing_ends_with_the_time(client: Client, host: PolicyHost) -> None:
    host.waits()
    assert failed(client(seconds=1)) == FetchFailureKind.TIMEOUT
    assert not host.outlasted


def test_a_server_without_a_handshake_ends_with_the_time(client: Client, host: PolicyHost) -> None:
    host.context = None
    assert failed(client(seconds=1)) == FetchFailureKind.TIMEOUT
    assert not host.outlasted


def test_the_lookups_count(client: Client, host: PolicyHost) -> None:
    names = Names(("127.0.0.1",), seconds=0.6 if client.kind == "sync" else 1.1)  # one after the other, or both at once
    assert failed(client(names, seconds=1)) == FetchFailureKind.TIMEOUT
    assert host.connections == 0


# --- addresses --------------------------------------------------------------------------------------------------------


def test_both_families_are_asked_for(client: Client) -> None:
    names = Names(("127.0.0.1",))
    client(names)
    assert set(names.asked) == {Lookup(HOST, RecordType.A), Lookup(HOST, RecordType.AAAA)}


def test_the_name_is_in_canonical_form(client: Client, host: PolicyHost) -> None:
    names = Names(("127.0.0.1",))
    assert client(names, policy_host="MTA-STS.Client.Example") == Fetched(200, "text/plain", POLICY)
    assert {question.name for question in names.asked} == {HOST}
    assert host.sni == [HOST]


@pytest.mark.parametrize(
    ("a", "aaaa", "detail"),
    [
        ((), (), f"{HOST} has no address"),
        (FailureKind.SERVFAIL, (), "A: servfail as told"),
        (FailureKind.BOGUS, FailureKind.TIMEOUT, "A: bogus as told; AAAA: timeout as told"),
    ],
)
def test_without_an_address_there_is_a_dns_error(
    client: Client, host: PolicyHost, a: Any, aaaa: Any, detail: str
) -> None:
    assert client(Names(a, aaaa)) == FetchFailure(FetchFailureKind.DNS, detail)
    assert host.connections == 0


def test_one_family_that_fails_costs_nothing(client: Client) -> None:
    assert client(Names(("127.0.0.1",), FailureKind.SERVFAIL)) == Fetched(200, "text/plain", POLICY)


@pytest.mark.parametrize(
    "names", [Names(("127.0.0.1",)), Names((), ("::1",)), Names(("10.0.0.1",), ("::ffff:127.0.0.1", "fe80::1"))]
)
def test_by_default_no_private_address_is_connected_to(client: Client, host: PolicyHost, names: Names) -> None:
    del client.given["allow"]
    assert failed(client(names)) == FetchFailureKind.ADDRESS
    assert host.connections == 0


def test_the_predicate_sees_what_is_connected_to(client: Client, host: PolicyHost) -> None:
    """A name with a private address beside another: the private one is never connected to."""
    shown = []

    def allow(address: str) -> bool:
        shown.append(address)
        return address != "127.0.0.1"

    names = Names(("127.0.0.1", "127.0.0.2"), ("0:0::1",))
    assert failed(client(names, allow=allow)) == FetchFailureKind.CONNECT  # nobody listens at 127.0.0.2 and ::1
    assert shown == ["127.0.0.1", "::1", "127.0.0.2"]
    assert host.connections == 0


def test_the_name_is_looked_up_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither fetcher asks the system for the name: what it would get may be another address by then."""
    real = socket.getaddrinfo

    def guarded(host: Any, *arguments: Any, **more: Any) -> Any:
        assert host in {"127.0.0.1", b"127.0.0.1"}
        return real(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", guarded)
    assert client() == Fetched(200, "text/plain", POLICY)


def test_the_next_address_is_tried_where_one_refuses(client: Client, host: PolicyHost) -> None:
    assert client(Names(("127.0.0.2", "127.0.0.1"), ("::1",))) == Fetched(200, "text/plain", POLICY)
    assert host.connections == 1


def test_the_next_address_is_tried_where_one_says_nothing(client: Client, host: PolicyHost) -> None:
    with socket.create_server(("127.0.0.2", host.port)):
        start = time.monotonic()
        assert client(Names(("127.0.0.2", "127.0.0.1")), seconds=6) == Fetched(200, "text/plain", POLICY)
        assert time.monotonic() - start > 2.9


def test_only_some_addresses_are_tried(client: Client, host: PolicyHost) -> None:
    names = Names((*(f"127.0.0.{number}" for number in range(2, 2 + MAX_ADDRESSES)), "127.0.0.1"))
    result = client(names)
    assert failed(result) == FetchFailureKind.CONNECT
    assert result.detail.startswith(f"127.0.0.{1 + MAX_ADDRESSES}: ")
    assert host.connections == 0


def test_both_families_are_tried(client: Client, host: PolicyHost) -> None:
    many = tuple(f"127.0.0.{number}" for number in range(2, 20))
    with socket.create_server(("::1", host.port), family=socket.AF_INET6) as listener:
        assert failed(client(Names(many, ("::1",)), seconds=2)) is not None
        listener.setblocking(False)
        listener.accept()[0].close()


PUBLIC = "9.9.9.9 1.1.1.1 193.0.6.139 223.255.255.255 2620:fe::9 2001:4860:4860::8888 2a00::1 64:ff9b::909:909"
NOT_PUBLIC = (
    "0.0.0.0 0.1.2.3 10.1.2.3 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.255 169.254.169.254 172.16.0.1 "
    "172.31.255.255 192.0.0.1 192.0.0.9 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 "
    "224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 ::9.9.9.9 ::ffff:127.0.0.1 ::ffff:10.0.0.1 "
    "::ffff:9.9.9.9 64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b::a9fe:a9fe 64:ff9b::e000:1 64:ff9b:1::909:909 100::1 "
    "2001::1 2001:2::1 2001:10::1 2001:db8::1 2002:7f00:1::1 2002:909:909::1 3fff::1 4000::1 5f00::1 fc00::1 fd12::1 "
    "fe80::1 fec0::1 ff02::1 ff0e::1"
)


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public_addresses(address: str) -> None:
    assert is_public_address(address)


@pytest.mark.parametrize("address", NOT_PUBLIC.split())
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public_address(address)


@pytest.mark.parametrize("text", ["", "client.example", "127.1", "0x7f000001"])
def test_what_is_no_address_is_no_question(text: str) -> None:
    with pytest.raises(ValueError, match="IPv4 or IPv6"):
        is_public_address(text)


# --- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [0, 1])
def test_closing_the_body_closes_the_connection(client: Client, host: PolicyHost, pieces: int) -> None:
    host.repeats(head("Content-Length: 1000000000"), b"x" * 100, seconds=0.01)
    seen = client.bare(Fetch(HOST, max_octets=65_536, max_seconds=60), pieces)
    assert (seen[0], len(seen)) == (200, 1 + pieces)
    host.settle()


@pytest.mark.parametrize("said", [None, b"", b"HTTP/1.1 200 OK\r\n", head("Content-Length: 1000000000") + b"x"])
def test_cancelling_a_fetch_closes_the_connection(pki: Pki, host: PolicyHost, said: bytes | None) -> None:
    if said is None:
        host.context = None  # no handshake
    else:
        host.waits(said)
    fetcher = AsyncHttpsFetcher(AsyncNames(LOOPBACK), context=pki.context(), allow=lambda _: True, port=host.port)

    async def cancel() -> None:
        task = asyncio.ensure_future(fetch_whole_async(fetcher, Fetch(HOST, max_octets=65_536, max_seconds=60)))
        await asyncio.to_thread(host.said.wait, PATIENCE)
        for _ in range(20):  # turns, in which the fetch comes to where it has to wait
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(host.settle)
        assert not host.outlasted

    asyncio.run(cancel())


def test_many_fetches_at_once_do_not_disturb_each_other(pki: Pki, host: PolicyHost) -> None:
    fetcher = AsyncHttpsFetcher(AsyncNames(LOOPBACK), context=pki.context(), allow=lambda _: True, port=host.port)

    async def fetch() -> list[Fetched | FetchFailure]:
        request = Fetch(HOST, max_octets=65_536, max_seconds=60)
        return await asyncio.gather(*(fetch_whole_async(fetcher, request) for _ in range(10)))

    assert asyncio.run(fetch()) == [Fetched(200, "text/plain", POLICY)] * 10


def test_what_an_injected_part_raises_goes_through(client: Client) -> None:
    def broken(_: str) -> bool:
        raise LookupError("of the caller")

    with pytest.raises(LookupError, match="of the caller"):
        client(allow=broken)


# --- work that a peer can make ----------------------------------------------------------------------------------------


def _expanded(secret: bytes, label: bytes, length: int, digest: str) -> bytes:
    """HKDF-Expand-Label of RFC 8446 section 7.1, one block of it."""
    info = length.to_bytes(2, "big") + bytes([len(label) + 6]) + b"tls13 " + label + b"\0\1"
    return hmac.new(secret, info, digest).digest()[:length]


def flood_of_tickets(session: ssl.SSLSocket, keys: Path) -> None:
    """Send NewSessionTicket messages by the session's keys, as no library does, until the client hangs up."""
    cipher = session.cipher()
    assert cipher is not None
    digest, length = {"TLS_AES_256_GCM_SHA384": ("sha384", 32), "TLS_AES_128_GCM_SHA256": ("sha256", 16)}[cipher[0]]
    (secret,) = (
        bytes.fromhex(line.split()[2])
        for line in keys.read_text("ascii").splitlines()
        if line.startswith("SERVER_TRAFFIC_SECRET_0")
    )
    seal = AESGCM(_expanded(secret, b"key", length, digest))
    nonce = int.from_bytes(_expanded(secret, b"iv", 12, digest), "big")
    ticket = b"\x04\x00\x00\x0e" + struct.pack("!II", 7200, 0) + b"\x00" + b"\x00\x01x" + b"\x00\x00"
    plain = ticket * (16_000 // len(ticket)) + b"\x16"
    head = b"\x17\x03\x03" + struct.pack("!H", len(plain) + 16)
    numbers = itertools.count()
    with socket.socket(fileno=session.detach()) as raw:
        raw.settimeout(PATIENCE)
        without_end(lambda: raw.sendall(head + seal.encrypt((nonce ^ next(numbers)).to_bytes(12, "big"), plain, head)))


def test_records_without_content_do_not_outlast_the_time(client: Client, host: PolicyHost, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    assert host.context is not None
    host.context.num_tickets = 0
    host.context.keylog_filename = str(keys)
    host.script = lambda session: flood_of_tickets(session, keys)
    assert failed(client(seconds=1)) == FetchFailureKind.TIMEOUT
    assert not host.outlasted
    host.drop()  # its system may not notice that what was cut has been closed


def test_messages_that_openssl_skips_do_not_outlast_the_time_of_the_handshake() -> None:
    """HelloRequest, which a client skips, without end; it takes no certificate (RFC 5246 section 7.4.1.1)."""
    server = SmtpServer()

    def script(connection: socket.socket) -> None:
        connection.recv(4096)
        without_end(lambda: connection.sendall(b"\x16\x03\x03\x40\x00" + bytes(0x4000)))

    server.script = script
    try:
        fetcher = HttpsFetcher(LOOPBACK, allow=lambda _: True, port=server.port)
        assert failed(fetch_whole(fetcher, Fetch(HOST, max_octets=65_536, max_seconds=1))) == FetchFailureKind.TIMEOUT
        assert not server.outlasted
        server.drop()
    finally:
        server.close()


@pytest.mark.own_process
def test_a_long_run_of_blanks_in_a_field_costs_nothing(client: Client, host: PolicyHost) -> None:
    start = time.process_time()
    host.says(reply(POLICY, media_type="text/plain" + " " * 60_000 + "x"))
    client()
    assert time.process_time() - start < 5


@pytest.mark.parametrize("value", ["a\r\n b", "a \n\tb", " a\r\n   b "])
def test_a_folded_content_type_is_unfolded(value: str) -> None:
    assert content_type([value]) == "a b"


def test_certificates_without_key_identifiers_are_taken(client: Client, host: PolicyHost, pki: Pki) -> None:
    host.presents(pki.chain(webpki.leaf(pki.issuer, HOST, key_identifiers=False), pki.issuer))
    host.says(reply())
    assert isinstance(client(), Fetched)


def test_an_anchor_need_not_be_a_root(pki: Pki, host: PolicyHost, client: Client) -> None:
    host.says(reply())
    assert isinstance(client(context=policy_context(cadata=webpki.pem(pki.issuer).decode())), Fetched)
