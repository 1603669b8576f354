"""Fields of JSON that attributes and events hold, at any depth: what their keys name, and the types that take them out.

A key of `dialects.csv` names an attribute and, after each `>`, a field in the JSON that it holds: `usage>input_tokens`.

- `*` stands for all items of a list, `1` for its first one.
- Nothing after the last `>` is JSON that is one text.
- `event:NAME>ATTRIBUTE` is an attribute of the span's events of that name, and of log records joined as such.

One typed JSONExtract takes out all that is wanted of a text: it reads the text once and copies nothing else.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tracestone.schema.errors import StartRefused

EVENT = "event:"
_ALL = "*"


@dataclass(frozen=True)
class Key:
    """Where a value is: an attribute (of events: `event:NAME>ATTRIBUTE`), and the fields that lead to it in there.

    The path is empty where the attribute itself is the value, `("",)` where it is JSON that is one text.
    """

    attribute: str
    path: tuple[str, ...]

    @property
    def event(self) -> tuple[str, str] | None:
        """Of an event: its name and its attribute."""
        if not self.attribute.startswith(EVENT):
            return None
        name, _, attribute = self.attribute.removeprefix(EVENT).partition(">")
        return name, attribute

    @property
    def own(self) -> bool:
        """Whether the value is an attribute of the span, as it came."""
        return not self.path and self.event is None

    @property
    def whole(self) -> bool:
        """Whether it is the whole of a text, in JSON or in an event."""
        return not self.own and self.path in ((), ("",))

    @property
    def listed(self) -> bool:
        """Whether it is a value of each item of a list."""
        return _ALL in self.path

    @property
    def name(self) -> str:
        """What it is called when it has been taken out: the attribute, `>`, the fields with points between them."""
        return f"{self.attribute}>{_flat(self.path)}"


def read(text: str) -> Key:
    """What a key of the map names. Raises StartRefused where it can name nothing."""
    parts = text.split(">")
    holder = 2 if text.startswith(EVENT) else 1
    path = tuple(parts[holder:])
    names_one = all(parts[:holder]) and len(parts) >= holder and "" not in path[:-1]
    numbers = {part for part in path if part.isdecimal()}
    if not names_one or path[-1:] == (_ALL,) or path.count(_ALL) > 1 or numbers - {"1"}:
        raise StartRefused(f"dialects.csv: the key {text!r} names no value.")
    return Key(">".join(parts[:holder]), path)


@dataclass
class Shape:
    """One type for the wanted fields of several attributes, as far as they can have one."""

    attributes: list[str] = field(default_factory=list)
    paths: dict[tuple[str, ...], None] = field(default_factory=dict)

    def takes(self, keys: Iterable[Key]) -> bool:
        """Takes in the keys of an attribute, unless one looks into what another takes whole."""
        keys = list(keys)
        paths = {**self.paths, **dict.fromkeys(key.path for key in keys)}
        inner = {path[:depth] for path in paths for depth in range(1, len(path))}
        lists = {path[:-1] for path in inner if path[-1] == _ALL and len(path) > 1}
        beside = any(path[:-1] in lists and path[-1] != _ALL for path in (*inner, *paths))
        if beside or inner & paths.keys() or len({_flat(path) for path in paths}) < len(paths):
            return False
        self.attributes += dict.fromkeys(key.attribute for key in keys)
        self.paths = paths
        return True

    @property
    def type(self) -> str:
        """The type as JSONExtract is told it, a text each value; flattened, it has one element a value."""
        return _tuple(list(self.paths))


def shapes(keys: Iterable[Key]) -> list[Shape]:
    """As few shapes as can be."""
    attributes: dict[str, list[Key]] = {}
    for key in keys:
        attributes.setdefault(key.attribute, []).append(key)
    found: list[Shape] = []
    for wanted in attributes.values():
        if not any(shape.takes(wanted) for shape in found):
            found.append(Shape())
            if not found[-1].takes(wanted):
                raise StartRefused(
                    f"dialects.csv: of {wanted[0].attribute!r} a field is taken whole and looked into as well."
                )
    return found


def _flat(path: tuple[str, ...]) -> str:
    return ".".join(part for place, part in enumerate(path) if place == 0 or part != _ALL)


def _tuple(paths: list[tuple[str, ...]]) -> str:
    """A tuple of the fields; a list is a tuple of its first item, or an array. At the top `*` is a field."""
    names = dict.fromkeys(path[0] for path in paths)
    types = {name: _type(list(_below(paths, name))) for name in names}
    if _ALL in types:
        types[_ALL] = f"Array({types[_ALL]})"
    return f"Tuple({', '.join(f'{_identifier(name)} {each}' for name, each in types.items())})"


def _type(paths: list[tuple[str, ...]]) -> str:
    if paths == [()]:
        return "String"
    if all(path[0] == _ALL for path in paths):
        return f"Array({_type(list(_below(paths, _ALL)))})"
    return _tuple(paths)


def _below(paths: list[tuple[str, ...]], name: str) -> Iterator[tuple[str, ...]]:
    return (path[1:] for path in paths if path[0] == name)


def _identifier(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
