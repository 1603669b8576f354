"""Ingest messages."""
