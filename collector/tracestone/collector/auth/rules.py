"""What a request asks of its caller's key, by port, method and path. What is not named is refused to bound keys."""

from starlette.types import Scope

from tracestone.collector.auth.http import Need

OPEN = Need(None)
_INGEST = Need("ingest", bound=True)
_READING_METHODS = ("GET", "HEAD")
# MLflow's API reads with POST where the question may be long.
READING_POSTS = frozenset(
    prefix + path
    for prefix in ("/api", "/ajax-api")
    for path in ("/2.0/mlflow/experiments/search", "/3.0/mlflow/traces/batchGetInfos")
)
# What keeps to the caller's experiments: MLflow's API, the pages, the prices and the reviews.
BOUND_PATHS = ("/", "/version", "/prices", "/api/v1/prices", "/api/v1/prices/unknown", "/api/v1/reviews", "/reviews")
BOUND_PREFIXES = (
    "/api/2.0/mlflow/experiments/",
    "/ajax-api/2.0/mlflow/experiments/",
    "/api/3.0/mlflow/traces/",
    "/ajax-api/3.0/mlflow/traces/",
    "/experiments/",
    "/traces/",
    "/static/",
    "/api/v1/reviews/",
    "/reviews/",
)
# How this installation itself is looked after.
_ADMIN_PREFIXES = ("/api/v1/keys", "/api/v1/webhooks")
# Read by whoever may read, changed by whoever looks after this installation.
_ADMIN_CHANGES = (
    "/api/v1/budgets",
    "/api/v1/prices",
    "/api/v1/reprice",
    "/api/v1/renormalise",
    "/api/v1/rewrites",
)


def otlp_port(scope: Scope) -> Need:
    """The OTLP/HTTP port takes telemetry and nothing else."""
    return _INGEST


def main_port(scope: Scope) -> Need:
    """The port of the page and the API."""
    path: str = scope["path"]
    if path == "/health":
        return OPEN
    if path.startswith("/v1/"):
        return _INGEST
    if path.startswith(_ADMIN_PREFIXES):
        return Need("admin")
    if path.startswith(_ADMIN_CHANGES) and scope["method"] not in _READING_METHODS:
        return Need("admin")
    reads = scope["method"] in _READING_METHODS or path in READING_POSTS
    return Need("read" if reads else "write", bound=path in BOUND_PATHS or path.startswith(BOUND_PREFIXES))


def sql_port(scope: Scope) -> Need:
    """SQL reaches every experiment, and nothing that a statement may say could be bound to some with certainty."""
    return OPEN if scope["path"] in ("/ping", "/replicas_status") else Need("read")
