"""Rules of the repository that no linter knows: where SQL, the environment and the clock may be; names; settings."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.configuration_page import page
from tracestone.schema import sqlfiles
from tracestone.schema.settings import Settings

ROOT = Path(__file__).parents[2]
PARTS = ("protos", "schema", "collector", "scoring")
SCHEMA = Path("schema/tracestone/schema")

_STATEMENT = re.compile(
    r"^\s*(?:SELECT\s+\S|WITH\s+\S+\s+AS\b|INSERT\s+INTO\b|UPDATE\s+\S+\s+SET\b|DELETE\s+FROM\b|TRUNCATE\b|OPTIMIZE\b"
    r"|(?:CREATE|ALTER|DROP)\s+(?:OR\s+REPLACE\s+)?(?:TABLE|DATABASE|SCHEMA|VIEW|MATERIALIZED|INDEX|ROLE|USER)\b)"
)
_CLAUSE = re.compile(r"\b(?:WHERE|ORDER BY|GROUP BY|INNER JOIN|LEFT JOIN|LIMIT \d|FROM [a-z_]+)\b")
# Where fragments of SQL are written on purpose: the map's generator, and filters from a closed table.
_MAY_HOLD_SQL = {SCHEMA / "mapping/generate.py", SCHEMA / "filter_sql.py", SCHEMA / "migrate.py"}
# These speak about readers' statements, and run none of their own.
_SPEAK_OF_SQL = Path("collector/tracestone/collector/sql_endpoint")


def _modules() -> list[Path]:
    found = [path.relative_to(ROOT) for part in PARTS for path in (ROOT / part).rglob("*.py")]
    return [path for path in found if not path.name.endswith("_pb2.py")]


def _tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def _texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every text of a module that is no docstring, with its line."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def _names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every dotted name that a module uses or imports, such as os.environ, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.lineno, f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_there_are_modules() -> None:
    assert len(_modules()) > 50


def test_sql_is_in_sql_files() -> None:
    found = []
    for path in _modules():
        if path in _MAY_HOLD_SQL:
            continue
        for line, text in _texts(_tree(path)):
            speaks = _SPEAK_OF_SQL in path.parents
            if _STATEMENT.search(text) or (not speaks and _CLAUSE.search(text)):
                found.append(f"{path}:{line}: {text[:60]!r}")
    assert found == []


@pytest.mark.parametrize(
    "text", ["SELECT 1", " INSERT INTO t", "DROP TABLE x", "CREATE OR REPLACE VIEW v", "WITH a AS ("]
)
def test_a_statement_is_recognised(text: str) -> None:
    assert _STATEMENT.search(text)


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        ({"os.environ", "os.getenv", "os.putenv", "os.environb"}, {SCHEMA / "settings.py"}),
        (
            {
                *("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter"),
                *("datetime.now", "datetime.utcnow", "date.today"),
            },
            {SCHEMA / "clock.py"},
        ),
    ],
    ids=["environment", "clock"],
)
def test_one_module_reads(names: set[str], allowed: set[Path]) -> None:
    users = {path for path in _modules() if names & {name for _, name in _names(_tree(path))}}
    assert users == allowed


def test_the_namespace_has_no_init() -> None:
    for part in PARTS:
        assert not (ROOT / part / "tracestone" / "__init__.py").exists()
        assert not (ROOT / part / "__init__.py").exists()


def test_init_files_hold_a_docstring_only() -> None:
    files = [path for path in _modules() if path.name == "__init__.py"]
    assert files
    for path in files:
        (only,) = _tree(path).body
        assert isinstance(only, ast.Expr), path
        assert isinstance(only.value, ast.Constant), path


def test_every_module_says_what_it_is() -> None:
    assert [str(path) for path in _modules() if not ast.get_docstring(_tree(path))] == []


def test_imports_point_one_way() -> None:
    program = Path(sys.executable).parent / "lint-imports"
    answer = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_setting_has_help_and_the_page_tells_them_all() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
    assert (ROOT / "docs/configuration.md").read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("store", ["clickhouse", "postgres"])
def test_every_query_has_a_purpose_and_is_used(store: sqlfiles.Store) -> None:
    code = "\n".join((ROOT / path).read_text(encoding="utf-8") for path in _modules())
    for file in sorted((ROOT / SCHEMA / "sql" / store / "queries").glob("*.sql")):
        queries = sqlfiles.queries(store, file.stem)
        assert queries, file
        for name, text in queries.items():
            assert text.startswith("-- "), f"{file.name} {name}: says first what it is for"
            assert f'"{name}"' in code or f"'{name}'" in code, f"{file.name} {name} is not used"
