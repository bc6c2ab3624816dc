"""One transaction in a session: MAIL, a RCPT for each recipient, DATA, the message, and the reply to it.

`transaction` says what to send and when to listen (RFC 5321 section 3.3), for whoever has a connection; it is sent the
reply to each command, and what has come about stands in a `Progress`, so that it is known as well where the connection
is lost on the way.

>>> from mailtlspolicy import Message
>>> from mailtlspolicy.delivery.session import Transmit
>>> message = Message("a@sender.example", ["b@client.example"], b"Hi")
>>> progress = Progress()
>>> transacting = transaction(Transmit("session", message, message.recipients), ("SIZE",), progress)
>>> next_action(transacting, None)
Turn()
>>> next_action(transacting, None)
Command(verb='MAIL', argument='FROM:<a@sender.example> SIZE=4')
>>> next_action(transacting, Reply(452, ("4.3.1 full",)))
>>> progress.transmitted().mail.code
452
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field, frozen

from mailtlspolicy.delivery.requiretls import KEYWORD
from mailtlspolicy.delivery.session import DATA_WANTED, Reply, SessionFailure, Transmitted

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from mailtlspolicy.delivery.session import Transmit

BLOCK_OCTETS = 65_536  # of content, for which the time limit of a step holds (RFC 5321 section 4.5.3.2.5)
END_OF_DATA = b".\r\n"  # the CRLF before it ends the last line (RFC 5321 section 4.1.1.4)


@frozen
class Command:
    """Send a command, and read the reply to it."""

    verb: str
    argument: str = ""


@frozen
class Octets:
    """Send this part of the message."""

    octets: bytes


@frozen
class EndOfData:
    """Read the reply to the message."""


@frozen
class Turn:
    """Nothing; where others share the thread, they may have their turn."""


Action: TypeAlias = "Command | Octets | EndOfData | Turn"


@define
class Progress:
    """How far a transaction has come; the same as a `Transmitted`, as it grows.

    `asked` is for how many recipients there was a RCPT.
    """

    mail: Reply | None = None
    asked: int = 0
    recipients: list[Reply] = field(factory=list)
    data: Reply | None = None
    end: Reply | None = None
    failure: SessionFailure | None = None
    committed: bool = False

    def transmitted(self) -> Transmitted:
        """What has come of it."""
        return Transmitted(
            mail=self.mail,
            recipients=tuple(self.recipients),
            data=self.data,
            end=self.end,
            failure=self.failure,
            committed=self.committed and self.end is None,
        )


def transaction(
    effect: Transmit, keywords: tuple[str, ...], progress: Progress
) -> Generator[Action, Reply | None, None]:
    """The steps of a transaction; the reply to `Command` and `EndOfData` is sent back, None to the others.

    Args:
        effect: the message and its recipients.
        keywords: what the server announced in this state of the session.
        progress: is filled in.
    """
    content = effect.message.content
    size, is_ascii = 0, True
    for size, is_ascii in measures(content):  # noqa: B007
        yield Turn()
    argument = mail_argument(effect, keywords, size, is_ascii=is_ascii)
    progress.mail = yield from _ask("MAIL", argument)
    if not progress.mail.success:
        return
    for recipient in effect.recipients:
        progress.asked += 1
        progress.recipients.append((yield from _ask("RCPT", rcpt_argument(recipient))))
    if not any(reply.success for reply in progress.recipients):
        return
    progress.data = yield from _ask("DATA")
    if progress.data.code != DATA_WANTED:
        return
    for block in blocks_of(content):
        yield Octets(block)
    yield Octets(END_OF_DATA)
    progress.committed = True
    end = yield EndOfData()
    assert end is not None
    progress.end = end


def next_action(transacting: Generator[Action, Reply | None, None], reply: Reply | None) -> Action | None:
    """Send the reply to the action before, None for the first; return the next, None at the end."""
    try:
        return transacting.send(reply)
    except StopIteration:
        return None


def _ask(verb: str, argument: str = "") -> Generator[Action, Reply | None, Reply]:
    reply = yield Command(verb, argument)
    assert reply is not None
    return reply


def _blocks(content: bytes) -> Iterator[bytes]:
    """A message in pieces, none of which parts a CRLF."""
    at = 0
    while at < len(content):
        end = at + BLOCK_OCTETS
        if content[end - 1 : end + 1] == b"\r\n":
            end += 1
        yield content[at:end]
        at = end


def measures(content: bytes) -> Iterator[tuple[int, bool]]:
    """The size of a message as it is sent, and whether it is ASCII: of more and more of it, at last of all.

    The dots that are added do not count (RFC 1870 section 3).
    """
    size, is_ascii = 0 if content.endswith((b"\r", b"\n")) else 2, True
    for block in _blocks(content):
        size += len(block) + block.count(b"\r") + block.count(b"\n") - 2 * block.count(b"\r\n")
        is_ascii = is_ascii and block.isascii()
        yield size, is_ascii
    if not content:
        yield size, is_ascii


def blocks_of(content: bytes) -> Iterator[bytes]:
    """A message as it is sent, in pieces.

    Every line, the last one too, ends in CRLF (RFC 5321 section 2.3.8), and one that begins with a dot is given another
    (section 4.5.2).
    """
    begins_line = True
    for block in _blocks(content):
        lines = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")
        yield b"." + lines if begins_line and lines.startswith(b".") else lines
        begins_line = lines.endswith(b"\n")
    if not content or not begins_line:
        yield b"\r\n"


def mail_argument(effect: Transmit, keywords: tuple[str, ...], size: int, *, is_ascii: bool) -> str:
    """The reverse-path, and the parameters that a server wants to know (RFC 5321 section 4.1.1.2)."""
    words = [f"FROM:<{effect.message.sender}>"]
    if "SIZE" in keywords:
        words.append(f"SIZE={size}")
    if "8BITMIME" in keywords and not is_ascii:
        words.append("BODY=8BITMIME")  # RFC 6152 section 2
    if effect.requiretls:
        words.append(KEYWORD)
    return " ".join(words)


def rcpt_argument(recipient: str) -> str:
    """A forward-path (RFC 5321 section 4.1.1.3)."""
    return f"TO:<{recipient}>"
