"""Policy hosts for the lab: nginx at one address, a virtual host with a certificate of its own for every case.

The certificates come from a root of their own, as those of the web do. The mail servers of their domains have theirs
from it too.
"""

from __future__ import annotations

import shutil
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from attrs import frozen

from mailtlspolicy.sts.effects import FetchFailureKind
from tests import webpki
from tests.lab.programs import STOP_SECONDS, program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.authority import Issued

ADDRESS = "127.3.0.1"
MAIL_ADDRESS = "127.3.0.2"
"""Of the one mail server of all policy domains."""
PORT = 443
_UPSTREAM_PORT = 8080  # of the server that never stops
_MAX_OCTETS = 65_536  # of a policy (RFC 8461 section 3.3)
_START_SECONDS = 60

_NGINX_CONF = """\
daemon off;
master_process off;
pid "{directory}/nginx.pid";
events {{ }}
http {{
    log_format lab "$host $status";
    access_log "{directory}/nginx-requests.log" lab;
    client_body_temp_path "{directory}/nginx-temp";
    proxy_temp_path "{directory}/nginx-temp";
    fastcgi_temp_path "{directory}/nginx-temp";
    uwsgi_temp_path "{directory}/nginx-temp";
    scgi_temp_path "{directory}/nginx-temp";
    ssl_protocols TLSv1.2 TLSv1.3;
    gzip on;
    gzip_min_length 1;
    gzip_types text/plain;
    types {{ }}
    default_type text/plain;
    server {{
        listen {address}:{port} ssl default_server;
        ssl_reject_handshake on;
    }}
{servers}}}
"""

_SERVER = """\
    server {{
        listen {address}:{port} ssl;
        server_name {name};
        ssl_certificate "{chain}";
        ssl_certificate_key "{chain}";
        location = /.well-known/mta-sts.txt {{
            alias "{file}";
            {directives}
        }}
    }}
"""


@frozen
class PolicyHost:
    """A policy host, and what a fetch of its policy has to give.

    Attributes:
        label: its policy domain is this label below the domain of the lab.
        expected: a status, or why there is none.
        certificate: a case of `_chain`.
        directives: what nginx does with the request other than sending the file.
        octets: the length of the file; None for a policy as short as it gets.
        content_type: what comes with the status.
        seconds: the time that the fetch is given.
    """

    label: str
    expected: int | FetchFailureKind
    certificate: str = "good"
    directives: str = ""
    octets: int | None = None
    content_type: str | None = "text/plain"
    seconds: int = 10


_KIND = FetchFailureKind
HOSTS = (
    PolicyHost("sts-good", 200),
    PolicyHost("sts-expired", _KIND.CERTIFICATE_EXPIRED, "expired"),
    PolicyHost("sts-foreign", _KIND.CERTIFICATE_HOST_MISMATCH, "foreign"),
    PolicyHost("sts-self-signed", _KIND.CERTIFICATE_NOT_TRUSTED, "self-signed"),
    PolicyHost("sts-incomplete", _KIND.CERTIFICATE_NOT_TRUSTED, "incomplete"),
    PolicyHost("sts-cn-only", _KIND.CERTIFICATE_HOST_MISMATCH, "cn-only"),
    PolicyHost("sts-redirect", 301, directives="return 301 https://{good}$uri;", content_type="text/html"),
    PolicyHost("sts-wrong-type", 200, directives="default_type text/html;", content_type="text/html"),
    PolicyHost("sts-no-type", 200, directives='default_type "";', content_type=None),
    PolicyHost("sts-204", 204, directives="return 204;", content_type=None),
    PolicyHost("sts-206", 206, directives='return 206 "version: STSv1";'),
    PolicyHost("sts-404", 404, directives="return 404;", content_type="text/html"),
    PolicyHost("sts-at-the-limit", 200, octets=_MAX_OCTETS),
    PolicyHost("sts-too-long", _KIND.TOO_LONG, octets=_MAX_OCTETS + 1),
    PolicyHost("sts-slow", _KIND.TIMEOUT, directives="limit_rate 100;", octets=10_000, seconds=2),
    PolicyHost(
        "sts-endless", _KIND.TOO_LONG, directives="proxy_pass http://{address}:{upstream}; proxy_buffering off;"
    ),
)


