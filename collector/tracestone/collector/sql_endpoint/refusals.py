"""What a reader is told when a statement is not run, in ClickHouse's words and HTTP statuses.

An error's text is `Code: N. DB::Exception: <what and why>. (NAME)`; clients look for that shape. The statuses
follow ClickHouse's own table (src/Server/HTTP/exceptionCodeToHTTPStatus.cpp).
"""

from enum import Enum

from tracestone.schema.engines.columnar import StatementFailed


class Kind(Enum):
    """The error codes this endpoint gives itself; all others come from the engine."""

    BAD_ARGUMENTS = 36
    UNKNOWN_TYPE_OF_QUERY = 78
    UNKNOWN_DATABASE = 81
    NOT_IMPLEMENTED = 48
    SYNTAX_ERROR = 62
    UNKNOWN_FORMAT = 73
    UNKNOWN_SETTING = 115
    READONLY = 164
    TOO_MANY_SIMULTANEOUS_QUERIES = 202
    QUERY_IS_TOO_LARGE = 229
    SETTING_CONSTRAINT_VIOLATION = 452
    UNKNOWN_QUERY_PARAMETER = 456
    REQUIRED_PASSWORD = 194
    ACCESS_DENIED = 497
    AUTHENTICATION_FAILED = 516
    UNSUPPORTED_MEDIA_TYPE = 779


class Refused(StatementFailed):
    """A statement, setting or request this endpoint does not serve."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(f"Code: {kind.value}. DB::Exception: {reason}. ({kind.name})", kind.value)
        self.kind = kind
        self.reason = reason


_BAD_REQUEST = frozenset(
    {
        6,
        8,
        15,
        25,
        26,
        27,
        36,
        37,
        38,
        41,
        44,
        53,
        62,
        72,
        117,
        123,
        167,
        168,
        223,
        321,
        376,
        427,
        441,
        675,
        676,
    }
)
_NOT_FOUND = frozenset({46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511})
_OTHERS = {
    Kind.REQUIRED_PASSWORD.value: 401,
    Kind.AUTHENTICATION_FAILED.value: 401,
    Kind.NOT_IMPLEMENTED.value: 501,
    76: 503,
    159: 408,
    Kind.TOO_MANY_SIMULTANEOUS_QUERIES.value: 503,
    209: 503,
    Kind.QUERY_IS_TOO_LARGE.value: 413,
    439: 503,
    Kind.ACCESS_DENIED.value: 403,
    Kind.UNSUPPORTED_MEDIA_TYPE.value: 415,
}


def http_status(code: int) -> int:
    """The HTTP status ClickHouse answers an error code with."""
    if code in _BAD_REQUEST:
        return 400
    if code in _NOT_FOUND:
        return 404
    return _OTHERS.get(code, 500)
