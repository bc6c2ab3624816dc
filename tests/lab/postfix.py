"""Postfix instances, each with folders of its own: as the sender that is the oracle, and as receivers.

What became of a message is read from the log: `status=` lines, one a recipient and attempt, and the lines "Verified TLS
connection established to HOST[ADDRESS]:PORT" of the sessions before them.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from tests.lab.programs import program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

PATIENCE = 3
"""Seconds for which a message has to be in the queue before Postfix does without TLS where it failed."""
_SECONDS = 120
_USER = "postfix"
_MAIL_USER = "nobody"  # whose the mail is that was taken

_MAIN_CF = {
    "compatibility_level": "3.6",
    "mail_owner": _USER,
    "setgid_group": "postdrop",
    "myhostname": "postfix.lab.test",
    "mydestination": "",
    "alias_maps": "",
    "notify_classes": "",
    "in_flow_delay": "0",
    "smtpd_peername_lookup": "no",
    "smtpd_error_sleep_time": "0",
}
_MASTER_CF = """\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
discard unix - - n - - discard
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
tlsmgr unix - - n 1000? 1 tlsmgr
proxymap unix - - n - - proxymap
showq unix n - n - - showq
flush unix n - n 1000? 0 flush
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

_ESTABLISHED = re.compile(r"/smtp\[(\d+)\]: (\w+) TLS connection established to (\S+): ")
_STATUS = re.compile(
    r"/\w+\[(\d+)\]: (\w+): to=<([^>]*)>, (?:orig_to=<[^>]*>, )?relay=([^,]+), .* status=(\w+) \((.*)\)$"
)
_BEGIN = re.compile(r"/smtpd\[\d+\]: connect from ")
_END = re.compile(r"/smtpd\[\d+\]: disconnect from ")


@frozen
class Report:
    """What became of a message for one recipient.

    Attributes:
        queue_id: the message.
        recipient: the recipient.
        status: `sent`, `deferred` or `bounced`.
        word: `Verified`, `Trusted`, `Untrusted` or `Anonymous`; None where no TLS session was set up with the relay.
        text: why.
    """

    queue_id: str
    recipient: str
    status: str
    word: str | None
    text: str


@frozen
class Postfix:
    """A running instance.

    Attributes:
        directory: its files.
    """

    directory: Path

    def log(self) -> str:
        """All that it has logged."""
        return _log(self.directory).read_text("utf-8", "replace")

    def reports(self) -> list[Report]:
        """What it has logged on recipients so far, in order."""
        words: dict[tuple[str, str], str] = {}
        reports = []
        for line in self.log().splitlines():
            if established := _ESTABLISHED.search(line):
                process, word, relay = established.groups()
                words[process, relay] = word
            elif status := _STATUS.search(line):
                process, queue_id, recipient, relay, outcome, text = status.groups()
                reports.append(Report(queue_id, recipient, outcome, words.get((process, relay)), text))
        return reports

    def sessions(self, name: str) -> list[str]:
        """The commands that the sessions of a server consisted of, as it counts them: "ehlo=2 starttls=1 ..."."""
        return re.findall(rf" {name}/smtpd\[\d+\]: disconnect from \S+ (.*)$", self.log(), re.MULTILINE)

    def taken(self) -> list[bytes]:
        """The mail in its maildir, a file for each recipient."""
        return [file.read_bytes() for file in (self.directory / "mail" / "box" / "new").glob("*")]

    def wait_until_idle(self) -> None:
        """Wait until every session with it has ended and nothing is in its queue."""
        queue = self.directory / "queue"
        ways = ("incoming", "active", "deferred")  # in the order in which messages move, so that none is overlooked

        def idle() -> bool:
            log = self.log()
            return len(_BEGIN.findall(log)) == len(_END.findall(log)) and not any(
                path.is_file() for way in ways for path in (queue / way).rglob("*")
            )

        wait_for(idle, "rest", self.log)

    def flush(self, queue_ids: Iterable[str]) -> None:
        """Try some deferred messages again now."""
        for queue_id in queue_ids:
            subprocess.run(["postqueue", "-c", str(self.directory / "etc"), "-i", queue_id], check=True)


def wait_for(happened: Callable[[], bool], what: str, explain: Callable[[], str]) -> None:
    """Wait until something has happened, looking often."""
    deadline = time.monotonic() + _SECONDS
    while not happened():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no {what} within {_SECONDS} seconds: {explain()}")
        time.sleep(0.02)


def _log(directory: Path) -> Path:
    return directory / "log"


