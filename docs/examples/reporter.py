"""`python reporter.py FOLDER ORGANISATION CONTACT [DAY]` sends the TLS reports of a day, by default of yesterday (UTC).

The folder has what the senders counted: files DAY.NAME.json, each the JSON form of an `Aggregates`; and dkim.pem, a
private key whose public half is in the DNS at tlsrpt._domainkey. below the domain of the contact. The program runs
until every report is settled, mostly for a day and four hours, and then removes the files of the day. If it is
interrupted, start it again with the same day: it sends what is left.
"""

import heapq
import json
import random
import sys
import time
from contextlib import closing, contextmanager, suppress
from datetime import date, datetime, timedelta, timezone
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from socket import SHUT_RDWR
from threading import Timer
from urllib.parse import urlsplit

from mailtlspolicy import Config, Engine
from mailtlspolicy.adapters.dns import DnsResolver
from mailtlspolicy.adapters.https import is_public_address
from mailtlspolicy.adapters.smtp import SmtpConnector
from mailtlspolicy.tlsrpt import Aggregates, Report, ReportMail, ReportPost, Submission, first_try
from mailtlspolicy.tlsrpt.record import destination

PAUSE = timedelta(hours=1)  # before the DNS is asked again
PATIENCE = timedelta(hours=28)  # after the end of the day
TIMEOUT = 60  # seconds for a connection, and for each answer; a request has twice as much


def report_day(folder, day, engine, send, *, organization_name, contact_info, sleep=time.sleep):
    """Report what was counted on a day; yield each domain and how its report ended.

    `send` takes a report and a `Destination`, and returns whether the report was accepted there.
    """
    files, done = sorted(folder.glob(f"{day}.*.json")), folder / f"{day}.done"
    counted = Aggregates()
    for file in files:
        counted.merge(Aggregates.from_json(json.loads(file.read_text("utf-8"))))
    settled = done.read_text("utf-8").split() if done.exists() else []
    reports = (Report.of(each, organization_name=organization_name, contact_info=contact_info) for each in counted)
    left = [report for report in reports if report.report_id not in settled]
    due: list[tuple[datetime, str | None, Report, Submission | None]] = [
        (first_try(day, random.randint), report.domain, report, None) for report in left
    ]
    heapq.heapify(due)
    while due:
        at, domain, report, submission = heapq.heappop(due)
        sleep(max(0, (at - engine.clock()).total_seconds()))
        end, submission, again = attempt(engine, send, report, submission)
        if again is not None:
            heapq.heappush(due, (again, domain, report, submission))
            continue
        with done.open("a", encoding="utf-8") as file:
            file.write(f"{report.report_id}\n")
        yield domain, end
    for file in (*files, done):
        file.unlink(missing_ok=True)


def attempt(engine, send, report, submission):
    """Try every destination once; return how that ended, how far it is now, and when to try again."""
    if submission is None:
        found, now = engine.find_tlsrpt(report.domain), engine.clock()
        if found.failure == "dns-error":
            return "unknown", None, now + PAUSE if now < report.end + PATIENCE else None
        if found.record is None:
            return "not wanted", None, None
        submission = Submission([each.uri for each in found.record.destinations])
    accepted = [uri for uri in submission.destinations if send(report, destination(uri))]
    submission = submission.after(engine.clock(), accepted)
    return "delivered" if submission.delivered else "given up", submission, submission.next


def sender(engine, sign):
    """What sends a report; `sign` makes the DKIM signature of a mail."""

    def send(report, to):
        if to.scheme == "https":
            return post(ReportPost.of(report, to.target))
        mail = ReportMail.of(report, to.target, now=engine.clock())
        return engine.deliver(mail.signed(sign(mail))).outcome == "delivered"

    return send


def post(request):
    """Send a request to a URL that a stranger has chosen: not into our own network, and not for ever."""
    url = urlsplit(request.url)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    try:
        with closing(HTTPSConnection(url.hostname, url.port, timeout=TIMEOUT)) as connection, deadline(connection):
            connection.connect()
            if not is_public_address(connection.sock.getpeername()[0]):
                return False
            connection.request("POST", target, request.body, request.headers)
            return request.accepted(connection.getresponse().status)
    except (OSError, HTTPException):
        return False


@contextmanager
def deadline(connection):
    """End a connection after a while, however busy its server keeps it."""

    def end():
        with suppress(OSError, AttributeError):  # there is none any more, or none yet
            connection.sock.shutdown(SHUT_RDWR)

    timer = Timer(2 * TIMEOUT, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


if __name__ == "__main__":
    import dkim

    folder, organization_name, contact_info = Path(sys.argv[1]), *sys.argv[2:4]
    yesterday = datetime.now(timezone.utc).date() - timedelta(days=1)
    day = date.fromisoformat(sys.argv[4]) if sys.argv[4:] else yesterday
    key = (folder / "dkim.pem").read_bytes()

    def sign(mail):
        """Make a DKIM signature, as a header field."""
        headers = [name.lower().encode() for name in mail.dkim_headers]
        return dkim.sign(mail.content, b"tlsrpt", mail.dkim_domain.encode(), key, include_headers=headers)

    engine = Engine(DnsResolver.from_system(), connector=SmtpConnector(), config=Config(sts="off"))
    who = {"organization_name": organization_name, "contact_info": contact_info}
    for domain, end in report_day(folder, day, engine, sender(engine, sign), **who):
        print(f"{domain}: {end}")
