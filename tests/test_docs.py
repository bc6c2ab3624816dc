"""Every example of the README, the documentation and the docstrings runs and shows what it says it shows.

A page runs from top to bottom, its blocks in one namespace:

- ```python: run; with `>>>` prompts, as a doctest.
- ```console: of each line with `$`, the `mailtlspolicy` commands are run, and what they print must be what follows.

`python -m tests.test_docs` writes what the commands print now into the pages.
"""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import importlib
import io
import json
import pkgutil
import re
import runpy
import shlex
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve

import mailtlspolicy
from mailtlspolicy.adapters.dns import AsyncDnsResolver, DnsResolver
from mailtlspolicy.adapters.smtp import SmtpConnector
from mailtlspolicy.adapters.smtp_async import AsyncSmtpConnector
from mailtlspolicy.cli import main
from mailtlspolicy.delivery.transitions import TRANSITIONS
from mailtlspolicy.tlsrpt import Aggregates
from mailtlspolicy.tlsrpt.reading import ReceivedMail, read_report_mail

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from mailtlspolicy.dns.effects import Lookup

TOP = Path(__file__).resolve().parent.parent
PACKAGE = Path(mailtlspolicy.__file__).parent
EXAMPLES = TOP / "docs" / "examples"
PAGES = [TOP / "README.md", *sorted(path for path in (TOP / "docs").rglob("*.md") if "_build" not in path.parts)]
MODULES = sorted(module.name for module in pkgutil.walk_packages(mailtlspolicy.__path__, "mailtlspolicy."))

BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> Iterator[tuple[str, str, int]]:
    """Language, text and first line of every block that runs."""
    text = page.read_text("utf-8")
    for block in BLOCK.finditer(text):
        yield block[1], block[2], text.count("\n", 0, block.start()) + 2


def run_python(source: str, page: Path, line: int, names: dict[str, Any]) -> None:
    if not source.lstrip().startswith(">>>"):
        exec(compile("\n" * (line - 1) + source, page, "exec"), names)
        return
    test = doctest.DocTestParser().get_doctest(source, names, page.name, str(page), line - 1)
    test.globs = names  # so that the blocks of a page share one namespace
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    assert not runner.run(test, out=report.append, clear_globs=False).failed, "".join(report)


def run_console(block: str) -> str:
    """The block with what the commands print now."""
    shown: list[str] = []
    for part in re.split(r"^(?=\$ )", block, flags=re.MULTILINE):
        line = part.partition("\n")[0]
        ours = [command for command in line.removeprefix("$ ").split(" && ") if is_ours(command)]
        shown.append(line + "\n" + "".join(map(printed, ours)) if ours else part)
    return "".join(shown)


def is_ours(command: str) -> bool:
    return bool(command) and Path(command.split(maxsplit=1)[0]).name == "mailtlspolicy"


def printed(command: str) -> str:
    """What a command prints on standard output and standard error."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), contextlib.suppress(SystemExit):
        main(shlex.split(command)[1:])
    return "".join(f"{line}\n" for line in map(str.rstrip, output.getvalue().rstrip().split("\n")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_the_examples_of_a_page_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TOP)
    monkeypatch.syspath_prepend(EXAMPLES)
    names: dict[str, Any] = {"__name__": "__main__"}
    for language, text, line in blocks(page):
        if language == "console":
            assert run_console(text) == text, f"{page}, line {line}"
        else:
            run_python(text, page, line, names)


@pytest.mark.parametrize("name", ["mailtlspolicy", *(name for name in MODULES if not name.endswith("__main__"))])
def test_the_examples_of_a_module_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


async def no_sleep(sleep: Callable[[float], Awaitable[None]], seconds: float) -> None:
    assert seconds == 0
    await sleep(0)


TOLD = {"b@here.example": "delivered (250 kept)", "c@nowhere.example": "bounced (5.1.2)"}
MESSAGE = "From: <a@sender.example>\r\nTo: <b@here.example>\r\nSubject: hello\r\n\r\n.dots\r\n"


@pytest.mark.parametrize("program", ["sender.py", "sender_async.py"])
def test_the_senders_of_the_documentation_send(
    program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As they stand, over sockets; but the DNS is a world, and the MX host on this machine, at another port."""
    assert len(list(filter(None, (EXAMPLES / program).read_text("utf-8").splitlines()))) <= 40
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    server = importlib.import_module("mailserver").MailServer("mx.here.example")
    records = ["@ MX 10 mx", "mx A 192.0.2.1", f"_25._tcp.mx TLSA {server.tlsa}"]
    world = mailtlspolicy.World.from_json({"zones": {"here.example": {"records": records}}})

    async def lookup(question: Lookup) -> Any:
        return world.resolver.lookup(question)

    monkeypatch.setattr(DnsResolver, "from_system", lambda: world.resolver)
    monkeypatch.setattr(AsyncDnsResolver, "from_system", lambda: SimpleNamespace(lookup=lookup))
    for connector in (SmtpConnector, AsyncSmtpConnector):
        connect: Any = connector.connect
        to = {"address": server.address, "port": server.port}
        there = lambda self, effect, connect=connect, to=to: connect(self, evolve(effect, **to))  # noqa: E731
        monkeypatch.setattr(connector, "connect", there)
    recipients = ["b@here.example"] if program == "sender.py" else ["b@here.example", "c@nowhere.example"]
    monkeypatch.setattr(sys, "argv", [program, "a@sender.example", *recipients])
    monkeypatch.setattr("time.sleep", pytest.fail)  # nothing is deferred
    monkeypatch.setattr("asyncio.sleep", partial(no_sleep, asyncio.sleep))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(MESSAGE.encode())))
    runpy.run_path(str(EXAMPLES / program), run_name="__main__")
    told = set(capsys.readouterr().out.splitlines())
    assert told == {f"{recipient}: {TOLD[recipient]}" for recipient in recipients}
    assert server.mails == [MESSAGE]


