"""The programs of tlsrpt-reporter: the collector, and the reporter that asks it by its fetcher and sends the reports.

Reports are of the day before. A signal for its developers makes the collector take today's counters for yesterday's.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import sys
import time
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from tests.lab.programs import program

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

SECONDS = 60
ORGANIZATION = "Sender Inc."
CONTACT = "tls-reports@sender.example"
FROM = "noreply@sender.example"
_MARKER = "marker.invalid"
_BIN = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"

_COMPLAINT = re.compile(r"^\S+ \S+ tlsrpt_\w+ (WARNING|ERROR|CRITICAL) ")

# What the reporter calls. Files get their names when they are whole.
_TAKE_MAIL = 'file=$(mktemp "{folder}/XXXXXX") && cat >"$file" && mv "$file" "$file.eml"\n'
_TAKE_UPLOAD = (
    'file=$(mktemp "{folder}/XXXXXX") && cat >"$file" && printf %s "$1" >"$file.url" && mv "$file" "$file.upload"\n'
)


def _executable(name: str) -> str:
    found = shutil.which(name, path=_BIN)
    assert found is not None, f"the lab needs {name}: pip install tlsrpt-reporter"
    return found


class EndedError(Exception):
    """A program has ended by itself; its log."""


def _wait(done: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for something that a program is to do."""
    end = time.monotonic() + 10 * SECONDS  # the reporter starts a process for each report
    while not done():
        if process.poll() is not None:
            raise EndedError(log.read_text("utf-8"))
        assert time.monotonic() < end, log.read_text("utf-8")
        time.sleep(0.02)


