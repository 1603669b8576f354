"""What a receiver process is told at its start: settings, secrets included, and its logs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tracestone.collector.wal.remote import Beginning
from tracestone.schema.settings import Settings, handed_on, taken_over


@dataclass(frozen=True)
class Order:
    """`logs` are the folders and beginnings by the signal's name, in the order of their words in the shared `page`.
    `times` is the page that all processes share for their `ReceiptClock`, each at the place of its number.
    """

    number: int
    settings: Settings
    page: int
    times: int
    logs: Mapping[str, tuple[Path, Beginning]]

    def content(self) -> dict[str, Any]:
        """As JSON. Holds secrets: for the channel alone."""
        return {
            "number": self.number,
            "settings": handed_on(self.settings),
            "page": self.page,
            "times": self.times,
            "logs": {
                name: {"folder": str(folder), **asdict(beginning), "log_id": beginning.log_id.hex()}
                for name, (folder, beginning) in self.logs.items()
            },
        }

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Order":
        """The order that `content` told."""
        return cls(
            content["number"],
            taken_over(content["settings"]),
            content["page"],
            content["times"],
            {name: _log(dict(fields)) for name, fields in content["logs"].items()},
        )


def _log(fields: dict[str, Any]) -> tuple[Path, Beginning]:
    folder = Path(fields.pop("folder"))
    return folder, Beginning(**{**fields, "log_id": bytes.fromhex(fields["log_id"])})
