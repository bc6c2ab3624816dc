"""What this system lacks says nothing of a domain: each adapter tells it, in a process of its own that has run out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent

# No descriptor is left when an adapter asks for one; what it says is printed
PRELUDE = """
import asyncio, resource, os, socket
from mailtlspolicy.adapters.dns import AsyncDnsResolver, DnsResolver
from mailtlspolicy.adapters.https import HttpsFetcher, policy_context
from mailtlspolicy.adapters.https_async import AsyncHttpsFetcher
from mailtlspolicy.adapters.smtp import SmtpConnector
from mailtlspolicy.adapters.smtp_async import AsyncSmtpConnector
from mailtlspolicy.delivery.session import Connect
from mailtlspolicy.effects import Answer, Lookup, RecordType
from mailtlspolicy.sts.effects import Fetch

class Known:
    def lookup(self, question):
        records = ("127.0.0.1",) if question.rdtype == "A" else ()
        return Answer(question, secure=False, records=records)

class Awaited:
    async def lookup(self, question):
        return Known().lookup(question)

question, request = Lookup("client.test", RecordType.A), Fetch("mta-sts.client.test", 1000, 5)
context = policy_context()

def exhaust():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return held

async def later(coroutine_of):
    held = exhaust()
    result = await coroutine_of()
    for descriptor in held:
        os.close(descriptor)
    return result
"""
PARTS = {
    "dns": "held = exhaust(); print(DnsResolver(nameservers=['127.0.0.1:1']).lookup(question).kind)",
    "dns, awaited": (
        "resolver = AsyncDnsResolver(nameservers=['127.0.0.1:1'])\n"
        "print(asyncio.run(later(lambda: resolver.lookup(question))).kind)"
    ),
    "https": (
        "fetcher = HttpsFetcher(Known(), allow=bool, context=context)\n"
        "held = exhaust()\nprint(fetcher.fetch(request).kind)"
    ),
    "https, awaited": (
        "fetcher = AsyncHttpsFetcher(Awaited(), allow=bool, context=context)\n"
        "import httpx, httpcore, anyio._backends._asyncio\n"
        "print(asyncio.run(later(lambda: fetcher.fetch(request))).kind)"
    ),
    "smtp": "c = SmtpConnector(ehlo_name='a.test')\nheld = exhaust()\nprint(c.connect(Connect('127.0.0.1', 1)).kind)",
    "smtp, awaited": (
        "c = AsyncSmtpConnector(ehlo_name='a.test')\n"
        "print(asyncio.run(later(lambda: c.connect(Connect('127.0.0.1', 1)))).kind)"
    ),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_want_of_descriptors_is_told_as_what_it_is(part: str) -> None:
    script = PRELUDE + PARTS[part]
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60, cwd=TOP
    )
    assert (done.stdout.strip(), done.stderr) == ("local-error" if part.startswith("https") else "local", "")
