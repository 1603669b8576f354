"""Rewriting stored spans, slice by slice, while everything else goes on."""
