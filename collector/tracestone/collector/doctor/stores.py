"""Both stores: whether they answer, can do what is asked of them, are of our schema, and have our time.

Nothing is written. An embedded store is looked at where none runs on the data folder; else its Tracestone tells.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

from tracestone.collector.doctor.finding import Finding, ok, problem, warning
from tracestone.schema import clock, sqlfiles
from tracestone.schema.engines.columnar import Columnar, StatementFailed
from tracestone.schema.engines.postgres import Failed, Pool, open_pool, storage_errors
from tracestone.schema.errors import TracestoneError
from tracestone.schema.settings import Settings

_CLICKHOUSE = sqlfiles.queries("clickhouse", "doctor")
_POSTGRES = sqlfiles.queries("postgres", "doctor")
# Leases and budgets' periods bear this; receipts of one second ago are not to look like those of tomorrow.
_SKEW_SECONDS = 2.0
_MANY_PARTS = 1000
# Our tables use NULLS NOT DISTINCT.
_OLDEST_POSTGRES = 150_000
_MIGRATE = "Run `tracestone migrate`, or start it: `up` does."
_UPGRADE = "Upgrade Tracestone; an older version cannot use it."


async def servers(settings: Settings) -> AsyncIterator[Finding]:
    """What the settings name: the ClickHouse and the Postgres that are servers."""
    if settings.postgres_url is not None:
        async for each in _asked("postgres", lambda: _postgres(settings)):
            yield each
    if settings.clickhouse_url is not None:
        async for each in _asked("clickhouse", lambda: _clickhouse(settings)):
            yield each


async def _asked(subject: str, ask: Callable[[], Awaitable[list[Finding]]]) -> AsyncIterator[Finding]:
    setting = f"{subject}_url"
    try:
        for each in await ask():
            yield each
    except (TracestoneError, StatementFailed, Failed) as error:
        says = " ".join(str(error).split())[:300]
        yield problem(
            subject, f"{says.rstrip('.')}.", f"Check the setting {setting}, the network, and the user's rights."
        )


async def _postgres(settings: Settings) -> list[Finding]:
    assert settings.postgres_url is not None
    pool = await open_pool(settings.postgres_url.get_secret_value(), max_size=1)
    try:
        return await _look_at_postgres(pool)
    finally:
        await pool.close()


async def _look_at_postgres(pool: Pool) -> list[Finding]:
    subject = "postgres"
    with storage_errors():
        began = clock.now_ns()
        row = await pool.fetchrow(_POSTGRES["server"])
        ended = clock.now_ns()
        known = await pool.fetchval(_POSTGRES["history_exists"])
        newest = await pool.fetchval(_POSTGRES["newest"]) if known else 0
    assert row is not None
    found = []
    if row["version_number"] < _OLDEST_POSTGRES:
        found.append(problem(subject, f"It is version {row['version']}.", "Use PostgreSQL 15 or newer."))
    if row["read_only"]:
        found.append(problem(subject, "It takes no writes.", "Name the primary in postgres_url."))
    found += _skew(subject, row["now_ns"], began, ended)
    found.append(_schema(subject, newest, sqlfiles.migrations("postgres")[-1].version))
    return [*found, ok(subject, f"Version {row['version']} answers.")]


async def _clickhouse(settings: Settings) -> list[Finding]:
    assert settings.clickhouse_url is not None
    columnar = Columnar(settings.clickhouse_url.get_secret_value(), database="default", clients=1)
    await columnar.open()
    try:
        return await _look_at_clickhouse(columnar, settings.clickhouse_database)
    finally:
        await columnar.close()


async def _look_at_clickhouse(columnar: Columnar, database: str) -> list[Finding]:
    subject = "clickhouse"
    began = clock.now_ns()
    (row,) = await columnar.query(_CLICKHOUSE["server"])
    ended = clock.now_ns()
    found = []
    if missing := await columnar.query(_CLICKHOUSE["missing"]):
        names = ", ".join(str(each["name"]) for each in missing)
        says = f"Version {row['version']} lacks {names}."
        found.append(problem(subject, says, "Use ClickHouse 26.9, with which Tracestone is tested, or newer."))
    found += _skew(subject, int(row["now_ns"]), began, ended)
    tables = await columnar.query(_CLICKHOUSE["tables"], {"database": database})
    newest = 0
    if any(each["name"] == "schema_migrations" for each in tables):
        (history,) = await columnar.query(_CLICKHOUSE["newest"], {"database": database})
        newest = int(history["version"])
    found.append(_schema(subject, newest, sqlfiles.migrations("clickhouse")[-1].version))
    found += [
        warning(subject, f"The table {each['name']} has {each['parts']} parts.", "See whether merges keep up.")
        for each in tables
        if int(each["parts"]) > _MANY_PARTS
    ]
    return [*found, ok(subject, f"Version {row['version']} answers.")]


def _skew(subject: str, theirs_ns: int, began_ns: int, ended_ns: int) -> list[Finding]:
    """Beyond what the answer's own way may have taken."""
    beyond = max(began_ns - theirs_ns, theirs_ns - ended_ns, 0) / 1e9
    if beyond <= _SKEW_SECONDS:
        return []
    return [warning("clocks", f"The clock of {subject} and ours differ by {beyond:,.0f} s.", "Run NTP on both.")]


def _schema(subject: str, newest: int, ours: int) -> Finding:
    if newest > ours:
        return problem(subject, f"Its schema is of version {newest}, newer than this code knows ({ours}).", _UPGRADE)
    if newest < ours:
        return warning(subject, f"Its schema is of version {newest}; {ours} is the newest.", _MIGRATE)
    return ok(subject, f"Its schema is the newest ({ours}).")
