"""Which part of the targets a rate keeps, and how many of the stored ones that is."""
