"""The command line: arguments in, the library's answer out; a command is the module of its name and decides nothing."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import warnings
from typing import TYPE_CHECKING

from cryptography.utils import CryptographyDeprecationWarning

from mailtlspolicy.cli._arguments import parser

if TYPE_CHECKING:
    from collections.abc import Sequence

OK, NO, MISUSE = 0, 1, 2  # exit statuses: a deliverable plan, delivery or passing check; no; misuse
INTERRUPTED = 130  # as shells tell of a program that SIGINT ended: 128 and the signal's number


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    arguments = parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a peer says need not fit the encoding of the terminal
            stream.reconfigure(errors="backslashreplace")
    try:
        command = importlib.import_module(f"mailtlspolicy.cli.{arguments.command}")
        with contextlib.ExitStack() as closing, warnings.catch_warnings():
            arguments.closing = closing  # what a command opens is closed behind it
            # about what is odd in a peer's certificates: the verdict says what it means
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            status: int = command.run(arguments)
    except BrokenPipeError:  # the reader has seen enough
        sys.stderr.close()
        return NO
    except KeyboardInterrupt:  # whoever pressed the key knows
        return INTERRUPTED
    except (ValueError, OSError) as error:
        print(f"mailtlspolicy: {error}", file=sys.stderr)
        return MISUSE
    return status
