"""`report`: TLS reports that were received, as they can be read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mailtlspolicy._json import VERSION
from mailtlspolicy.cli import MISUSE, NO, OK
from mailtlspolicy.cli._report_text import report_text
from mailtlspolicy.cli._shared import print_answer
from mailtlspolicy.cli._texts import escaped
from mailtlspolicy.tlsrpt.reading import MAX_MAIL, Received, Unreadable, read_report_file

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from mailtlspolicy.tlsrpt.reading import ReceivedMail


def run(arguments: Namespace) -> int:
    """Print what is in each file; NO where one is no readable report, MISUSE where one can not be opened."""
    status, answers = OK, []
    for path in arguments.paths:
        try:
            read = read_report_file(_octets(path))
        except OSError as error:  # the other files are shown all the same
            print(f"mailtlspolicy: {error}", file=sys.stderr)
            status = MISUSE
            continue
        if isinstance(read, Unreadable):
            status = max(status, NO)
        answers.append((path, read.named(Path(path).name) if isinstance(read, Received) else read))
    data = {"version": VERSION, "reports": [{"file": path} | read.to_json() for path, read in answers]}
    if answers or arguments.json:
        print_answer(arguments, data, received_text(answers, named=len(arguments.paths) > 1))
    return status


def _octets(path: str) -> bytes:
    """What is in a file, or comes by standard input; one octet more than can be read is enough."""
    if path == "-":
        return sys.stdin.buffer.read(MAX_MAIL + 1)
    with Path(path).open("rb") as file:
        return file.read(MAX_MAIL + 1)


def received_text(answers: Sequence[tuple[str, Received | ReceivedMail | Unreadable]], *, named: bool) -> str:
    """The reports of files, each below the name of its file where that is wanted."""
    blocks = []
    for name, read in answers:
        text = f"unreadable: {read}" if isinstance(read, Unreadable) else report_text(read)
        blocks.append(f"{escaped(name)}\n\n{text}" if named else text)
    return "\n\n\n".join(blocks)
