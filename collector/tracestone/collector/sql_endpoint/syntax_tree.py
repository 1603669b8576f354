"""The engine's syntax tree of a statement, as `EXPLAIN AST` prints it: one node a line, indented by depth.

    SelectWithUnionQuery (children 1)
     ExpressionList (children 1)
      SelectQuery (children 2)
       ...
        TableExpression (children 1)
         TableIdentifier system.one

A name is printed raw, so whoever reads this refuses names with control characters before.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tracestone.collector.sql_endpoint.refusals import Kind, Refused

_LINE = re.compile(r"^(?P<indent> *)(?P<kind>[A-Za-z:]+(?: definition)?)(?: (?P<rest>.*))?$")
_SUFFIX = re.compile(r"(?: \(alias .*\))?(?: \(children \d+\))?$")
STATEMENTS = {
    "SelectWithUnionQuery",
    "SelectIntersectExceptQuery",
    "SelectQuery",
    "Explain",
    "DescribeQuery",
    "ExistsTableQuery",
    "ExistsViewQuery",
    "ExistsDatabaseQuery",
    "ShowTables",
    "ShowColumns",
    "ShowFunctions",
    "ShowIndexes",
    "ShowCreateTableQuery",
    "ShowCreateViewQuery",
    "ShowCreateDatabaseQuery",
}
PARTS = {
    "ExpressionList",
    "Asterisk",
    "QualifiedAsterisk",
    "Identifier",
    "TableIdentifier",
    "Function",
    "Literal",
    "Subquery",
    "WithElement",
    "TablesInSelectQuery",
    "TablesInSelectQueryElement",
    "TableExpression",
    "TableJoin",
    "ArrayJoin",
    "OrderByElement",
    "InterpolateElement",
    "SampleRatio",
    "WindowDefinition",
    "WindowListElement",
    "ColumnsRegexpMatcher",
    "ColumnsListMatcher",
    "QualifiedColumnsRegexpMatcher",
    "QualifiedColumnsListMatcher",
    "ColumnsTransformerList",
    "ColumnsApplyTransformer",
    "ColumnsExceptTransformer",
    "ColumnsReplaceTransformer",
    "ColumnsReplaceTransformer::Replacement",
    "DataType",
    "EnumDataType",
    "NameTypePair",
    "TupleDataType",
    "Set",
    *STATEMENTS,
}


_EVERY_COLUMN = {
    "Asterisk",
    "QualifiedAsterisk",
    "ColumnsRegexpMatcher",
    "ColumnsListMatcher",
    "QualifiedColumnsRegexpMatcher",
    "QualifiedColumnsListMatcher",
}


@dataclass(frozen=True)
class Node:
    """One line of the engine's syntax tree."""

    depth: int
    kind: str
    name: str


def parse_tree(tree: str) -> list[Node]:
    """All nodes, the root first. Raises Refused when a line is not understood."""
    found = []
    for line in tree.split("\n"):
        if not line.strip():
            continue
        match = _LINE.match(line)
        if match is None:
            raise Refused(Kind.READONLY, "The statement cannot be checked, so it is not run")
        found.append(Node(len(match["indent"]), match["kind"], _SUFFIX.sub("", match["rest"] or "", count=1)))
    if not found:
        raise Refused(Kind.READONLY, "The statement cannot be checked, so it is not run")
    return found


def every_column(nodes: Sequence[Node], place: int) -> bool:
    """Whether a node stands for columns that the statement does not name. The `*` of `count(*)` stands for none."""
    counted = nodes[place - 2].kind == "Function" and nodes[place - 2].name == "count"
    return nodes[place].kind in _EVERY_COLUMN and not counted


def children(nodes: list[Node], place: int, levels: int) -> list[Node]:
    """The nodes below `place`, down to `levels` levels."""
    below = []
    for node in nodes[place + 1 :]:
        if node.depth <= nodes[place].depth:
            break
        if node.depth <= nodes[place].depth + levels:
            below.append(node)
    return below


def said(node: Node) -> str:
    """A node's kind for a person: InsertQuery is INSERT."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", node.kind.removesuffix("Query")).upper()
    return words if node.kind != "SYSTEM" else "SYSTEM"
