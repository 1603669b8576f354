"""The filter of an online configuration: one SQL condition over `traces`, `spans` or `sessions`, whatever its targets
are; nothing else of a client is SQL.

It is checked on ClickHouse's own parse (`EXPLAIN AST`), when it is defined and never by a parser of ours: a
condition is accepted only when every node of the tree is a literal, a column of `traces` or a function of
the list below. Subqueries, tables, aliases, lambdas, window functions, substitutions and functions that
reach out, sleep or give another answer next time are therefore not refused one by one; they
are just not on the list.

It is composed into a statement in one place, `compose`, always as

    ifNull(toBool((
    <condition>
    )), false)

and the check parses the very same text, so a condition that closes our parenthesis early shows as another
tree. NULL counts as false.
"""

import re
from collections.abc import Collection, Sequence

from tracestone.schema import contract, sqlfiles
from tracestone.schema.assessments import TargetType
from tracestone.schema.engines.columnar import Columnar, StatementFailed
from tracestone.schema.errors import Invalid

MAX_FILTER_CHARS = 4000
MARKER = "/* filter */"
STRATUM_MARKER = "/* stratum */"
FAIR_MARKER = "/* fair */"

TABLES: dict[TargetType, str] = {"span": "spans", "trace": "traces", "session": "sessions"}

# Of the verdict of an earlier scorer: as text, as a number, why there is none, and by question where there are several.
VERDICT_COLUMNS = ("verdict", "verdict_number", "verdict_error", "verdicts")

# By target the statements that parse a filter, tell its type and run it.
_STATEMENTS: dict[TargetType, tuple[str, str, str]] = {
    "span": ("parse_span", "type_span", "run_span"),
    "trace": ("parse_trace", "type_trace", "run_trace"),
    "session": ("parse_session", "type_session", "run_session"),
}

# As EXPLAIN AST prints them, lower-cased: operators appear under their function's name.
FUNCTIONS = frozenset(
    "and or not xor equals notequals less greater lessorequals greaterorequals in notin like notlike "
    "ilike notilike isnull isnotnull isnotdistinctfrom if multiif ifnull nullif coalesce assumenotnull "
    "plus minus multiply divide negate abs least greatest round floor ceil arrayelement tuple array map "
    "has hasany hasall length empty notempty mapcontains mapkeys mapvalues lower upper lowerutf8 "
    "upperutf8 lengthutf8 char_length trim trimboth trimleft trimright startswith endswith "
    "startswithcaseinsensitive position positioncaseinsensitive positionutf8 "
    "positioncaseinsensitiveutf8 match multisearchany hastoken concat substring substringutf8 left "
    "right toint64ornull touint64ornull tofloat64ornull toint64orzero tofloat64orzero toyear tomonth "
    "todayofweek tohour tointervalday tointervalhour tointervalminute tointervalsecond "
    "jsonextractstring jsonextractint jsonextractfloat jsonextractbool jsonhas isvalidjson".split()
)

_SHELL = """\
SelectWithUnionQuery (children 2)
 ExpressionList (children 1)
  SelectQuery (children 3)
   ExpressionList (children 1)
    Identifier experiment_id
   TablesInSelectQuery (children 1)
    TablesInSelectQueryElement (children 1)
     TableExpression (children 1)
      TableIdentifier {table}
   Function ifNull (children 1)
    ExpressionList (children 2)
     Function toBool (children 1)
      ExpressionList (children 1)"""
_TAIL = ["     Literal Bool_0", " Identifier Native"]
_NODE = re.compile(r"^ *(?P<kind>[A-Za-z]+)(?: (?P<detail>.*?))??(?: \(children (?P<children>\d+)\))?$", re.DOTALL)
_MEMBER = re.compile(r"^(LowCardinality\()?(Nullable\()?(String|Bool|U?Int(8|16|32|64)|Enum(8|16)\(.*)\)*$", re.DOTALL)
_BOOLEAN = re.compile(r"^(LowCardinality\()?(Nullable\()?(Bool|UInt8)\)*$")


def compose(statement: str, condition: str) -> str:
    """The statement with its `/* filter */` replaced by the condition; an empty condition keeps every row."""
    if statement.count(MARKER) != 1:
        raise ValueError(f"the statement must hold {MARKER} once")
    return statement.replace(MARKER, f"ifNull(toBool((\n{condition.strip() or 'true'}\n)), false)")


def compose_strata(statement: str, conditions: Sequence[str]) -> str:
    """The statement with `/* stratum */` replaced by the place, from 1, of the first condition that holds, else 0."""
    places = "".join(
        f"ifNull(toBool((\n{condition}\n)), false), {place}, " for place, condition in enumerate(conditions, 1)
    )
    return statement.replace(STRATUM_MARKER, f"multiIf({places}0)" if places else "0")


def compose_fair(statement: str, expression: str) -> str:
    """The statement with `/* fair */` replaced by the expression that tells whose a target is."""
    return statement.replace(FAIR_MARKER, expression)


