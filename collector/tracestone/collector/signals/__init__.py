"""What is particular to each kind of telemetry on its way from a request to ClickHouse."""
