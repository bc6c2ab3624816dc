"""An event loop in a thread, so that the checks run on parts for asyncio too, from any test runner.

>>> from mailtlspolicy.sts.stores import AsyncMemoryStore
>>> with EventLoopThread() as loop:
...     loop.synchronous(AsyncMemoryStore()).load("a.test")
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from mailtlspolicy.engine import AsyncConnector, AsyncResolver, Connector, Resolver
    from mailtlspolicy.sts.stores import AsyncPolicyStore, PolicyStore

_T = TypeVar("_T")


class EventLoopThread:
    """An event loop in a thread of its own, in which asynchronous parts are called from synchronous code."""

    def __init__(self) -> None:
        # Here and not above: importing the library loads no event loop.
        import asyncio  # noqa: PLC0415

        self._asyncio = asyncio
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event loop of a part under test")

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in the loop, from any thread, and wait for what it returns."""
        return self._asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    @overload
    def synchronous(self, part: AsyncPolicyStore) -> PolicyStore: ...

    @overload
    def synchronous(self, part: AsyncResolver) -> Resolver: ...

    @overload
    def synchronous(self, part: AsyncConnector) -> Connector: ...

    def synchronous(self, part: Any) -> Any:
        """The same store, resolver or connector, to be called without `await`."""
        return _Synchronous(self, part)

    def __enter__(self) -> EventLoopThread:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.run(self._loop.shutdown_asyncgens())
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Synchronous:
    """Calls the methods of a part in the loop."""

    def __init__(self, loop: EventLoopThread, part: Any) -> None:
        self._loop, self._part = loop, part

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._part, name)
        return lambda *arguments: self._loop.run(method(*arguments))