async def check_member(
    columnar: Columnar, expression: str, target: TargetType = "trace", field: str = "fair_by"
) -> str:
    """The expression over the table of a kind of target that tells whose it is, trimmed; of text or whole numbers.

    Raises Invalid, naming the field, when it is not an allowed expression.
    """
    text = expression.strip()
    if not text:
        return ""
    kind = await _type_of(columnar, text, target, field, ())
    if _MEMBER.match(kind) is None:
        raise Invalid(field, f"must be text or a whole number for a {target}, but is of type {kind}")
    await _run(columnar, f"toString((\n{text}\n)) != ''", target, field)
    return text


async def check_filter(
    columnar: Columnar, condition: str, target: TargetType = "trace", field: str = "filter", *, judged: bool = False
) -> str:
    """The condition over the table of a kind of target, trimmed.

    Of targets that were `judged` by an earlier scorer it may use that verdict too.

    Raises Invalid, naming the field, when it is not an allowed condition.
    """
    text = condition.strip()
    if not text:
        return ""
    kind = await _type_of(columnar, text, target, field, VERDICT_COLUMNS if judged else ())
    if _BOOLEAN.match(kind) is None:
        raise Invalid(field, f"must be true or false for a {target}, but is of type {kind}")
    await _run(columnar, text, target, field)
    return text


async def _type_of(columnar: Columnar, text: str, target: TargetType, field: str, more_columns: Collection[str]) -> str:
    """The type of an allowed expression. Raises Invalid when it is not allowed."""
    if len(text) > MAX_FILTER_CHARS:
        raise Invalid(field, f"is longer than {MAX_FILTER_CHARS} characters")
    if "\x00" in text:
        raise Invalid(field, "holds a NUL character")
    parse, describe, _ = _statements(target)
    try:
        tree = [str(row["explain"]) for row in await columnar.query(compose(parse, text))]
        _Tree(TABLES[target], field, more_columns).check("\n".join(tree).split("\n"))
        described = await columnar.query(describe.replace(MARKER, f"(\n{text}\n)"))
        return str(described[0]["type"])
    except StatementFailed as error:
        raise _refused(field, error) from error


async def _run(columnar: Columnar, condition: str, target: TargetType, field: str) -> None:
    """Lets the engine run it on one row of nothing. Raises Invalid."""
    try:
        await columnar.query(compose(_statements(target)[2], condition))
    except StatementFailed as error:
        raise _refused(field, error) from error


def _statements(target: TargetType) -> list[str]:
    statements = sqlfiles.queries("clickhouse", "filters")
    return [statements[name] for name in _STATEMENTS[target]]


def _refused(field: str, error: StatementFailed) -> Invalid:
    return Invalid(field, f"ClickHouse refuses it: {_first_sentence(str(error))}")


class _Tree:
    """The check of a parse: nothing but what is on the lists, inside the place that is meant for it."""

    def __init__(self, table: str, field: str, more_columns: Collection[str]) -> None:
        self._table = table
        self._field = field
        self._columns = (contract.wanted()[table].keys() - {""}) | set(more_columns)

    def check(self, lines: list[str]) -> None:
        """Raises Invalid at the first thing that is not."""
        shell = _SHELL.format(table=self._table).splitlines()
        body = lines[len(shell) : -len(_TAIL)]
        top = [line for line in body if not line.startswith(" " * 8)]
        whole = lines[: len(shell)] == shell and lines[-len(_TAIL) :] == _TAIL
        if not whole or len(top) != 1 or not body or body[0] is not top[0]:
            raise Invalid(self._field, f"must be one condition over the columns of {self._table}")
        for line in body:
            self._check_node(line)

    def _check_node(self, line: str) -> None:
        node = _NODE.match(line)
        kind, detail = (node["kind"], node["detail"] or "") if node else ("", line.strip())
        if kind == "ExpressionList" and not detail:
            return
        if kind == "Literal" and not (" (alias " in detail and detail.endswith(")")):
            return
        if kind == "Identifier":
            if detail not in self._columns:
                raise Invalid(self._field, f"{detail} is not a column of {self._table}")
            return
        if kind == "Function":
            if "(alias " in detail:
                raise Invalid(self._field, "an alias is not allowed")
            if detail.lower() not in FUNCTIONS or (node and (node["children"] or "1") != "1"):
                raise Invalid(self._field, f"the function {detail} is not allowed here")
            return
        if "(alias " in detail:
            raise Invalid(self._field, "an alias is not allowed")
        names = {"Subquery": "a subquery", "Asterisk": "*", "QueryParameter": "a substitution"}
        raise Invalid(self._field, f"{names.get(kind, kind or 'this')} is not allowed")


def _first_sentence(message: str) -> str:
    """ClickHouse's reason without our wrapping and the list of what it had expected."""
    reason = message.split("DB::Exception:", 1)[-1].split("Expected one of", 1)[0]
    return " ".join(reason.split())[:300].rstrip(" .") + "."
