"""An HTTPS fetcher on the standard library: one GET for the policy of a policy host (RFC 8461 section 3.3).

- The host's addresses come from the injected resolver. Each is shown to a predicate and then dialled as it stands, so a
  name that resolves to something else a moment later changes nothing. The default predicate refuses what is not public:
  the name is chosen by whoever owns the recipient domain, who may not reach inside this network.
- Addresses are tried in turn, each for an equal share of the time left, until one answers. From then on that server's
  word counts: a bad certificate ends the fetch, since to look for an address with a better one would let a broken host
  pass unnoticed, and every address of a policy host has to present a valid one.
- TLS 1.2 or later, verified by OpenSSL. The name has to match a DNS-ID; the Common Name is never consulted.
- HTTP/1.1 without proxy, redirect, cookie, credentials or cache. `Accept-Encoding: identity`, and what comes is not
  decoded: no body is larger than it looks.
- One deadline for all of it, measured before each read; then the connection is cut. The lookups count: a resolver that
  blocks can not be interrupted, so its own time limit bounds them, and what they took is no longer there for the rest.
- A body without a length ends with the close of the TLS session, not of the connection: anybody on the path could
  otherwise cut a policy short.
"""

from __future__ import annotations

import contextlib
import email.errors
import functools
import http.client
import importlib.metadata
import io
import ipaddress
import itertools
import re
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from urllib.parse import urlsplit

from attrs import field, frozen

from mailtlspolicy.adapters._cut import cut_after, shake_hands
from mailtlspolicy.adapters._own import is_own
from mailtlspolicy.adapters._text import printable, reason
from mailtlspolicy.config import Config
from mailtlspolicy.dns.effects import Answer, Lookup, LookupFailure, RecordType
from mailtlspolicy.dns.lookups import lookup
from mailtlspolicy.drivers import drive
from mailtlspolicy.effects import together
from mailtlspolicy.names import canonical, canonical_address
from mailtlspolicy.sts.effects import FetchFailure, FetchFailureKind
from mailtlspolicy.sts.fetching import Response, timed_out

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from mailtlspolicy.effects import Effect, Program
    from mailtlspolicy.engine import Resolver
    from mailtlspolicy.sts.effects import Fetch

MAX_ADDRESSES = 4  # dialled in one fetch; policy hosts met in the field have one or two of each family
MAX_HEAD_OCTETS = 65_536  # of a response, interim ones included; web servers send some hundred, and allow 8 to 64 KiB
PIECE_OCTETS = 16_384  # handed over at once: the content of one TLS record (RFC 8446 section 5.1)

# Not for the public though `ipaddress` says so, or said so in Python 3.10 to 3.12: IETF protocol assignments (RFC 6890,
# with Teredo), 6to4 and its relays (withdrawn by RFC 7526), documentation (RFC 9637).
_NOT_PUBLIC = tuple(
    map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20"))
)
_IPV6_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that IANA has given out (RFC 4291 section 2.4)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # the well-known prefix, an IPv4 address behind it (RFC 6052)

# X509_V_ERR_* of OpenSSL: not yet valid, has expired, and the two for a date that can not be read
_DATES = {9, 10, 13, 14}
_HOSTNAME_MISMATCH = 62

NO_BODY = {101, 204, 304}  # status codes (RFC 9110 section 6.4.1)
_HEAD_DEFECTS = (
    email.errors.FirstHeaderLineIsContinuationDefect,
    email.errors.InvalidHeaderDefect,
    email.errors.MissingHeaderBodySeparatorDefect,
)
_FOLD = re.compile(r"\r?\n")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CONFIG = Config()

_Parts: TypeAlias = "Generator[_Head | bytes | FetchFailure, None, None]"


def is_public_address(address: str) -> bool:
    """Whether an address is globally reachable unicast, by IANA's registries (RFC 6890).

    False for loopback, private, shared, link-local, documentation, multicast, reserved and unspecified addresses, for
    IPv6 outside 2000::/3, for IPv4 addresses mapped into IPv6 or reached by 6to4 or Teredo, and for a NAT64 address
    whose IPv4 address is none.

    >>> [is_public_address(text) for text in ("9.9.9.9", "10.0.0.1", "::ffff:9.9.9.9", "64:ff9b::7f00:1")]
    [True, False, False, False]

    Raises:
        ValueError: the text is no address.
    """
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed in _NAT64:
            return is_public_address(str(ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF)))
        if parsed not in _IPV6_UNICAST:
            return False
    return parsed.is_global and not parsed.is_multicast and not any(parsed in network for network in _NOT_PUBLIC)


