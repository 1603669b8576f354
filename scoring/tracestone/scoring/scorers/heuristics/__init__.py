"""Heuristic scorers, one file a family; pure functions."""
