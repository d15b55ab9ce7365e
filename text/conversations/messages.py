"""What conversations are made of."""

from typing import Literal, NamedTuple

Role = Literal["system", "user", "assistant"]


class Message(NamedTuple):
    """What is said, and by whom."""

    role: Role
    content: str


Conversation = tuple[Message, ...]
"""Perhaps a message of the system, then the user and the assistant in turn; the assistant speaks last."""