def _listens(address: str) -> bool:
    try:
        socket.create_connection((address, 25), 1).close()
    except OSError:
        return False
    return True


def _smtpd(address: str, options: Mapping[str, str]) -> str:
    settings = "".join(f" -o {{ {name} = {value} }}" for name, value in options.items())
    return f"{address}:25 inet n - n - - smtpd{settings}\n"


@contextmanager
def _run(parameters: Mapping[str, str], services: str, address: str) -> Iterator[Postfix]:
    """Start an instance, which is up when one listens at the address; stop it at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="postfix-", ignore_cleanup_errors=True) as folder:
        directory = Path(folder)
        directory.chmod(0o755)  # its processes give up root
        for name in ("etc", "queue", "queue/pid", "data", "mail"):
            (directory / name).mkdir()
        shutil.chown(directory / "data", _USER)
        shutil.chown(directory / "mail", _MAIL_USER)
        own = {
            "queue_directory": f"{folder}/queue",
            "data_directory": f"{folder}/data",
            "virtual_mailbox_base": f"{folder}/mail",
            "maillog_file": str(_log(directory)),
            "maillog_file_prefixes": folder,
        }
        main_cf = "".join(f"{name} = {value}\n" for name, value in {**_MAIN_CF, **own, **parameters}.items())
        for name, text in {"main.cf": main_cf, "master.cf": _MASTER_CF + services}.items():
            file = directory / "etc" / name
            file.write_text(text)
            os.utime(file, (1, 1))  # Postfix waits 1.5 s for a younger file to settle
        etc = f"{folder}/etc"
        subprocess.run(["postfix", "-c", etc, "check"], check=True)
        found = subprocess.run(["postconf", "-c", etc, "-h", "daemon_directory"], check=True, capture_output=True)
        master = f"{found.stdout.decode().strip()}/master"
        # As `postfix start-fg` does; when it ends, it ends its process group
        with program(master, "-c", etc, "-s", start_new_session=True):
            wait_for(lambda: _listens(address), f"Postfix at {address}", _log(directory).read_text)
            yield Postfix(directory)


@contextmanager
def receive(servers: Mapping[str, Mapping[str, str]], domains: Iterable[str]) -> Iterator[Postfix]:
    """Start an instance that takes mail.

    Args:
        servers: the options of its servers by address.
        domains: the domains in which every recipient is known, as far as the options let them.
    """
    user = pwd.getpwnam(_MAIL_USER)
    parameters = {
        "mynetworks": "",
        "local_header_rewrite_clients": "",
        "smtpd_tls_security_level": "may",
        "smtpd_tls_received_header": "yes",
        "virtual_mailbox_domains": ", ".join(domains),
        "virtual_mailbox_maps": "static:box/",
        "virtual_uid_maps": f"static:{user.pw_uid}",
        "virtual_gid_maps": f"static:{user.pw_gid}",
    }
    services = "".join(_smtpd(address, options) for address, options in servers.items())
    with _run(parameters, services, next(iter(servers))) as postfix:
        yield postfix


def _inline(table: Mapping[str, str]) -> str:
    return f"inline:{{ {', '.join(f'{{ {key} = {value} }}' for key, value in table.items())} }}" if table else ""


@contextmanager
def send(address: str, sender: str, next_hops: Mapping[str, str], levels: Mapping[str, str]) -> Iterator[Postfix]:
    """Start an instance that sends what is submitted to it, at level `dane`, and goes on for as long as hosts are left.

    Args:
        address: where to submit.
        sender: the domain of senders, whose bounces vanish.
        next_hops: where mail goes to that does not go to its recipients' domain.
        levels: other levels, by next-hop.
    """
    transports = {domain: f"smtp:{next_hop}" for domain, next_hop in next_hops.items()}
    parameters = {
        "mynetworks": "127.0.0.0/8",
        "transport_maps": _inline({sender: "discard:", **transports}),
        "smtp_tls_security_level": "dane",
        "smtp_dns_support_level": "dnssec",
        "smtp_tls_policy_maps": _inline(levels),
        "smtp_tls_loglevel": "1",
        "smtp_mx_address_limit": "0",
        "smtp_mx_session_limit": "0",
        "smtp_randomize_addresses": "no",
        "smtp_connection_cache_on_demand": "no",
        "smtp_connect_timeout": "3s",
        "default_process_limit": "30",
    }
    # Not so in main.cf, where the queue manager would find it too, and try again by itself
    smtp = f"smtp unix - - n - - smtp -o minimal_backoff_time={PATIENCE}s\n"
    with _run(parameters, _smtpd(address, {}) + smtp, address) as postfix:
        yield postfix
