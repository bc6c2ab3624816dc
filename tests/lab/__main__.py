"""Runs the lab: `python -m tests.lab [pytest arguments]`, as root, from the top folder of the repository.

The lab gets namespaces of its own for network, mounts and processes: it sees no network but its loopback, resolv.conf
is replaced for it alone, and whatever it leaves running ends with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

_PROGRAMS = {
    "nsd": "nsd",
    "unbound": "unbound",
    "named": "bind9",
    "kresd": "knot-resolver",
    "pdns_recursor": "pdns-recursor",
    "dnsmasq": "dnsmasq",
    "stubby": "stubby",
    "posttls-finger": "postfix",
    "nginx": "nginx-light",
    "redis-server": "redis-server",
    "ip": "iproute2",
    "mount": "mount",
    "unshare": "util-linux",
}
INSIDE = "MAILTLSPOLICY_LAB"
"""Set in the environment of what runs inside the namespaces."""

_RESOLV_CONF = "/etc/resolv.conf"
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def _inside(arguments: list[str]) -> int:
    """Run the tests; `unshare` has put us into the namespaces."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the first process of a namespace would ignore it
    with tempfile.TemporaryDirectory() as directory:
        resolv_conf = Path(directory, "resolv.conf")
        resolv_conf.write_text("nameserver 127.0.0.1\noptions trust-ad edns0\n")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["mount", "--bind", str(resolv_conf), _RESOLV_CONF], check=True)
        return pytest.main([str(Path(__file__).parent), *arguments])


def _enter(arguments: list[str]) -> NoReturn:
    """Check what the lab needs, and become the process that runs it inside the namespaces."""
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"
    if os.geteuid() != 0:
        sys.exit("the lab needs root: it makes namespaces, and posttls-finger changes its group")
    missing = {program: package for program, package in _PROGRAMS.items() if shutil.which(program) is None}
    if missing:
        sys.exit(f"the lab needs {', '.join(missing)}: apt-get install {' '.join(sorted(set(missing.values())))}")
    os.environ[INSIDE] = "1"
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", sys.executable, "-m", "tests.lab"]
    os.execvp(command[0], [*command, *arguments])


if __name__ == "__main__":
    if INSIDE in os.environ:
        sys.exit(_inside(sys.argv[1:]))
    _enter(sys.argv[1:])
