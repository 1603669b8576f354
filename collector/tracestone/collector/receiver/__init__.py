"""OTLP over gRPC and HTTP: bytes in, acknowledgement out."""
