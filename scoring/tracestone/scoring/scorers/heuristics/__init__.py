"""Scorers that are plain code; one file a family, pure functions of parameters and subject."""
