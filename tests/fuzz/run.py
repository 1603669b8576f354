"""Fuzzes the receiver's decode path with Atheris (libFuzzer), starting from the inputs in `corpus/`.

    python tests/fuzz/run.py json -runs=1000000        libFuzzer's own options follow the name of the target

What it finds new is kept outside of the repository, in a temporary folder or the one given with --keep. It stops at the
first input that breaks a promise, that takes longer than 10 s, or when memory grows beyond 512 MiB; every line of its
progress ends with what it holds (`rss`).
"""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

with atheris.instrument_imports(include=["tracestone", "json"]):
    from fuzz.targets import TARGETS


def main() -> None:
    """Runs one target until libFuzzer ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--keep", type=Path, help="folder for the inputs that reach something new")
    arguments, options = parser.parse_known_args()
    kept = arguments.keep or Path(tempfile.mkdtemp(prefix="tracestone-fuzz-"))
    kept.mkdir(parents=True, exist_ok=True)
    limits = ["-rss_limit_mb=512", "-timeout=10", "-max_len=4096", f"-artifact_prefix={kept}/"]
    atheris.Setup(
        [sys.argv[0], *limits, *options, str(kept), str(HERE / "corpus" / arguments.target)],
        TARGETS[arguments.target],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
