"""What models answered judges, by a digest of what they were asked. Bounded by age and by number."""

from collections.abc import Sequence
from dataclasses import dataclass

from tracestone.schema import sqlfiles
from tracestone.schema.engines.postgres import Pool, storage_errors

# Longer answers are not kept.
MAX_CHARACTERS = 20_000


@dataclass(frozen=True)
class JudgeReply:
    """The answer to a call, and the model that says it answered."""

    digest: bytes
    text: str
    model: str


class JudgeReplyStore:
    """Answers of the last `seconds`, about `most` of them."""

    def __init__(self, pool: Pool, *, seconds: float, most: int) -> None:
        self._pool = pool
        self._seconds = seconds
        self._most = most
        self._sql = sqlfiles.queries("postgres", "judge_replies")

    async def find(self, digests: Sequence[bytes]) -> dict[bytes, JudgeReply]:
        """The answers that are there. Raises StorageDown."""
        with storage_errors():
            rows = await self._pool.fetch(self._sql["find"], list(digests), self._seconds)
        return {row["digest"]: JudgeReply(row["digest"], row["reply"], row["model"]) for row in rows}

    async def keep(self, replies: Sequence[JudgeReply]) -> None:
        """Keeps answers, but for those that are too long or hold what Postgres cannot. Raises StorageDown."""
        kept = [reply for reply in replies if len(reply.text) <= MAX_CHARACTERS and _storable(reply.text)]
        with storage_errors():
            await self._pool.execute(
                self._sql["keep"],
                [reply.digest for reply in kept],
                [reply.text for reply in kept],
                [reply.model for reply in kept],
            )

    async def forget(self) -> None:
        """Removes what is too old, and the oldest of too many. Raises StorageDown."""
        with storage_errors():
            await self._pool.execute(self._sql["forget"], self._seconds, self._most)


def _storable(text: str) -> bool:
    return "\x00" not in text and text == text.encode("utf-8", "replace").decode("utf-8")
