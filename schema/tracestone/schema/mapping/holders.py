"""Which attributes and events hold JSON that the map looks into, when it does, and for what."""

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

from tracestone.schema.mapping import fields, slots, sql_text
from tracestone.schema.mapping import tables as maps

# What answers under a name of its own, with an id and tokens.
_CALLS = ("llm", "embedding", "reranker")


class Holders:
    """What the template needs to take fields out of JSON."""

    def __init__(self, places: slots.Slots) -> None:
        self.places = places
        self.tables = places.tables

    def values(self) -> dict[str, str]:
        """What is taken out of the JSON of attributes and events: which of them is looked into when, and for what.

        Each way to look is a bit. Those that want an attribute stand above its slot; which a span allows depends on
        whether it says that it is a call of a model, and whether it lacks what lists may tell.
        """
        inner = {text: key for text in self.places.slots if not (key := fields.read(text)).own}
        ways: dict[str, int] = defaultdict(int)
        allowed = [0, 0, 0, 0]
        given = []
        quoted = 0
        for number, (shape, of_a_call, listed) in enumerate(self._ways(inner)):
            for attribute in shape.attributes:
                ways[attribute] |= 1 << number
            for case in range(4):
                allowed[case] |= (not of_a_call or case & 1) and (not listed or case >> 1) and 1 << number
            form = "whole" if not shape.paths else "listed" if listed else "one"
            # under a name that any other may have given, a text alone is not enough
            quoted |= (form == "whole" and of_a_call) and 1 << number
            given.append(sql_text.filled(f"inside/{form}", {"way": str(1 << number), "type": sql_text.typed(shape)}))
        kind_bit = slots.SLOT_BITS + len(given)
        keys = {key: slot | ways[key] << slots.SLOT_BITS for key, slot in self.places.own.items()}
        for text, bit in (
            *((text, kind_bit) for text in self._kinds),
            *((text, kind_bit + 1) for text in self._listed),
            *((source.key, kind_bit + 2) for source in self.tables.of("tags", maps.LABELS)),
        ):
            keys[text] |= 1 << bit
        events = [key.event for key in inner.values() if key.event]
        told = fields.Shape()
        told.takes(fields.Key(fields.EVENT, (attribute,)) for _, attribute in events)
        event_ways = {name: each for name, each in ways.items() if name.startswith(fields.EVENT)}
        return {
            "keys": sql_text.texts(keys),
            "key_slots": sql_text.numbers(keys.values()),
            "slot_bits": str(slots.SLOT_BITS),
            "slots_end": str(1 << slots.SLOT_BITS),
            "lacking": self._lacking(keys),
            "kind_bit": str(kind_bit),
            "listed_bit": str(kind_bit + 1),
            "labels_bit": str(kind_bit + 2),
            "kinds_of_a_call": sql_text.texts(sorted(set().union(*self._kinds.values()))),
            "allowed": sql_text.numbers(allowed),
            "ways_without_quotes": str((1 << len(given)) - 1 & ~quoted),
            "fields_given": ", ".join(given),
            "field_names": sql_text.texts({key.name: None for key in inner.values()}),
            "field_slots": sql_text.numbers(
                {key.name: self.places.slots[text] for text, key in inner.items()}.values()
            ),
            "events": sql_text.texts(dict.fromkeys(name for name, _ in events)),
            "event_type": sql_text.typed(told),
            "event_holders": sql_text.texts(event_ways),
            "event_ways": sql_text.numbers(event_ways.values()),
        }

    def _ways(self, inner: dict[str, fields.Key]) -> Iterator[tuple[fields.Shape, bool, bool]]:
        """The shapes of what is looked for, whether in calls of models only, and whether in lists."""
        calls = {source.key for source in self.tables.sources if source.of_a_call}
        for of_a_call in (False, True):
            mine = [key for text, key in inner.items() if (text in calls) == of_a_call]
            yield fields.Shape(list(dict.fromkeys(key.attribute for key in mine if key.whole))), of_a_call, False
            for listed in (False, True):
                for shape in fields.shapes(key for key in mine if not key.whole and key.listed == listed):
                    yield shape, of_a_call, listed

    @cached_property
    def _kinds(self) -> dict[str, set[str]]:
        """What attributes say, in lower case, of a span that is a call of a model."""
        said: dict[str, set[str]] = defaultdict(set)
        for kind in self.tables.span_types:
            if kind.span_type in _CALLS and not kind.key.startswith("(") and not kind.value.startswith("*"):
                said[fields.read(kind.key).attribute].add(kind.value)
        return said

    @cached_property
    def _listed(self) -> set[str]:
        """Attributes that tell what is looked for in lists too."""
        columns = {source.column for source in self.tables.sources if fields.read(source.key).listed}
        return {source.key for source in self.tables.sources if source.column in columns} & self.places.own.keys()

    def _lacking(self, keys: dict[str, int]) -> str:
        """A bit for each convention whose telling attribute a span lacks."""
        bits = [
            f"if(has(key_slots, {keys[convention.needs]}), 0, {1 << self.places.conventions[convention.name]})"
            for convention in self.tables.conventions
            if convention.needs
        ]
        return f"toUInt64({' + '.join(bits) or '0'})"