def policy_context(
    *, cafile: str | None = None, capath: str | None = None, cadata: str | bytes | None = None
) -> ssl.SSLContext:
    """Make a context fit for policy hosts: TLS 1.2 or later, trust anchors, DNS-IDs alone (RFC 8461 section 3.3).

    Any certificate among the anchors is one, self-signed or not, and certificates need no more than RFC 5280 asks for,
    in all versions of Python.

    Args:
        cafile: a file of trust anchors, as in `ssl.create_default_context`. Without any, those of the system.
        capath: a folder of them.
        cadata: they themselves.
    """
    context = ssl.create_default_context(cafile=cafile, capath=capath, cadata=cadata)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as in Python 3.13, where this is the default
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as in older ones: private authorities leave out key identifiers
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    return context


def _checked_context(context: ssl.SSLContext | None) -> ssl.SSLContext:
    if context is None:
        return policy_context()
    if any(cipher["auth"] == "auth-null" for cipher in context.get_ciphers()):
        raise ValueError("the context allows servers without a certificate")
    if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        raise ValueError("the context does not verify certificates and names")
    if context.hostname_checks_common_name:
        raise ValueError("the context consults the Common Name: see policy_context()")
    if context.minimum_version not in {ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3}:
        raise ValueError("the context allows what is older than TLS 1.2")
    if context.options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0):
        raise ValueError("the context takes a cut connection for the end of a TLS session")
    return context


def _checked_port(_: object, __: object, port: int) -> None:
    if not 1 <= port <= 65535:
        raise ValueError(f"a port is 1 to 65535, not {port}")


@frozen(kw_only=True)
class PolicyFetcher:
    """What both fetchers share.

    Attributes:
        context: verifies the policy host; by default `policy_context()`, with the trust anchors of the system.
        allow: says of an address in canonical form whether it may be connected to.
        port: the TCP port; 443 but in tests.

    Raises:
        ValueError: the context does not verify what RFC 8461 section 3.3 asks for, or the port is none.
    """

    context: ssl.SSLContext = field(default=None, converter=_checked_context, repr=False)
    allow: Callable[[str], bool] = is_public_address
    port: int = field(default=443, validator=_checked_port)


@frozen
class HttpsFetcher(PolicyFetcher):
    """A fetcher that blocks. Its values are immutable, so threads can share one as far as they may the resolver.

    Attributes:
        resolver: asks the DNS for the addresses of the policy host; the one positional argument.
    """

    resolver: Resolver

    def fetch(self, request: Fetch) -> Response | FetchFailure:
        """Ask the policy host; whatever goes wrong in the world is a `FetchFailure`.

        Raises:
            ValueError: the policy host of the request is no domain name.
        """
        parts = self._exchange(request, canonical(request.policy_host))
        head = next(parts)
        if isinstance(head, _Head):
            # Started, so that closing it closes the connection, even where nobody has asked for a piece
            return Response(head.status, head.content_type, cast("Generator[bytes | FetchFailure, None, None]", parts))
        assert isinstance(head, FetchFailure)
        return head

    def _exchange(self, request: Fetch, host: str) -> _Parts:
        """Yield the head and pieces of the body; or a failure, as the last."""
        deadline = Deadline(request)
        addresses = drive(addresses_of(host, self.allow), self._lookup)
        if isinstance(addresses, FetchFailure):
            yield addresses
            return
        try:
            session = self._connect(addresses, host, deadline)
            if isinstance(session, FetchFailure):
                yield session
                return
            with contextlib.closing(session), cut_after(session, deadline.left):
                session.settimeout(deadline.timeout())
                with contextlib.suppress(OSError):  # a server that listens no more may have said why
                    session.sendall(_request(request, host))
                yield from _response(_Channel(session, deadline))
        except TimeoutError:
            yield timed_out(request)
        except (OSError, http.client.HTTPException) as error:
            yield timed_out(request) if deadline.left <= 0 else failure_of(error, FetchFailureKind.HTTP)

    def _lookup(self, effect: Effect[Any]) -> Any:
        assert isinstance(effect, Lookup)
        return self.resolver.lookup(effect)

    def _connect(self, addresses: tuple[str, ...], host: str, deadline: Deadline) -> ssl.SSLSocket | FetchFailure:
        failure = FetchFailure(FetchFailureKind.CONNECT)
        for address, share in deadline.shares(addresses):
            try:
                sock = socket.create_connection((address, self.port), share)
            except OSError as error:
                failure = unreachable(address, error)
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as asyncio and `http.client` do
            session = self.context.wrap_socket(
                sock, server_hostname=host, suppress_ragged_eofs=False, do_handshake_on_connect=False
            )
            try:
                shake_hands(session, min(share, deadline.timeout()))
            except TimeoutError as error:
                session.close()
                failure = unreachable(address, error)
            except OSError as error:
                session.close()
                return failure_of(error, FetchFailureKind.TLS)
            else:
                return session
        deadline.timeout()
        return failure


