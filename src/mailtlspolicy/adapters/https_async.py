"""An HTTPS fetcher for asyncio, on `httpx` (an optional extra); its rules and failures are those of `adapters.https`.

Of malformed HTTP each of the two refuses what its parser refuses.

- The transport of httpx alone is used, not its client: it knows no redirects, cookies, credentials, proxies, default
  header fields or decoding.
- The URL holds the address that the predicate has seen. The policy host goes into `Host` and into the extension
  `sni_hostname`, against which the certificate is verified.
- Cancelling a fetch closes its connection.
- The octets of a head are bounded by httpx (100 KiB); interim responses and trailers by the time alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import httpx
from attrs import frozen

from mailtlspolicy.adapters.https import (
    NO_BODY,
    Deadline,
    PolicyFetcher,
    addresses_of,
    content_type,
    failure_of,
    headers,
    path_of,
    unreachable,
)
from mailtlspolicy.dns.effects import Lookup
from mailtlspolicy.drivers import adrive
from mailtlspolicy.names import canonical
from mailtlspolicy.sts.effects import FetchFailure, FetchFailureKind
from mailtlspolicy.sts.fetching import AsyncResponse, timed_out

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator

    from mailtlspolicy.effects import Effect
    from mailtlspolicy.engine import AsyncResolver
    from mailtlspolicy.sts.effects import Fetch

# What fails at which of the steps that httpcore names to a `trace` extension; all others are HTTP
_KINDS = {"connection.connect_tcp": FetchFailureKind.CONNECT, "connection.start_tls": FetchFailureKind.TLS}
_FRAMED = {b"content-length", b"transfer-encoding"}

_Parts: TypeAlias = "AsyncGenerator[httpx.Response | bytes | FetchFailure, None]"


@frozen
class AsyncHttpsFetcher(PolicyFetcher):
    """A fetcher for asyncio.

    Attributes:
        resolver: asks the DNS for the addresses of the policy host; the one positional argument.
    """

    resolver: AsyncResolver

    async def fetch(self, request: Fetch) -> AsyncResponse | FetchFailure:
        """Ask the policy host; whatever goes wrong in the world is a `FetchFailure`.

        Raises:
            ValueError: the policy host of the request is no domain name.
        """
        parts = self._exchange(request, canonical(request.policy_host))
        head = await anext(parts)
        if isinstance(head, httpx.Response):
            values = (value.decode("latin-1") for name, value in head.headers.raw if name.lower() == b"content-type")
            # Started, so that closing it closes the connection, even where nobody has asked for a piece
            body = cast("AsyncGenerator[bytes | FetchFailure, None]", parts)
            return AsyncResponse(head.status_code, content_type(values), body)
        assert isinstance(head, FetchFailure)
        return head

    async def _exchange(self, request: Fetch, host: str) -> _Parts:
        """Yield the head and pieces of the body; or a failure, as the last."""
        deadline = Deadline(request)
        try:
            addresses = await asyncio.wait_for(adrive(addresses_of(host, self.allow), self._lookup), deadline.left)
        except asyncio.TimeoutError:
            yield timed_out(request)
            return
        if isinstance(addresses, FetchFailure):
            yield addresses
            return
        trace = _Trace()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(trace.aclose)
            transport = httpx.AsyncHTTPTransport(verify=self.context)
            stack.push_async_callback(transport.aclose)
            try:
                response = await self._open(transport, addresses, request, host, deadline, trace)
                if isinstance(response, FetchFailure):
                    yield response
                    return
                yield response
                session = response.extensions["network_stream"].get_extra_info("ssl_object")
                pieces = aiter(cast("httpx.AsyncByteStream", response.stream))
                while (piece := await asyncio.wait_for(anext(pieces, None), deadline.left)) is not None:
                    yield piece
                if not _is_framed(response):
                    _check_end(session)
            except (TimeoutError, asyncio.TimeoutError):  # two classes until Python 3.11
                yield timed_out(request)
            except httpx.TransportError as error:
                yield trace.failure(error)
            except OSError as error:  # of TLS after the handshake, which httpx lets through
                yield failure_of(error, FetchFailureKind.HTTP)

    async def _lookup(self, effect: Effect[Any]) -> Any:
        assert isinstance(effect, Lookup)
        return await self.resolver.lookup(effect)

    async def _open(
        self,
        transport: httpx.AsyncHTTPTransport,
        addresses: tuple[str, ...],
        request: Fetch,
        host: str,
        deadline: Deadline,
        trace: _Trace,
    ) -> httpx.Response | FetchFailure:
        """Send the request to the first address that answers, and return the head of the response."""
        failure = FetchFailure(FetchFailureKind.CONNECT)
        for address, share in deadline.shares(addresses):
            trace.reset()
            url = httpx.URL(scheme="https", host=address, port=self.port, path=path_of(request))
            extensions = {"sni_hostname": host, "timeout": {"connect": share}, "trace": trace}
            asked = httpx.Request("GET", url, headers=headers(host), extensions=extensions)
            try:
                return await asyncio.wait_for(transport.handle_async_request(asked), deadline.left)
            except httpx.ConnectTimeout:
                failure = unreachable(address, TimeoutError())
            except httpx.ConnectError as error:
                if trace.failure(error).kind is not FetchFailureKind.CONNECT:
                    raise
                failure = unreachable(address, error)
        deadline.timeout()
        return failure


class _Trace:
    """Notes what httpx does not say or do in the end.

    - Why a step failed: the cause is taken away from the error that is raised.
    - The connections: one that is cancelled during the handshake is left open.
    """

    def __init__(self) -> None:
        self._failure: FetchFailure | None = None
        self._streams: list[_Stream] = []

    async def __call__(self, event: str, info: dict[str, Any]) -> None:
        step, _, state = event.rpartition(".")
        if state == "failed" and self._failure is None:
            self._failure = failure_of(info["exception"], _KINDS.get(step, FetchFailureKind.HTTP))
        elif event == "connection.connect_tcp.complete":
            self._streams.append(info["return_value"])

    def reset(self) -> None:
        self._failure = None

    def failure(self, error: httpx.TransportError) -> FetchFailure:
        return self._failure or failure_of(error, FetchFailureKind.HTTP)

    async def aclose(self) -> None:
        for stream in self._streams:
            await stream.aclose()


class _Stream(Protocol):
    async def aclose(self) -> None: ...


def _is_framed(response: httpx.Response) -> bool:
    """Whether the response says where its body ends (RFC 9112 section 6.3)."""
    return response.status_code in NO_BODY or any(name.lower() in _FRAMED for name, _ in response.headers.raw)


def _check_end(session: ssl.SSLObject) -> None:
    """Raise `ssl.SSLEOFError` where the peer has not closed the TLS session, which httpx takes for an end all the same.

    The session has been read to its end and nothing more will come in, so this does no I/O.
    """
    session.read(1)
