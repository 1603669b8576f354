"""Log records with the content of model calls, made part of their spans' rows."""

import logging
import secrets
from collections.abc import Sequence
from string import Template

from tracestone.schema import sqlfiles
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.mapping import generate
from tracestone.schema.stores.inserting import REWRITING

logger = logging.getLogger(__name__)

# Others may write the same rows meanwhile; each of them looks again as well.
_ROUNDS = 3
_QUERIES = sqlfiles.queries("clickhouse", "log_contents")
_JOIN = Template(_QUERIES["join"]).substitute(generate.told("contents"))
_ALONE = {"max_threads": 1}
_NOTING = {**_ALONE, "insert_deduplicate": 0, "allow_reorder_prewhere_conditions": 0}


class LogContents:
    """Brings rows of spans up to the log records of now."""

    def __init__(self, columnar: Columnar) -> None:
        self._columnar = columnar

    async def join(self, batches: Sequence[str], share: int, shares: int) -> None:
        """Writes the rows of the traces that some batches touched anew, where log records have content that they lack.

        One share of several; safe to repeat. What is written is noted as touched by the first of the batches.
        """
        touched = {"batches": list(batches), "share": share, "shares": shares}
        if not await self._columnar.query(_QUERIES["any"], touched, _ALONE):
            return
        for _ in range(_ROUNDS):
            named = {"name": f"{batches[0]}/{secrets.token_hex(8)}"}
            await self._columnar.command(_QUERIES["note_behind"], {**touched, **named}, _NOTING)
            (row,) = await self._columnar.query(_QUERIES["count_behind"], named, _ALONE)
            if not row["behind"]:
                return
            await self._columnar.command(_JOIN, named, {**REWRITING, "log_comment": batches[0]})
        logger.warning("others write the same spans", extra={"action": "join_logs", "spans": row["behind"]})

    async def touch(self, batches: Sequence[str], share: int, shares: int) -> str:
        """Notes the traces of the log records that some batches brought as touched, under the name that comes back.

        The name is "" where none of the records has content of a span.
        """
        touched = {"batches": list(batches), "share": share, "shares": shares}
        if not await self._columnar.query(_QUERIES["touched"], touched, _ALONE):
            return ""
        name = f"logs/{batches[0]}/{share}-{shares}"
        await self._columnar.command(_QUERIES["touch"], {**touched, "name": name}, _NOTING)
        return name