@frozen
class PolicyHosts:
    """The running policy hosts.

    Attributes:
        directory: the folder of their files.
        domain: their policy domains are labels below it.
        anchors: a PEM file with the root that fetchers have to trust.
        mail_chain: a PEM file with the certificates and key of the mail server, whose names are those of all policies.
    """

    directory: Path
    domain: str
    anchors: Path
    mail_chain: Path

    def name(self, host: PolicyHost) -> str:
        """The name of a policy host (RFC 8461 section 3.3)."""
        return f"mta-sts.{host.label}.{self.domain}"

    def records(self) -> str:
        """What the zone of the domain has to hold, `owner type rdata` lines."""
        lines = []
        for host in HOSTS:
            lines += [
                f"{host.label} MX 10 mx.{host.label}",
                f"mx.{host.label} A {MAIL_ADDRESS}",
                f'_mta-sts.{host.label} TXT "v=STSv1; id=1;"',
                f"mta-sts.{host.label} A {ADDRESS}",
            ]
        return "\n".join(lines)

    def policy(self, host: PolicyHost) -> bytes:
        """The file of a policy host: a valid policy, filled up to its length by a field that nobody knows."""
        lines = ("version: STSv1", "mode: enforce", f"mx: mx.{host.label}.{self.domain}", "max_age: 604800", "")
        policy = "\r\n".join(lines).encode("ascii")
        if host.octets is not None:
            policy += b"fill: ".ljust(host.octets - len(policy) - 2, b"x") + b"\r\n"
        return policy

    def requests(self, host: PolicyHost) -> list[int]:
        """The statuses of the requests that were answered for a host so far."""
        log = (self.directory / "nginx-requests.log").read_text("ascii")
        requests = (line.split() for line in log.splitlines())
        return [int(status) for name, status in requests if name == self.name(host)]


def _chain(case: str, name: str, issuer: Issued) -> tuple[Issued, ...]:
    """The certificates that a policy host presents, its own first."""
    if case == "self-signed":
        return (webpki.leaf(None, name),)
    if case == "incomplete":
        return (webpki.leaf(issuer, name),)
    leaf = {
        "good": lambda: webpki.leaf(issuer, name),
        "expired": lambda: webpki.leaf(issuer, name, days=(-30, -1)),
        "foreign": lambda: webpki.leaf(issuer, f"www.{name}"),
        "cn-only": lambda: webpki.leaf(issuer, common_name=name),
    }[case]()
    return leaf, issuer


def _configure(hosts: PolicyHosts, root: Issued) -> Path:
    issuer = webpki.intermediate(root)
    servers = ""
    for host in HOSTS:
        name = hosts.name(host)
        file = hosts.directory / f"{host.label}.txt"
        file.write_bytes(hosts.policy(host))
        chain = webpki.write(hosts.directory / f"{host.label}.pem", *_chain(host.certificate, name, issuer))
        directives = host.directives.format(good=hosts.name(HOSTS[0]), address=ADDRESS, upstream=_UPSTREAM_PORT)
        servers += _SERVER.format(address=ADDRESS, port=PORT, name=name, chain=chain, file=file, directives=directives)
    conf = hosts.directory / "nginx.conf"
    conf.write_text(_NGINX_CONF.format(directory=hosts.directory, address=ADDRESS, port=PORT, servers=servers))
    return conf


def _stream(connection: socket.socket) -> None:
    """Answer with a body that never ends."""
    with connection:
        connection.recv(4096)
        try:
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nversion: STSv1\r\n")
            while True:
                connection.sendall(b"mx: mx.example\r\n" * 100)
        except OSError:
            return  # nginx has hung up, since the client has


@contextmanager
def _endless() -> Iterator[None]:
    """The server behind nginx that never stops; one connection at a time."""
    with socket.create_server((ADDRESS, _UPSTREAM_PORT)) as listener:
        closing = threading.Event()

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                if closing.is_set():
                    connection.close()
                    return
                connection.settimeout(STOP_SECONDS)
                _stream(connection)

        thread = threading.Thread(target=serve, name="endless")
        thread.start()
        try:
            yield
        finally:
            closing.set()
            socket.create_connection((ADDRESS, _UPSTREAM_PORT)).close()
            thread.join()


@contextmanager
def _nginx(conf: Path, log: Path) -> Iterator[None]:
    nginx = shutil.which("nginx")
    if nginx is None:
        raise RuntimeError("nginx is not installed: apt-get install nginx-light")
    with program(nginx, "-e", str(log), "-c", str(conf)) as process:
        deadline = time.monotonic() + _START_SECONDS
        while not _listens():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nginx does not start: {log.read_text('utf-8', 'replace')[-1000:]}")
            time.sleep(0.01)
        yield


def _listens() -> bool:
    try:
        socket.create_connection((ADDRESS, PORT), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def run(directory: Path, domain: str) -> Iterator[PolicyHosts]:
    """Start all policy hosts, for policy domains below a domain; stop them at the end of the block."""
    root = webpki.root("Lab Web Root CA")
    anchors = directory / "web-root.pem"
    anchors.write_bytes(webpki.pem(root))
    issuer = webpki.intermediate(root)
    mail = webpki.leaf(issuer, *(f"mx.{host.label}.{domain}" for host in HOSTS))
    mail_chain = webpki.write(directory / "mail.pem", mail, issuer)
    hosts = PolicyHosts(directory, domain, anchors, mail_chain)
    conf = _configure(hosts, root)
    with ExitStack() as stack:
        stack.enter_context(_endless())
        stack.enter_context(_nginx(conf, directory / "nginx-error.log"))
        yield hosts