# --- what the asynchronous fetcher uses too ---------------------------------------------------------------------------


class Deadline:
    """The end of a fetch."""

    def __init__(self, request: Fetch) -> None:
        self._end = time.monotonic() + request.max_seconds

    @property
    def left(self) -> float:
        """The seconds left, negative where it has passed."""
        return self._end - time.monotonic()

    def timeout(self) -> float:
        """The seconds left; `TimeoutError` where none are."""
        left = self.left
        if left <= 0:
            raise TimeoutError
        return left

    def shares(self, addresses: tuple[str, ...]) -> Generator[tuple[str, float], None, None]:
        """Every address with its share of the time left, in which it has to accept the connection, and then TLS.

        Raises:
            TimeoutError: none is left.
        """
        for index, address in enumerate(addresses):
            yield address, self.timeout() / (len(addresses) - index)


def addresses_of(host: str, allow: Callable[[str], bool]) -> Program[tuple[str, ...] | FetchFailure]:
    """A program that returns the addresses to dial, in this order: those of the policy host that are allowed.

    Both families in turn, so that one that does not work here leaves room for the other. A lookup that fails beside
    one that gives addresses costs the fetch nothing.
    """
    answers = yield from together(*(lookup(host, rdtype, _CONFIG) for rdtype in (RecordType.A, RecordType.AAAA)))
    families = [answer.records for answer in answers if isinstance(answer, Answer)]
    found = [canonical_address(str(each)) for pair in itertools.zip_longest(*families) for each in pair if each]
    if not found:
        errors = [
            f"{answer.question.rdtype}: {answer.kind} {answer.detail}".rstrip()
            for answer in answers
            if not isinstance(answer, Answer)
        ]
        is_local = any(isinstance(answer, LookupFailure) and answer.kind.is_own for answer in answers)
        kind = FetchFailureKind.LOCAL if is_local else FetchFailureKind.DNS
        return FetchFailure(kind, "; ".join(errors) or f"{host} has no address")
    allowed = [address for address in found if allow(address)]
    if not allowed:
        refused = ", ".join(found[:MAX_ADDRESSES])
        return FetchFailure(FetchFailureKind.ADDRESS, f"no address that may be connected to: {refused}")
    return tuple(allowed[:MAX_ADDRESSES])


def path_of(request: Fetch) -> str:
    """The path of the policy (RFC 8461 section 3.2)."""
    return urlsplit(request.url).path


def headers(host: str) -> dict[str, str]:
    """The header fields of a request: nothing that makes it conditional, nothing that identifies a session."""
    return {
        "Host": host,
        "User-Agent": _user_agent(),
        "Accept": "text/plain",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }


@functools.cache
def _user_agent() -> str:
    try:
        return f"mailtlspolicy/{importlib.metadata.version('mailtlspolicy')}"
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return "mailtlspolicy"


def content_type(values: Iterable[str]) -> str | None:
    """The one Content-Type, unfolded (RFC 9112 section 5.2); several, which are an error, are shown side by side."""
    lines = ((line.strip(" \t") for line in _FOLD.split(value)) for value in values)
    return ", ".join(" ".join(parts) for parts in lines) or None


