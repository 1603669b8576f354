"""Parameters of the scorers that are Python functions."""

import ast

from pydantic import Field, model_validator

from tracestone.schema.assessments import TargetType
from tracestone.schema.scorers.parameters import SPAN_OR_TRACE, Parameters

ARGUMENTS = ("inputs", "outputs", "expectations", "trace", "session")
_SESSION: frozenset[TargetType] = frozenset({"session"})


class Code(Parameters):
    """A function with the signature of MLflow's `@scorer`: `entry_point` names an installed one, `source` holds one.

    A function that takes `session` is for sessions; of an installed one `session_level` says so. `timeout` is in
    seconds; `memory_mb` is what the process of an uploaded one may need beyond Python itself.
    """

    entry_point: str | None = Field(None, min_length=1, max_length=200)
    session_level: bool = False
    source: str | None = Field(None, min_length=1, max_length=100_000)
    function: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")
    timeout: float = Field(5, gt=0, le=60)
    memory_mb: int = Field(256, ge=32, le=4096)

    @model_validator(mode="after")
    def _one(self) -> "Code":
        if (self.entry_point is None) == (self.source is None):
            raise ValueError("needs entry_point, or source with function")
        if (self.source is None) != (self.function is None):
            raise ValueError("function is given with source, and only then")
        if self.source is not None and self.session_level:
            raise ValueError("session_level goes with entry_point; a source tells by its function's arguments")
        if self.source is not None:
            _check(self._arguments())
        return self

    @property
    def targets(self) -> frozenset[TargetType]:
        """Sessions, or spans and traces."""
        of_session = self.session_level or (self.source is not None and "session" in _names(self._arguments()))
        return _SESSION if of_session else SPAN_OR_TRACE

    def _arguments(self) -> ast.arguments:
        """The arguments of the function in the source. Raises ValueError."""
        try:
            statements = ast.parse(self.source or "").body
        except SyntaxError as error:
            raise ValueError(f"source: line {error.lineno}: {error.msg}") from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise ValueError("source: is not Python") from error
        found = [item for item in statements if isinstance(item, ast.FunctionDef) and item.name == self.function]
        if not found:
            raise ValueError(f"source: defines no function {self.function}, or not at its top")
        return found[-1].args


def _names(arguments: ast.arguments) -> list[str]:
    return [argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)]


def _check(arguments: ast.arguments) -> None:
    """Every argument without a default must be one that a scorer gets."""
    if arguments.posonlyargs:
        raise ValueError("function: its arguments are given by name, so none may be positional only")
    needed = [argument.arg for argument in arguments.args[: len(arguments.args) - len(arguments.defaults)]]
    needed += [
        argument.arg
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is None
    ]
    unknown = [name for name in needed if name not in ARGUMENTS]
    if unknown:
        raise ValueError(f"function: the argument {unknown[0]} is none of {', '.join(ARGUMENTS)}")
