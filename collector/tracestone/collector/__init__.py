"""Receiver, write-ahead log, loader, SQL endpoint, API and pages."""
