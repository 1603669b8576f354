"""Where the map puts what it knows: each key gets a slot.

A slot is a small number that says which column, which rank in it and which convention:
`(number of the column * RANKS + rank) * CONVENTIONS + convention`.
"""

from collections import defaultdict
from functools import cached_property

from tracestone.schema.mapping import fields
from tracestone.schema.mapping import tables as maps

RANKS = 64
CONVENTIONS = 64
WIDTH = RANKS * CONVENTIONS
# More than any slot has.
SLOT_BITS = 20
FIRST_NUMBER = 64
FIRST_CONTENT = 128
FIRST_EVIDENCE = 160
_NUMBER_FORMS = ("integer", "number", "seconds", "milliseconds")


class Slots:
    """The slots of a map's keys, and the numbers of its columns. Raises ValueError where the map is too large."""

    def __init__(self, tables: maps.Tables) -> None:
        self.tables = tables
        self.conventions = {convention.name: number for number, convention in enumerate(tables.conventions)}
        if len(self.conventions) >= CONVENTIONS:
            raise ValueError(f"conventions.csv: at most {CONVENTIONS - 1} conventions")

    @cached_property
    def columns(self) -> list[str]:
        """The stored columns."""
        return list(
            dict.fromkeys(
                source.column
                for source in self.tables.sources
                if source.form in maps.STORED_FORMS and source.form != "evidence"
            )
        )

    @cached_property
    def numbers(self) -> dict[tuple[str, str], int]:
        """The number of each stored column, for each form of its sources."""
        found = dict.fromkeys((source.column, source.form) for source in self.tables.sources)
        texts = [pair for pair in found if pair[1] in ("text", "texts")]
        counted = [pair for pair in found if pair[1] in _NUMBER_FORMS]
        if len(texts) + len(self.shared) >= FIRST_NUMBER or len(counted) >= FIRST_CONTENT - FIRST_NUMBER:
            raise ValueError("dialects.csv: too many columns")
        return {
            **{pair: number for number, pair in enumerate(texts, start=1)},
            **{pair: number for number, pair in enumerate(counted, start=FIRST_NUMBER)},
            ("input", "content"): FIRST_CONTENT,
            ("output", "content"): FIRST_CONTENT + 1,
        }

    @cached_property
    def shared(self) -> dict[str, int]:
        """Texts that fill more than one column, each with a number of its own; they must be the last of each column."""
        columns = defaultdict(set)
        for source in self.tables.sources:
            if source.form in ("text", "texts"):
                columns[source.key].add(source.column)
        keys = [key for key, names in columns.items() if len(names) > 1]
        return {key: number for number, key in enumerate(keys, start=FIRST_NUMBER - len(keys))}

    @cached_property
    def slots(self) -> dict[str, int]:
        """The slot of each key: attributes, and fields of those that hold JSON."""
        slots: dict[str, int] = {}
        ranks: dict[int, int] = defaultdict(int)
        for source in self.tables.sources:
            pair = (source.column, source.form)
            if pair in self.numbers:
                number = self.shared.get(source.key, self.numbers[pair])
                if source.key not in slots:
                    slots[source.key] = self._slot(number, ranks[number], source.convention)
                    ranks[number] += source.key not in self.shared
        # What fills nothing when it is stored tells the convention at least, and what it is.
        for source in self.tables.sources:
            key = fields.read(source.key)
            for name in (source.key,) if key.event else (key.attribute, source.key):
                number, rank = divmod(len(slots), RANKS)
                slots.setdefault(name, self._slot(FIRST_EVIDENCE + number, rank, source.convention))
        for convention in self.tables.conventions:
            if convention.needs:
                slots.setdefault(convention.needs, self._slot(FIRST_EVIDENCE, 0, convention.name))
        return slots

    def _slot(self, number: int, rank: int, convention: str) -> int:
        if rank >= RANKS:
            raise ValueError(f"dialects.csv: more than {RANKS} attributes for a column")
        return (number * RANKS + rank) * CONVENTIONS + self.conventions.get(convention, CONVENTIONS - 1)

    @cached_property
    def own(self) -> dict[str, int]:
        """The slots of attributes."""
        return {key: slot for key, slot in self.slots.items() if fields.read(key).own}
