"""Assessments emitted as OpenTelemetry events."""
