"""Scorers that are Python functions: installed ones in this process, uploaded ones in sandboxed processes."""
