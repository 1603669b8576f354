"""What a webhook is, and how what it is sent is signed: as Standard Webhooks has it (standardwebhooks.com).

The signature is HMAC-SHA256 over `id.timestamp.body` with the secret's bytes, which are written `whsec_` and base64.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

Event = Literal["assessment", "budget.warning", "budget.exhausted", "provider.down", "scorer.stopped", "job.dead"]
Errors = Literal["any", "only", "none"]
TEST = "webhook.test"
_PREFIX = "whsec_"
_SECRET_BYTES = 32
_Number = Annotated[float, Field(allow_inf_nan=False)]


class WebhookRequest(BaseModel):
    """What a person says of a webhook: its name, where it is, which events it gets.

    `scorer` and `experiment` narrow all events, the others only assessments: `errors`, the value as text (`value_is`),
    or as a number (`below`, `above`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    url: Annotated[str, Field(max_length=2000)]
    events: Annotated[list[Event], Field(min_length=1, max_length=6)] = ["assessment"]
    scorer: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    experiment: int | str | None = None
    errors: Errors = "any"
    value_is: Annotated[str, Field(max_length=1000)] | None = None
    below: _Number | None = None
    above: _Number | None = None

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or not value.isascii() or any(character.isspace() for character in value):
            raise ValueError("must be an address that begins with https:// or http://")
        if "@" in parts.netloc:
            raise ValueError("must not hold a user or a password")
        return value


@dataclass(frozen=True)
class WebhookState:
    """A stored webhook with the number of deliveries that wait and that are dead, and the last error.

    Its secret is not among it.
    """

    name: str
    url: str
    events: tuple[str, ...]
    scorer: str
    experiment_id: int | None
    errors: str
    value_is: str | None
    below: float | None
    above: float | None
    waiting: int
    dead: int
    error: str


@dataclass(frozen=True, repr=False)
class Delivery:
    """One message for a webhook, at its `attempts`th try. Not to be shown: it holds the secret."""

    delivery_id: int
    webhook_id: int
    message_id: str
    payload: dict[str, Any]
    attempts: int
    url: str
    secret: str


def new_secret() -> str:
    """A random secret."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`; `timestamp` is in seconds since the epoch."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def is_plain_and_far(url: str) -> bool:
    """Whether an address is http, and not of this machine itself."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        return False
    try:
        return not ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname != "localhost"
