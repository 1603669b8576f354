"""Metrics of other libraries; one file each, whose library is imported when the first such scorer runs."""
