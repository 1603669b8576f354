"""Shifts the wall clock of every Python process that has this folder in its PYTHONPATH, by what a file says now."""

import os
import time
from pathlib import Path

_true_ns = time.time_ns
_file = Path(os.environ["SHIFTED_BY"])


def _shifted_ns() -> int:
    return _true_ns() + int(_file.read_text())


time.time_ns = _shifted_ns
time.time = lambda: _shifted_ns() / 1e9
