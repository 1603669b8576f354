"""Handing over OTLP bytes to ClickHouse, which parses them itself."""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.stores.inserting import INSERTING


class OtlpTable:
    """The table of one signal that takes requests as they are stored in the write-ahead log.

    `settings` are those of every insert.
    """

    def __init__(self, columnar: Columnar, signal: str, message: str) -> None:
        """`message` is the name of the protobuf message in `protos/tracestone/protos/ingest/v1/<signal>.proto`."""
        self._columnar = columnar
        self._table = f"otlp_{signal}_in"
        self.settings = {
            **_schema_settings(f"{signal}.proto", message, embedded=columnar.embedded),
            "input_format_protobuf_oneof_presence": 1,
            **INSERTING,
            # The views are planned for every insert, and there is nothing in them that optimising the plan would find.
            "query_plan_enable_optimizations": 0,
        }

    async def insert(self, payload: bytes, batch: str) -> None:
        """Hands over length-delimited messages of a batch, all or part of it. Safe to repeat."""
        await self._columnar.insert_bytes(self._table, payload, "Protobuf", {**self.settings, "log_comment": batch})


def _schema_settings(file: str, message: str, *, embedded: bool) -> dict[str, Any]:
    """How ClickHouse finds the schema of what the loader sends.

    A server takes its text with each insert. chDB would leave a cache of the text in the current folder, so it reads
    the file that came with the package.
    """
    resource = files("tracestone.protos.ingest.v1") / file
    if not embedded:
        return {
            "format_schema_source": "string",
            "format_schema": resource.read_text(encoding="utf-8"),
            "format_schema_message_name": message,
        }
    with as_file(resource) as path:
        return {"format_schema": f"{Path(path).resolve()}:{message}"}