def test_the_reporter_of_the_documentation_reports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands, over a socket; but the DNS is a world, the signature has no worth, and HTTPS is not there."""
    monkeypatch.syspath_prepend(EXAMPLES)
    server = importlib.import_module("mailserver").MailServer("mx.here.example")
    wanted = '_smtp._tls TXT "v=TLSRPTv1; rua=mailto:tls@here.example,https://here.example/tls"'
    zones = {
        "here.example": {"records": ["@ MX 10 mx", "mx A 192.0.2.1", wanted]},
        "quiet.example": {"records": ["@ MX 10 mx.here.example."]},
    }
    servers = {"192.0.2.1": {"25": {"starttls": "absent"}}}
    world = mailtlspolicy.World.from_json({"now": "2026-01-01T12:00:00Z", "zones": zones, "servers": servers})
    for machine, domains in ("mx1", ["here.example", "quiet.example"]), ("mx2", ["here.example"]):
        counted = Aggregates()
        for domain in domains:
            counted.add(world.engine().simulate(domain))
        (tmp_path / f"2026-01-01.{machine}.json").write_text(json.dumps(counted.to_json()), "utf-8")
    (tmp_path / "dkim.pem").write_bytes(b"key")
    posted = []

    def sign(message: bytes, selector: bytes, domain: bytes, key: bytes, include_headers: list[bytes]) -> bytes:
        assert (selector, key) == (b"tlsrpt", b"key")
        names = b":".join(include_headers)
        return b"DKIM-Signature: v=1; a=x; d=" + domain + b"; s=x; h=" + names + b"; bh=AAAA; b=AAAA\r\n"

    def connect(host: str, port: int | None, **_: Any) -> None:
        posted.append((host, port))
        raise ConnectionRefusedError

    connect_smtp: Any = SmtpConnector.connect
    there = {"address": server.address, "port": server.port}
    monkeypatch.setattr(SmtpConnector, "connect", lambda it, to: connect_smtp(it, evolve(to, **there)))
    monkeypatch.setattr(DnsResolver, "from_system", lambda: world.resolver)
    monkeypatch.setitem(sys.modules, "dkim", SimpleNamespace(sign=sign))
    monkeypatch.setattr("http.client.HTTPSConnection", connect)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("the day is over") if seconds else None)
    arguments = [str(tmp_path), "Sender Inc.", "tls@sender.example", "2026-01-01"]
    monkeypatch.setattr(sys, "argv", ["reporter.py", *arguments])
    runpy.run_path(str(EXAMPLES / "reporter.py"), run_name="__main__")
    assert set(capsys.readouterr().out.splitlines()) == {"here.example: delivered", "quiet.example: not wanted"}
    assert [path.name for path in tmp_path.iterdir()] == ["dkim.pem"]
    (mail,) = server.mails
    read = read_report_mail(mail.encode())
    assert isinstance(read, ReceivedMail)
    assert (read.domain, read.submitter, read.remarks) == ("here.example", "sender.example", ())
    assert [(entry.successful, entry.failed) for entry in read.report.policies] == [(0, 2)]
    assert posted == [("here.example", None)]


def test_the_diagram_shows_every_row_of_the_automaton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOP / "docs")
    drawn = importlib.import_module("automaton").svg()
    for (state, event), row in TRANSITIONS.items():
        assert f">{state}<" in drawn
        sign = {"next-address": "↓ ", "end": "■ "}.get(row.to, "")
        assert f">{sign}{event}<" in drawn
        assert row.result is None or f">{row.result}<" in drawn
        assert row.permission is None or f">{row.permission}<" in drawn
    assert drawn.count('class="permission"') == len({row.permission for row in TRANSITIONS.values()} - {None})


def test_every_adapter_has_a_page() -> None:
    pages = "".join(path.read_text("utf-8") for path in (TOP / "docs" / "reference").glob("adapters-*.md"))
    documented = set(re.findall(r"automodule:: mailtlspolicy\.(adapters\.\w+)", pages))
    assert documented == {
        name.removeprefix("mailtlspolicy.") for name in MODULES if re.search(r"\.adapters\.[^_]", name)
    }


def test_the_files_that_contributors_are_sent_to_exist() -> None:
    pages = [TOP / "docs" / "contributing.md", *(TOP / "docs" / "decisions").glob("*.md")]
    named = {
        name
        for page in pages
        for name in re.findall(r"`((?:\w+/)*\w+(?:/|\.\w+))`", page.read_text("utf-8"))
        if re.search(r"/|\.(py|md|tsv|toml|json)$", name) and not re.search(r"NAME|FILE", name)
    }
    assert len(named) > 25
    assert [name for name in sorted(named) if not any((top / name).exists() for top in (TOP, PACKAGE))] == []


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(
            BLOCK.sub(
                lambda block: block[0].replace(block[2], run_console(block[2])) if block[1] == "console" else block[0],
                path.read_text("utf-8"),
            ),
            "utf-8",
        )


def test_the_source_distribution_is_what_lies_at_the_top() -> None:
    """A pattern that is not anchored takes folders of the same name too, wherever somebody has one."""
    included = re.search(r"targets\.sdist\]\ninclude = (\[.*\])", (TOP / "pyproject.toml").read_text("utf-8"))
    assert included is not None
    for pattern in json.loads(included[1]):
        assert pattern.startswith("/")
        assert (TOP / pattern[1:]).exists()
