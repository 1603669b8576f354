"""What requests gave back is kept for the next one, in a process of its own: it is a choice of the whole process."""

import subprocess
import sys

_SHOWN = """
import resource
from tracestone.collector.memory import keep_for_requests
keep_for_requests()
def take(blocks, size):
    held = [bytes(range(256)) * (size // 256) for _ in range(blocks)]
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20
take(10, 3 << 20)
before = faults()
for _ in range(20):
    take(10, 3 << 20)
print((faults() - before) * resource.getpagesize() >> 20)
before = resident()
take(10, 32 << 20)
print(resident() - before)
"""


def test_what_requests_took_is_kept_and_what_is_large_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _SHOWN], capture_output=True, text=True, check=True, timeout=60)
    cleared, kept = map(int, done.stdout.split())
    assert cleared < 60  # MiB, of the 600 that were taken
    assert kept < 8  # MiB, of 320
