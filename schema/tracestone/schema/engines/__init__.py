"""Clients of the two stores; the only modules that import their drivers."""
