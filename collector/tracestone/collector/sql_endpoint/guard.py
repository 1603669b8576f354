"""What a reader may not run. Decides on the engine's own parse; everything not allowed by list is refused.

A statement goes through four steps, and only its checked form reaches the engine to be run:

1. The engine's parser writes it canonically (`formatQuery`): comments, heredocs and odd spellings are gone, a
   second statement is an error. From here on only this text is used.
2. Its last FORMAT and SETTINGS clauses are taken off; the settings are checked by list and against the
   limits.
3. The tokens are checked: no INTO OUTFILE, no name of a refused function, with brackets or without (a function
   may be handed to another as an argument: `arrayMap(file, [...])`), nothing but plain words in SHOW. This
   covers what the syntax tree does not print (column transformers, conditions of SHOW).
4. The engine's syntax tree (`EXPLAIN AST`, with the parameters bound, so that an Identifier parameter is seen
   as the name it stands for) is checked node by node: kinds of node, functions, table functions, tables and
   databases.

Under all this the statement runs with `readonly = 1`, which alone is not enough: the scalar `file('/etc/…')`,
`INTO OUTFILE` and `DESCRIBE url(…)` pass it, and in the engine's own database `default` a table's name may be
a path.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tracestone.collector.sql_endpoint.allowed import (
    FUNCTION_CATEGORIES,
    FUNCTIONS,
    FUNCTIONS_REFUSED,
    PATH_COLUMNS,
    PATH_TABLES,
    SYSTEM_TABLES,
    TABLE_FUNCTIONS,
)
from tracestone.collector.sql_endpoint.refusals import Kind, Refused
from tracestone.collector.sql_endpoint.syntax_tree import (
    PARTS,
    STATEMENTS,
    Node,
    children,
    every_column,
    parse_tree,
    said,
)
from tracestone.collector.sql_endpoint.tokens import Parts, Token, split

Parse = Callable[[str], str]

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\x85]")
_FIRST_WORDS = ("SELECT", "WITH", "FROM", "EXPLAIN", "SHOW", "DESCRIBE", "EXISTS")
_MAX_APPLIED = 50
_EXPLAINS = {
    "EXPLAIN",
    "EXPLAIN AST",
    "EXPLAIN SYNTAX",
    "EXPLAIN QUERY TREE",
    "EXPLAIN PIPELINE",
    "EXPLAIN ESTIMATE",
}
_SHOW_WORDS = {
    "TABLES",
    "DATABASES",
    "COLUMNS",
    "FUNCTIONS",
    "INDEXES",
    "SETTINGS",
    "CREATE",
    "FULL",
    "CHANGED",
    "EXTENDED",
}
_MEMBERSHIP = {
    "in",
    "notin",
    "globalin",
    "globalnotin",
    "nullin",
    "notnullin",
    "globalnullin",
    "globalnotnullin",
}


@dataclass(frozen=True)
class Checked:
    """A statement that may run: its canonical text without FORMAT and SETTINGS, and what those said; its tokens and
    the nodes of its syntax tree.

    `only_settings` tells that it reads nothing but system.settings, which says under `readonly = 1` that no
    setting can be changed; drivers ask it to learn which settings they may send.
    """

    text: str
    format: str | None
    settings: dict[str, str | None]
    only_settings: bool
    tokens: tuple[Token, ...]
    nodes: tuple[Node, ...]


class Guard:
    """The rules for one engine and its public database."""

    def __init__(
        self, database: str, functions: Iterable[Mapping[str, object]], table_functions: Iterable[str]
    ) -> None:
        """`functions` are the engine's: name, alias_to, is_aggregate, categories."""
        self.database = database
        self._functions = _allowed_functions(functions)
        self._table_functions = {name.lower() for name in table_functions}
        self._allowed_table_functions = {name.lower() for name in TABLE_FUNCTIONS}

    def check(self, canonical: str, database: str, parameters: Mapping[str, str], parse: Parse) -> Checked:
        """The form of a canonical statement that may run with `database` as the current one. Raises Refused.

        `parse` returns the engine's syntax tree of a canonical statement, its parameters bound.
        """
        parts = split(canonical)
        self._check_tokens(parts, parameters)
        nodes = parse_tree(parse(parts.body))
        tables = set()
        for place, node in enumerate(nodes):
            self._check_kind(nodes, place)
            if node.kind == "Function":
                self._check_function(nodes, place, database)
            elif node.kind == "Identifier":
                self._check_handed_on(node.name)
            elif node.kind == "TableIdentifier":
                tables.add(self._check_table(node.name, database))
        self._check_statement(nodes, parts, database)
        if nodes[0].kind.startswith(("Select", "Explain", "DescribeQuery")):
            for table in sorted(tables):
                _check_paths(table, nodes, parts.tokens)
        return Checked(
            text=parts.body,
            format=parts.format,
            settings=parts.settings,
            only_settings=tables == {"system.settings"} and nodes[0].kind == "SelectWithUnionQuery",
            tokens=parts.tokens,
            nodes=tuple(nodes),
        )

    def _check_tokens(self, parts: Parts, parameters: Mapping[str, str]) -> None:
        found = parts.tokens
        if not found:
            raise Refused(Kind.SYNTAX_ERROR, "The statement is empty")
        if not found[0].is_word(*_FIRST_WORDS) and not found[0].is_sign("("):
            raise _refused_statement(found[0].value)
        for token, after in zip(found, (*found[1:], None), strict=True):
            if token.kind == "quoted" and _CONTROL.search(token.value):
                raise Refused(Kind.SYNTAX_ERROR, "A name must not hold control characters")
            if after is None:
                continue
            if token.is_word("INTO") and after.is_word("OUTFILE"):
                raise Refused(Kind.READONLY, "INTO OUTFILE is refused: this endpoint is read-only and writes no file")
            if token.is_word("PARALLEL") and after.is_word("WITH"):
                raise Refused(Kind.READONLY, "PARALLEL WITH is refused: send one statement at a time")
            if token.names and after.is_sign("("):
                self._check_name(token.value)
        self._check_bare_names(found)
        applied = [place for place, token in enumerate(found) if token.is_word("APPLY")]
        if len(applied) > _MAX_APPLIED:
            # The engine's analysis of a chain of them takes a time that grows with its square, and no limit ends it.
            raise Refused(Kind.QUERY_IS_TOO_LARGE, f"APPLY is served up to {_MAX_APPLIED} times in a statement")
        for name in _identifier_parameters(found):
            value = parameters.get(name, "")
            if not value or _CONTROL.search(value) or any(sign in value for sign in '\\`"'):
                raise Refused(Kind.SYNTAX_ERROR, f"The name given as the parameter {name} must be a plain name")
            self._check_handed_on(value)
        if found[0].is_word("SHOW"):
            _check_show(found)

    def _check_bare_names(self, found: tuple[Token, ...]) -> None:
        """Any name may be a function that is handed to another, but not what follows a dot or is an alias."""
        for before, token in zip((None, *found), found, strict=False):
            if token.names and not (before is not None and (before.is_sign(".") or before.is_word("AS"))):
                self._check_handed_on(token.value)

    def _check_handed_on(self, name: str) -> None:
        """A name without brackets: a column, or a function as the argument of another."""
        if not self._functions.get(name.strip().lower(), True):
            raise Refused(
                Kind.ACCESS_DENIED,
                f"The function {name} is refused to readers, also as an argument; "
                f"write a column of this name with its table's, as t.{name}",
            )

    def _check_name(self, name: str) -> None:
        """A name in front of a bracket; names unknown to the engine are left to its own error."""
        lower = name.lower()
        if self._functions.get(lower, False) or lower in self._allowed_table_functions:
            return
        if lower in self._functions:
            raise Refused(
                Kind.ACCESS_DENIED,
                f"The function {name} is refused to readers: it is not on the list of safe functions",
            )
        if lower in self._table_functions:
            raise _refused_table_function(name)

    def _check_kind(self, nodes: list[Node], place: int) -> None:
        node = nodes[place]
        if place == 0 and node.kind not in STATEMENTS:
            raise _refused_statement(said(node))
        if node.kind not in PARTS:
            raise Refused(Kind.READONLY, f"The statement holds {said(node)}, which this endpoint does not serve")
        if node.kind == "Set" and not (place == 1 and nodes[0].kind == "Explain"):
            raise Refused(
                Kind.SETTING_CONSTRAINT_VIOLATION,
                "SETTINGS is served only at the end of the whole statement, not inside a part of it",
            )
        if place > 0 and node.kind in ("Explain", "DescribeQuery"):
            raise Refused(Kind.READONLY, f"{said(node)} inside another statement is refused")

    def _check_function(self, nodes: list[Node], place: int, database: str) -> None:
        node, lower = nodes[place], nodes[place].name.lower()
        if nodes[place - 1].kind == "TableExpression":
            if lower not in self._allowed_table_functions:
                raise _refused_table_function(node.name)
            return
        if lower in self._table_functions and lower not in self._functions:
            raise _refused_table_function(node.name)
        self._check_name(node.name)
        if lower in _MEMBERSHIP:
            # `x IN name` reads the table `name`. A bare name may be a column as well, but not when the current
            # database is the engine's own.
            depth = node.depth + 2
            arguments = [child for child in children(nodes, place, 2) if child.depth == depth]
            for child in arguments[1:2]:
                if child.kind == "Identifier" and ("." in child.name or database != self.database):
                    table = self._check_table(child.name, database)
                    if _has_paths(table):
                        raise _refused_paths(table)

    def _check_table(self, name: str, database: str) -> str:
        if _CONTROL.search(name) or any(sign in name for sign in "/\\()"):
            raise Refused(Kind.ACCESS_DENIED, "A table's name must not look like a path")
        home, dot, table = name.partition(".")
        if not dot:
            home, table = database, name
        self.check_database(home)
        if home == "system" and table not in SYSTEM_TABLES:
            raise Refused(
                Kind.ACCESS_DENIED,
                f"The table system.{table} is refused to readers; it is not on the list of safe ones",
            )
        return f"{home}.{table}"

    def check_database(self, name: str) -> None:
        """Raises Refused unless readers may look into this database."""
        if name not in (self.database, "system") and name.lower() != "information_schema":
            raise Refused(
                Kind.ACCESS_DENIED,
                f"The database {name} is refused to readers; the tables are in the database {self.database}",
            )

    def _check_statement(self, nodes: list[Node], parts: Parts, database: str) -> None:
        root = nodes[0]
        if root.kind == "Explain":
            if root.name not in _EXPLAINS:
                raise Refused(Kind.READONLY, f"{root.name or 'This kind of EXPLAIN'} is refused to readers")
            explained = [node for node in nodes if node.depth == 1 and node.kind != "Set"]
            if not explained or any(not node.kind.startswith("Select") for node in explained):
                raise Refused(Kind.READONLY, "Only a SELECT can be explained here")
        elif root.kind.startswith(("Exists", "ShowCreate")):
            names = [node.name for node in nodes if node.depth == 1 and node.kind == "Identifier"]
            if root.kind.endswith("DatabaseQuery"):
                self.check_database(names[0] if names else "")
            else:
                self._check_table(".".join(names), database)
        elif parts.tokens[0].is_word("SHOW"):
            self._check_shown(parts.tokens, database)

    def _check_shown(self, found: tuple[Token, ...], database: str) -> None:
        """SHOW … FROM: for columns and indexes a table and perhaps its database, else a database."""
        names = [after.value for word, after in zip(found, found[1:], strict=False) if word.is_word("FROM", "IN")]
        if any(token.is_word("COLUMNS", "INDEXES") for token in found[1:4]):
            self._check_table(".".join([*names[1:2], *names[:1]]), database)
        elif names:
            self.check_database(names[0])


