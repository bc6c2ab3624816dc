"""One message over loopback, in TLS and authenticated by DANE: this library on `smtplib` beside `smtplib` alone.

Both say the same commands to the same server. What remains is the decision, the verdict on the certificate, and replies
that are read with bounds.
"""

from __future__ import annotations

import smtplib
import ssl
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from mailtlspolicy import HostPlan, Message, NextHop, Plan, Tlsa, TlsaRRset
from mailtlspolicy.adapters.smtp import SmtpConnector
from mailtlspolicy.config import Config
from mailtlspolicy.delivery import Disposition
from mailtlspolicy.engine import Engine
from mailtlspolicy.plan.hosts import TlsaBinding
from mailtlspolicy.world.zones import StaticResolver
from tests.bench.rows import Row
from tests.smtp_server import Receiver, SmtpServer
from tests.tls_server import credentials

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
RECIPIENT, SENDER = "b@client.example", "a@sender.example"
CONTENT = b"Subject: hello\r\n\r\n" + b"A line of text that is about as long as most lines are.\r\n" * 40


def rows(folder: Path, closing: ExitStack) -> list[Row]:
    """The rows, over a server that ends with the benchmark."""
    presented = credentials(folder)
    server = SmtpServer()
    closing.callback(server.close)
    server.script = Receiver(tls=presented.context())
    record = Tlsa(3, 0, 0, presented.chain[0])
    binding = TlsaBinding("mx.example", "mx.example", ("mx.example",), TlsaRRset([record]))
    host = HostPlan(host="mx.example", port=server.port, addresses=(server.address,), binding=binding, level="dane")
    plan = Plan(next_hop=NextHop.parse("client.example"), mx_secure=True, hosts=(host,))
    message = Message(SENDER, [RECIPIENT], CONTENT)
    engine = Engine(
        StaticResolver({}, {}), connector=SmtpConnector(ehlo_name="client.example"), config=Config(sts="off")
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def ours() -> None:
        assert engine.deliver(message, plan, NOW).outcome is Disposition.DELIVERED

    def theirs() -> None:
        with smtplib.SMTP(server.address, server.port, local_hostname="client.example") as client:
            client.starttls(context=context)
            client.sendmail(SENDER, [RECIPIENT], CONTENT)

    return [Row("a message over loopback, TLS and DANE", ours, "smtplib alone, nothing verified", theirs)]
