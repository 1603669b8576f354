"""A served SQL endpoint, as the tests see it."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from tracestone.collector.sql_endpoint.statements import Statement, Statements
from tracestone.schema.engines.reader import Answer


@dataclass(frozen=True)
class Endpoint:
    """Where the endpoint listens, and the statements behind it."""

    url: str
    statements: Statements
    database: str

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    async def ask(self, text: str, **parameters: str) -> Answer:
        return await self.statements.run(Statement(text, parameters))
