"""The HTTPS fetcher: its interface, and the limits that are kept whatever an injected one does (RFC 8461 section 3.3).

A fetcher sends one GET for the URL of a `Fetch`, with the SNI and to a certificate of the policy host, follows no
redirect, and hands over status, Content-Type and the body as it comes in. The octets are counted and the time is
measured here, so that an endless or dripping body ends the fetch, and a body is whole or not there at all.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from mailtlspolicy.sts.effects import Fetched, FetchFailure, FetchFailureKind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from mailtlspolicy.sts.effects import Fetch


@frozen
class Response:
    """The head of an HTTPS response, and its body as it comes in.

    Attributes:
        status: the HTTP status code.
        content_type: the Content-Type header as received, or None without one.
        body: yields octets in pieces of any size; a `FetchFailure` ends it early. Closing it closes the connection.
    """

    status: int
    content_type: str | None
    body: Generator[bytes | FetchFailure, None, None]


def whole_response(shown: Fetched | FetchFailure) -> Response | FetchFailure:
    """What a fetcher returns whose whole body is at hand."""
    if isinstance(shown, FetchFailure):
        return shown
    return Response(shown.status, shown.content_type, (piece for piece in (shown.body,)))


@frozen
class AsyncResponse:
    """As `Response`, with an asynchronous body."""

    status: int
    content_type: str | None
    body: AsyncGenerator[bytes | FetchFailure, None]


class Fetcher(Protocol):
    """Fetches policies. `adapters.https.HttpsFetcher` is one; the static world has another."""

    def fetch(self, request: Fetch) -> Response | FetchFailure:
        """Ask the policy host. A failure is returned, never raised."""


class AsyncFetcher(Protocol):
    """A `Fetcher` whose `fetch` is awaited. `adapters.https_async.AsyncHttpsFetcher` is one."""

    async def fetch(self, request: Fetch) -> AsyncResponse | FetchFailure:
        """As `Fetcher.fetch`."""


class _Body:
    """Gathers a body within its limits."""

    def __init__(self, request: Fetch) -> None:
        self.octets = bytearray()
        self.failure: FetchFailure | None = None
        self._request = request
        self._end = time.monotonic() + request.max_seconds

    def take(self, piece: bytes | FetchFailure) -> bool:
        """Take the next piece; whether more is wanted."""
        if isinstance(piece, FetchFailure):
            self.failure = piece
        elif len(self.octets) + len(piece) > self._request.max_octets:
            detail = f"more than {self._request.max_octets} octets"
            self.failure = FetchFailure(FetchFailureKind.TOO_LONG, detail)
        elif time.monotonic() > self._end:
            self.failure = timed_out(self._request)
        else:
            self.octets += piece
        return self.failure is None

    def result(self, response: Response | AsyncResponse) -> Fetched | FetchFailure:
        if self.failure is None and time.monotonic() > self._end:
            return timed_out(self._request)
        return self.failure or Fetched(response.status, response.content_type, bytes(self.octets))


def timed_out(request: Fetch) -> FetchFailure:
    """The failure of a fetch that took too long."""
    return FetchFailure(FetchFailureKind.TIMEOUT, f"not complete after {request.max_seconds} s")


def fetch_whole(fetcher: Fetcher, request: Fetch) -> Fetched | FetchFailure:
    """Perform a `Fetch`, within its limits.

    A fetcher that blocks for ever can not be interrupted from here; the ready one measures every step.
    """
    body = _Body(request)
    response = fetcher.fetch(request)
    if isinstance(response, FetchFailure):
        return response
    if not isinstance(response, Response):
        raise TypeError(f"a fetcher returns a Response or a FetchFailure, not {type(response).__name__}")
    try:
        for piece in response.body:
            if not body.take(piece):
                break
    finally:
        response.body.close()
    return body.result(response)


async def fetch_whole_async(fetcher: AsyncFetcher, request: Fetch) -> Fetched | FetchFailure:
    """As `fetch_whole`; the fetcher is cancelled when the time is up."""
    # Here and not above: importing the library loads no event loop.
    import asyncio  # noqa: PLC0415

    try:
        return await asyncio.wait_for(_fetch_whole_async(fetcher, request), request.max_seconds)
    except asyncio.TimeoutError:
        return timed_out(request)


async def _fetch_whole_async(fetcher: AsyncFetcher, request: Fetch) -> Fetched | FetchFailure:
    body = _Body(request)
    response = await fetcher.fetch(request)
    if isinstance(response, FetchFailure):
        return response
    if not isinstance(response, AsyncResponse):
        raise TypeError(f"a fetcher returns an AsyncResponse or a FetchFailure, not {type(response).__name__}")
    try:
        async for piece in response.body:
            if not body.take(piece):
                break
    finally:
        await response.body.aclose()
    return body.result(response)
