"""`tracestone status`: the figures of /health and /metrics, put together; what it says of one that is not there."""

from pathlib import Path

from support.running import run_command
from tracestone.collector.status import Sample, lines, summary

_HEALTH = {
    "parts": {"clickhouse": {"ok": False, "problem": "ClickHouse does not answer"}, "loader": {"ok": True}},
    "warnings": {"tls": "the certificate ends soon"},
}


def _samples(accepted: float) -> list[Sample]:
    traces = {"signal": "traces"}
    return [
        Sample("build_info", {"version": "1.2"}, 1),
        Sample("receiver_items_total", {**traces, "transport": "grpc", "outcome": "accepted"}, accepted),
        Sample("receiver_items_total", {**traces, "transport": "http", "outcome": "accepted"}, 10),
        Sample("receiver_items_total", {**traces, "transport": "http", "outcome": "rejected"}, 3),
        Sample("wal_waiting_bytes", traces, 5 << 20),
        Sample("wal_bound_bytes", traces, 2 << 30),
        Sample("loader_oldest_seconds", traces, 41.0),
        Sample("scoring_jobs", {"state": "waiting_for_budget"}, 7),
        Sample("scoring_jobs", {"state": "ready"}, 0),
        Sample("scoring_dead_jobs", {"scorer": "a", "code": "TIMEOUT"}, 2),
        Sample("budget_cap", {"budget": "1", "unit": "usd", "period": "day"}, 20.0),
        Sample("budget_spent", {"budget": "1", "unit": "usd", "period": "day"}, 19.5),
        Sample("budget_spent", {"budget": "2", "unit": "usd", "period": "day"}, 1.0),
    ]


def test_figures_are_put_together() -> None:
    told = summary(_HEALTH, _samples(100), _samples(300), 4.0)
    assert told["signals"]["traces"] == {
        "per_second": 50.0,
        "accepted": 310,
        "rejected": 3,
        "waiting_bytes": 5 << 20,
        "bound_bytes": 2 << 30,
        "oldest_seconds": 41.0,
    }
    assert told["broken"] == {"clickhouse": "ClickHouse does not answer"}
    assert [(each["spent"], each["cap"]) for each in told["budgets"]] == [(19.5, 20.0)]
    text = "\n".join(lines(told))
    for part in (
        "NOT WORKING: clickhouse",
        "certificate",
        "7 waiting for budget",
        "2 given up",
        "19.5 of 20 usd a day",
    ):
        assert part in text
    assert "0 ready" not in text


def test_a_restart_between_is_no_negative_rate() -> None:
    assert summary(_HEALTH, _samples(1000), _samples(5), 1.0)["signals"]["traces"]["per_second"] == 0


async def test_nobody_there(tmp_path: Path) -> None:
    code, _, err = await run_command("status", f"--data-dir={tmp_path}", "--port=9")
    assert code == 1
    assert err.startswith("tracestone: No Tracestone answers at 127.0.0.1:9")
