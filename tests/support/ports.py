"""Ports for programs that the tests start, and start again on the same ports.

A port that the kernel gives (port 0) may be given to any connection of another process until the program binds it, and
again while the program is down. These lie outside the range that the kernel gives from, so that only another caller of
this module could take one.
"""

import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
# Not the seed that a test or Hypothesis sets: two test processes would choose the same ports.
_dice = random.SystemRandom()


def free_ports(count: int) -> list[int]:
    """That many different ports of 127.0.0.1 that nobody listens on."""
    first, last = map(int, _RANGE.read_text().split()) if _RANGE.exists() else (32_768, 65_535)
    every = range(10_240, 65_536)
    ours = [port for port in every if not first <= port <= last] or every
    found: list[int] = []
    for port in _dice.sample(ours, len(ours)):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("too few ports are free")
