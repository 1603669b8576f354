"""Every query of docs/sql.md runs over stored data, as a reader's, and finds something."""

import json
import re
from pathlib import Path

from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Histogram, HistogramDataPoint, Metric

from support.signals import log, logs_request, metrics_request, pairs, store_logs, store_metrics
from support.telemetry import export_request, otlp_span, store
from tracestone.collector.sql_endpoint.statements import Statement, Statements
from tracestone.schema import clock, contract
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.settings import Settings
from tracestone.schema.stores.spans import SpanStore

PAGE = (Path(__file__).parents[3] / "docs" / "sql.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_page_has_ten_first_queries() -> None:
    first = PAGE[PAGE.index("## Ten first queries") :]
    numbers = re.findall(r"^\*\*(\d+)\.\*\* [^`]*```sql\n", first, flags=re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(1, 11))


async def fill(columnar: Columnar) -> None:
    """One trace with a chat, a tool that fails, and a judge's verdict."""
    start = clock.now_ns() - 10**9
    chat = {
        "gen_ai.operation.name": "chat",
        "gen_ai.response.model": "m",
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.request.temperature": 0.5,
    }
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search", "error.type": "timeout"}
    request = export_request(
        otlp_span(1, 1, start_ns=start, name="agent", attributes={"session.id": "s-1", "user.id": "u-1"}),
        otlp_span(1, 2, 1, start_ns=start, name="chat m", attributes=chat),
        otlp_span(1, 3, 1, start_ns=start, name="execute_tool search", error="no answer", attributes=tool),
    )
    await store(SpanStore(columnar), request, 0)
    verdict = {
        "assessment_id": "a-1",
        "target_type": "trace",
        "trace_id": f"{1:032x}",
        "name": "polite",
        "kind": "feedback",
        "value": "true",
        "value_number": 1.0,
        "source_type": "LLM_JUDGE",
        "scorer_name": "polite",
        "scorer_version": 1,
        "probability": 0.5,
        "valid": True,
    }
    await columnar.insert_rows("assessment_rows", list(verdict), [list(verdict.values())])
    await store_logs(columnar, logs_request(log("searching", 1, 3, at=start)), 0)
    tokens = HistogramDataPoint(
        time_unix_nano=start, count=2, sum=7.0, attributes=pairs({"gen_ai.token.type": "input"})
    )
    usage = Histogram(
        data_points=[tokens], aggregation_temporality=AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    )
    await store_metrics(columnar, metrics_request(Metric(name="gen_ai.client.token.usage", histogram=usage)), 0)


async def test_every_query_of_the_page_finds_something(columnar: Columnar) -> None:
    await fill(columnar)
    statements = Statements(Settings(), columnar)
    for query in QUERIES:
        answer = await statements.run(Statement(query, default_format="JSONEachRow"))
        assert answer.body, query
    await statements.close()


async def test_describe_says_what_the_columns_mean(columnar: Columnar) -> None:
    statements = Statements(Settings(), columnar)
    for table, comments in contract.wanted().items():
        assert f"\n### {table}\n" in PAGE
        answer = await statements.run(Statement(f"DESCRIBE {table}", default_format="JSONEachRow"))
        rows = [json.loads(line) for line in answer.body.splitlines()]
        assert {row["name"]: row["comment"] for row in rows} == {name: text for name, text in comments.items() if name}
    await statements.close()


def test_the_limits_of_the_page_are_the_defaults() -> None:
    settings = Settings()
    assert f"| `sql_max_seconds` | {settings.sql_max_seconds} s |" in PAGE
    assert f"| `sql_max_memory_bytes` | {settings.sql_max_memory_bytes >> 30} GiB |" in PAGE
    assert f"| `sql_max_rows` | {settings.sql_max_rows:,} |" in PAGE
    assert f"| `sql_max_answer_bytes` | {settings.sql_max_answer_bytes >> 20} MiB |" in PAGE
    assert f"| `sql_max_concurrent` | {settings.sql_max_concurrent} |" in PAGE
