"""The delivery of a message by a plan: connections, STARTTLS, fallback, REQUIRETLS, and what became of it all."""

from mailtlspolicy.delivery.message import Message
from mailtlspolicy.delivery.outcome import Attempt, Disposition, Outcome, RecipientOutcome, Retry, Security
from mailtlspolicy.delivery.requiretls import Notification, Tags, notification, read_tags
from mailtlspolicy.delivery.transitions import Result
from mailtlspolicy.delivery.walk import deliver

__all__ = [
    "Attempt",
    "Disposition",
    "Message",
    "Notification",
    "Outcome",
    "RecipientOutcome",
    "Result",
    "Retry",
    "Security",
    "Tags",
    "deliver",
    "notification",
    "read_tags",
]