def _rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    """What a query finds; nothing where the file or the table is not there yet."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


def _complaints(log: Path) -> Iterator[str]:
    """The lines of a log that stand for something odd; beside them the collector prints its SQL."""
    return (line for line in log.read_text("utf-8").splitlines() if _COMPLAINT.search(line))


def marker(domain: str = _MARKER) -> bytes:
    """A datagram of one successful session."""
    record = "v=TLSRPTv1; rua=https://marker.invalid/"
    policy = {"policy-type": 9, "policy-domain": domain, "t": 0, "f": 0}
    return json.dumps({"dpv": "1", "d": domain, "pr": record, "policies": [policy]}).encode()


@frozen
class Delivered:
    """What the reporter sent.

    Attributes:
        mails: the messages that it gave to sendmail.
        uploads: what it posted, with the URL.
        made: what it says it made, as text, the domains before them; some are sent nowhere.
        complaints: what was odd to the collector and to the reporter.
    """

    mails: tuple[bytes, ...]
    uploads: tuple[tuple[str, bytes], ...]
    made: tuple[tuple[str, str], ...]
    complaints: tuple[str, ...]

    def report(self, domain: str) -> Any:
        """The one report about a domain, as it was made."""
        (text,) = (text for name, text in self.made if name == domain)
        return json.loads(text)

    def uploaded(self, url: str) -> Any:
        """The one report posted to a URL."""
        (body,) = (body for destination, body in self.uploads if destination == url)
        return json.loads(gzip.decompress(body))


@frozen
class Collectd:
    """A collector that runs."""

    folder: Path
    process: subprocess.Popen[bytes] = field(eq=False)

    @property
    def path(self) -> Path:
        """Its socket."""
        return self.folder / "collectd.sock"

    @property
    def reports(self) -> Path:
        """The folder of what the reporter sends."""
        return self.folder / "reports"

    @property
    def _database(self) -> Path:
        return self.folder / "collectd.sqlite"

    @property
    def log(self) -> Path:
        return self.folder / "collectd.log"

    def _has_marker(self, database: Path) -> bool:
        return bool(_rows(database, f"SELECT 1 FROM finalresults WHERE domain = '{_MARKER}'"))

    def settle(self, sessions: int) -> None:
        """Wait until so many are in its database."""
        query = "SELECT sum(cntrtotal) FROM finalresults"
        _wait(lambda: _rows(self._database, query) == [(sessions,)], self.process, self.log)

    def roll_over(self) -> str:
        """Make all that was sent so far yesterday's; the day."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(SECONDS)
            sender.connect(str(self.path))
            sender.send(marker())
        _wait(lambda: self._has_marker(self._database), self.process, self.log)
        self.process.send_signal(signal.SIGUSR2)
        yesterday = self._database.with_name(f"{self._database.name}.yesterday")
        _wait(lambda: self._has_marker(yesterday), self.process, self.log)
        return (datetime.now(timezone.utc) - timedelta(days=1)).date().isoformat()

    def report(self) -> Delivered:
        """Run the reporter until it has sent its reports about yesterday."""
        folder = self.reports
        folder.mkdir(exist_ok=True)
        mail, upload, log = folder / "mail.sh", folder / "upload.sh", folder / "reportd.log"
        mail.write_text(_TAKE_MAIL.format(folder=folder))
        upload.write_text(_TAKE_UPLOAD.format(folder=folder))
        database = folder / "reportd.sqlite"
        options = {
            "dbname": database,
            "fetchers": f"{_executable('tlsrpt-fetcher')} --storage sqlite://{self._database}",
            "organization_name": ORGANIZATION,
            "contact_info": CONTACT,
            "sender_address": FROM,
            "sendmail_script": f"sh {mail}",
            "http_script": f"sh {upload}",
            "spread_out_delivery": 1,
            "interval_main_loop": 1,
        }

        def all_sent() -> bool:
            """What waits, and what was done, as the reporter notes it: a report is made after its data is there."""
            made = _rows(database, f"SELECT 1 FROM reports WHERE domain = '{_MARKER}'")
            waits = "SELECT domain FROM reportdata WHERE domain NOT IN (SELECT domain FROM reports)"
            return bool(made) and not _rows(
                database, f"{waits} UNION ALL SELECT destination FROM destinations WHERE status IS NULL"
            )

        with _started("tlsrpt-reportd", "TLSRPT_REPORTD", options, log) as process:
            _wait(all_sent, process, log)
        of_marker = "https://marker.invalid/"
        urls = {path: path.with_suffix(".url").read_text("utf-8") for path in sorted(folder.glob("*.upload"))}
        return Delivered(
            tuple(path.read_bytes() for path in sorted(folder.glob("*.eml"))),
            tuple((url, path.read_bytes()) for path, url in urls.items() if url != of_marker),
            tuple(row for row in _rows(database, "SELECT domain, report FROM reports") if row[0] != _MARKER),
            (*_complaints(self.log), *_complaints(log)),
        )


@contextmanager
def _started(name: str, prefix: str, options: dict[str, Any], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {f"{prefix}_{key.upper()}": str(value) for key, value in options.items()}
    with (
        log.open("ab") as output,
        program(_executable(name), env=dict(os.environ) | environment, stdout=output, stderr=output) as process,
    ):
        yield process


def _stay_in_one_day() -> None:
    """What is counted on two days can not be compared: wait for a midnight (UTC) that is near."""
    now = datetime.now(timezone.utc)
    left = timedelta(days=1) - (now - now.replace(hour=0, minute=0, second=0, microsecond=0))
    if left < timedelta(seconds=2 * SECONDS):
        time.sleep(left.total_seconds() + 1)


@contextmanager
def run(folder: Path) -> Iterator[Collectd]:
    """Run the collector in a folder, where it finds what it counted before."""
    _stay_in_one_day()
    options = {
        "storage": f"sqlite://{folder}/collectd.sqlite",
        "socketname": folder / "collectd.sock",
        "sockettimeout": 1,  # it writes to its database when it has read nothing for so long
        "dump_path_for_invalid_datagram": folder / "invalid",
    }
    log = folder / "collectd.log"
    with _started("tlsrpt-collectd", "TLSRPT_COLLECTD", options, log) as process:
        collectd = Collectd(folder, process)
        _wait(lambda: bool(_rows(folder / "collectd.sqlite", "SELECT 1 FROM dbversion")), process, log)
        yield collectd
