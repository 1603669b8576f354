"""Version 1, wire-compatible with OTLP 1.x."""
