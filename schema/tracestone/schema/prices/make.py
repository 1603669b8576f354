"""Makes shipped.csv anew from litellm's price map.

    python -m tracestone.schema.prices.make FILE --origin 'litellm 1.110.2' [--from 2026-11-28] [--fix] [-o OUTPUT]

FILE is a `model_prices_and_context_window.json`, in litellm's wheel `model_prices_and_context_window_backup.json`.
A price that changed since the last time gets a row from the day --from on; the row before stays, for spans of before.
With --fix the last price was wrong, and is replaced. What FILE has no more keeps its price.
"""

import argparse
import sys
from pathlib import Path

from tracestone.schema import clock
from tracestone.schema.prices import changes, litellm_map, shipped, table_file
from tracestone.schema.prices.price import read_day


def main(arguments: list[str] | None = None) -> None:
    """Writes the file and says on standard error what changed. Raises Invalid."""
    parser = argparse.ArgumentParser(prog="python -m tracestone.schema.prices.make", description=__doc__)
    parser.add_argument("file", type=Path, help="litellm's map")
    parser.add_argument("--origin", required=True, help="what the map came with, such as 'litellm 1.110.2'")
    parser.add_argument("--from", dest="day", default=clock.today().isoformat(), help="day of the change, today")
    parser.add_argument("--fix", action="store_true", help="the last price was wrong")
    parser.add_argument("--anew", action="store_true", help="forget the last prices")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_name("shipped.csv"))
    given = parser.parse_args(arguments)
    known = [] if given.anew else list(shipped.prices())
    newer = litellm_map.read(given.file.read_text(encoding="utf-8"))
    changed = changes.changes(known, newer, read_day(given.day, "--from"), fix=given.fix)
    rows = {price.key: price for price in [*known, *changed]}
    about = (
        f"Prices of {given.origin}, as of {given.day}; USD per million tokens.",
        "Derived from model_prices_and_context_window.json of https://github.com/BerriAI/litellm, MIT License,",
        "Copyright (c) 2023 Berri AI; see NOTICE.",
    )
    given.output.write_text(table_file.write(rows.values(), about), encoding="utf-8")
    sys.stderr.write(f"{len(rows)} prices, of which {len(changed)} are new or changed\n")


if __name__ == "__main__":
    main()
