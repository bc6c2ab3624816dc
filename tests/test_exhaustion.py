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
from mailtlspolicy.dns.effects import Answer, Lookup, RecordType
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
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=600, cwd=TOP
    )
    assert (done.stdout.strip(), done.stderr) == ("local-error" if part.startswith("https") else "local", "")


MANY_PLANS = """
import asyncio, resource, socket, threading
import dns.flags, dns.message, dns.rrset
from mailtlspolicy import AsyncEngine, Config
from mailtlspolicy.adapters.dns import AsyncDnsResolver

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

def serve():
    while True:
        wire, peer = server.recvfrom(4096)
        query = dns.message.from_wire(wire)
        reply = dns.message.make_response(query, recursion_available=True)
        question = query.question[0]
        name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        data = {"MX": f"10 mx.{name}", "A": "192.0.2.1"}.get(kind)
        if data:
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", kind, data))
        else:
            reply.authority.append(dns.rrset.from_text("test.", 60, "IN", "SOA", "ns.test. h.test. 1 1 1 1 1"))
        server.sendto(reply.to_wire(), peer)

threading.Thread(target=serve, daemon=True).start()
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
address = "127.0.0.1:%d" % server.getsockname()[1]

async def main():
    resolver = AsyncDnsResolver(nameservers=[address], max_lookups=64, timeout=30)
    engine = AsyncEngine(resolver, config=Config(sts="off", max_plan_seconds=3600))
    plans = await asyncio.gather(*(engine.plan(f"d{number}.test") for number in range(1000)))
    return {(plan.undeliverable, *[(str(host.level), host.addresses) for host in plan.usable_hosts]) for plan in plans}

print(asyncio.run(main()))
"""


def test_a_thousand_plans_at_once_with_few_descriptors_end_as_each_would_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY_PLANS], check=False, capture_output=True, text=True, timeout=600, cwd=TOP
    )
    assert (done.stdout.strip(), done.stderr) == ("{(None, ('may', ('192.0.2.1',)))}", "")