def _check_show(found: tuple[Token, ...]) -> None:
    """SHOW's conditions are not in the syntax tree, so only plain words, names and texts are served."""
    if len(found) < 2 or not found[1].is_word(*_SHOW_WORDS):
        raise Refused(
            Kind.READONLY,
            "Of SHOW, this endpoint serves TABLES, DATABASES, COLUMNS, INDEXES, FUNCTIONS, SETTINGS and CREATE TABLE",
        )
    for token in found:
        if token.is_word("WHERE") or (token.kind == "sign" and token.value != "."):
            raise Refused(
                Kind.READONLY,
                "SHOW is served with FROM, LIKE and LIMIT only; select from system.tables instead",
            )


def _allowed_functions(functions: Iterable[Mapping[str, object]]) -> dict[str, bool]:
    """Every known function in lower case, and whether readers may call it. An alias is as its original is."""
    rows = list(functions)
    own = {str(row["name"]): row for row in rows}
    allowed: dict[str, bool] = {}
    for row in rows:
        name = str(row["name"])
        original = own.get(str(row["alias_to"]) or name, row)
        real = str(original["name"])
        safe = real in FUNCTIONS or name in FUNCTIONS or str(original["categories"]) in FUNCTION_CATEGORIES
        safe = safe or (bool(original["is_aggregate"]) and not original["categories"])
        if real in FUNCTIONS_REFUSED or name in FUNCTIONS_REFUSED:
            safe = False
        # Two functions may differ in case only; both must be safe.
        allowed[name.lower()] = safe and allowed.get(name.lower(), True)
    return allowed