def unreachable(address: str, error: BaseException) -> FetchFailure:
    """The failure of an address that did not answer."""
    kind = FetchFailureKind.LOCAL if is_own(error) else FetchFailureKind.CONNECT
    return FetchFailure(kind, f"{address}: {reason(error)}")


def failure_of(error: BaseException, kind: FetchFailureKind) -> FetchFailure:
    """The failure that an error amounts to, by what caused it: `kind` where TLS is not to blame.

    OpenSSL stops at the first fault of a certificate: trust, then name, then dates.
    """
    if is_own(error):
        return FetchFailure(FetchFailureKind.LOCAL, reason(error))
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return FetchFailure(_certificate_failure(cause.verify_code), printable(cause.verify_message.encode()))
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            return FetchFailure(FetchFailureKind.TLS, reason(cause))
        cause = cause.__cause__
    return FetchFailure(kind, reason(error))


def _certificate_failure(code: int) -> FetchFailureKind:
    if code in _DATES:
        return FetchFailureKind.CERTIFICATE_EXPIRED
    if code == _HOSTNAME_MISMATCH:
        return FetchFailureKind.CERTIFICATE_HOST_MISMATCH
    return FetchFailureKind.CERTIFICATE_NOT_TRUSTED


# --- HTTP by `http.client` --------------------------------------------------------------------------------------------


@frozen
class _Head:
    status: int
    content_type: str | None


class _Channel(io.RawIOBase):
    """A TLS session as `http.client` reads it, every read within what is left of the time, and of the head's octets."""

    def __init__(self, session: ssl.SSLSocket, deadline: Deadline) -> None:
        self._session = session
        self._deadline = deadline
        self._reader = _Reader(self)
        self._left: int | None = MAX_HEAD_OCTETS

    def makefile(self, _mode: str) -> _Reader:
        return self._reader

    def end_of_head(self) -> None:
        self._left = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._left is not None and self._left <= 0:
            raise http.client.HTTPException(f"a head of more than {MAX_HEAD_OCTETS} octets")
        self._session.settimeout(self._deadline.timeout())
        count = self._session.recv_into(buffer)
        if self._left is not None:
            if not count:  # which `http.client` takes for the end of the head
                raise http.client.HTTPException("the server hung up before the end of the head")
            self._left -= count
        return count


class _Reader(io.BufferedReader):
    """Stays open when a response is done with it: an interim one is followed by another."""

    def close(self) -> None:
        """Do nothing; who opened the session closes it."""


def _request(request: Fetch, host: str) -> bytes:
    lines = [f"GET {path_of(request)} HTTP/1.1", *(f"{name}: {value}" for name, value in headers(host).items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _response(channel: _Channel) -> _Parts:
    response = _final_response(channel)
    channel.end_of_head()
    yield _Head(response.status, content_type(response.headers.get_all("Content-Type", [])))
    expected, received = response.length, 0
    while piece := response.read1(PIECE_OCTETS):
        received += len(piece)
        yield piece
    if expected is not None and received < expected:
        raise http.client.HTTPException(f"the body ended after {received} of {expected} octets")


def _final_response(channel: _Channel) -> http.client.HTTPResponse:
    """Read heads up to one that is not interim (RFC 9110 section 15.2)."""
    while True:
        # It asks nothing of a socket but `makefile`.
        response = http.client.HTTPResponse(cast("socket.socket", channel), method="GET")
        response.begin()
        _check_framing(response.headers)
        if response.status >= 200 or response.status in NO_BODY:
            return response


def _check_framing(head: http.client.HTTPMessage) -> None:
    """Raise where `http.client` would guess at fields, and so at where the body ends (RFC 9112 section 6.3)."""
    if any(isinstance(defect, _HEAD_DEFECTS) for defect in head.defects):
        raise http.client.HTTPException("a malformed header field")
    if codings := head.get_all("Transfer-Encoding"):
        if [coding.strip().lower() for coding in codings] != ["chunked"]:
            raise http.client.HTTPException("a transfer coding other than chunked")
    elif lengths := head.get_all("Content-Length"):
        values = {length.strip() for length in lengths}
        if len(values) > 1 or not all(map(_LENGTH.fullmatch, values)):
            raise http.client.HTTPException("no valid Content-Length")
