"""From the write-ahead log into ClickHouse."""
