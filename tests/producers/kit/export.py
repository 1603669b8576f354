"""The OpenTelemetry SDK as an application sets it up: OTLP/HTTP to `OTEL_EXPORTER_OTLP_ENDPOINT`, in batches."""

import atexit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def tracing() -> TracerProvider:
    """A tracer provider, set as the global one."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


def logging() -> LoggerProvider:
    """A logger provider that sends on exit."""
    provider = LoggerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    atexit.register(provider.shutdown)
    return provider
