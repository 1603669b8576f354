"""Wire messages of our own: what the write-ahead log stores and ClickHouse reads."""