def _has_paths(table: str) -> bool:
    home, _, name = table.partition(".")
    return home == "system" and name in PATH_TABLES


def _check_paths(table: str, nodes: list[Node], found: tuple[Token, ...]) -> None:
    """A statement over a table with paths must name its columns, and none of those."""
    if not _has_paths(table):
        return
    for place, node in enumerate(nodes):
        if every_column(nodes, place) or (node.kind == "Identifier" and node.name.rpartition(".")[2] in PATH_COLUMNS):
            raise _refused_paths(table)
    if any(token.names and token.value in PATH_COLUMNS for token in found):
        raise _refused_paths(table)


def _identifier_parameters(found: tuple[Token, ...]) -> list[str]:
    """The names of all `{name:Identifier}`."""
    return [
        name.value
        for name, colon, kind in zip(found, found[1:], found[2:], strict=False)
        if colon.is_sign(":") and kind.is_word("Identifier")
    ]


def _refused_statement(what: str) -> Refused:
    return Refused(
        Kind.READONLY,
        f"Only SELECT, EXPLAIN, SHOW, DESCRIBE and EXISTS are served here, read-only; this is {what[:50]}",
    )


def _refused_paths(table: str) -> Refused:
    return Refused(
        Kind.ACCESS_DENIED,
        f"{table} also tells where the server keeps its files, so name the columns you need in place of *; "
        f"refused are {', '.join(sorted(PATH_COLUMNS))}",
    )


def _refused_table_function(name: str) -> Refused:
    return Refused(
        Kind.ACCESS_DENIED,
        f"The table function {name} is refused to readers: it is not among those that reach nothing outside",
    )
