"""Read-only SQL over HTTP, in ClickHouse's protocol."""
