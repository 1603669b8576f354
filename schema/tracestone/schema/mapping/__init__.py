"""The attribute map (data) and the SQL generated from it."""
