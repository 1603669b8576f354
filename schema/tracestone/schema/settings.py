"""Every setting, with its default and help. The only module that reads the environment or a configuration file.

Sources, first wins: command-line flag, environment variable `TRACESTONE_<NAME>`, YAML file, default. A flag is the
setting's name with dashes; the YAML key is the name itself. Unknown YAML keys fail at start.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from tracestone.schema.call_limits import CallLimit
from tracestone.schema.errors import StartRefused

MIB = 1024 * 1024
GIB = 1024 * MIB

_SCHEMES = {"clickhouse_url": ("http", "https"), "postgres_url": ("postgresql", "postgres")}

PortNumber = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """The effective configuration of one process; frozen."""

    model_config = SettingsConfigDict(env_prefix="TRACESTONE_", extra="forbid", frozen=True)

    data_dir: Path = Field(Path("./tracestone-data"), description="Folder for everything this process stores.")
    host: str = Field("127.0.0.1", description="Address every port listens on.")
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="Names, besides localhost and host, by which browsers may reach the page, the API and SQL.",
    )
    otlp_grpc_port: PortNumber = Field(4317, description="OTLP over gRPC.")
    otlp_http_port: PortNumber = Field(4318, description="OTLP over HTTP.")
    port: PortNumber = Field(5000, description="API, page and /health.")
    sql_port: PortNumber = Field(8123, description="Read-only SQL over HTTP, in ClickHouse's protocol.")

    receivers: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that receive on the OTLP ports. 1: the main process does; more: each is one of its own.",
    )
    auth: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether every port demands an API key; auto: from the moment the first key is made on"
        " (see docs/security.md).",
    )
    insecure: bool = Field(False, description="Start on an address beyond loopback although no API key is demanded.")
    auth_grace_seconds: int = Field(
        3600, ge=0, description="How long known API keys are accepted while Postgres does not answer."
    )
    api_key: SecretStr | None = Field(
        None, description="API key with which `tracestone sql` asks a running Tracestone that demands one."
    )
    tls_cert_file: Path | None = Field(
        None, description="Certificate (PEM, with its chain) of every port; read again when it changes. Unset: no TLS."
    )
    tls_key_file: Path | None = Field(None, description="Private key (PEM, not encrypted) of tls_cert_file.")
    tls_client_ca_file: Path | None = Field(
        None, description="Authorities (PEM) of which every client must show a certificate. Unset: none is asked for."
    )
    cors_allowed_origins: list[str] = Field(
        default_factory=list,
        description="Origins of web pages that may send OTLP over HTTP, such as https://app.example or"
        " https://*.app.example.",
    )

    clickhouse_url: SecretStr | None = Field(
        None, description="ClickHouse, as http(s)://user:password@host:8123/. Unset: chDB inside data_dir."
    )
    clickhouse_database: str = Field(
        "tracestone", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$", description="ClickHouse database that holds the tables."
    )
    postgres_url: SecretStr | None = Field(
        None, description="Postgres, as postgresql://user:password@host/db. Unset: a private server inside data_dir."
    )

    mapping_dir: Path | None = Field(
        None, description="Folder with a deployment's own rows of the map of attributes (docs/mapping.md)."
    )

    max_request_bytes: int = Field(
        64 * MIB, ge=1024, description="Largest OTLP request, before and after decompression."
    )
    max_body_bytes: int = Field(
        256 * MIB, ge=1024, description="Bytes of all OTLP requests in work; beyond it senders must retry."
    )
    max_body_seconds: int = Field(60, ge=1, description="How long the body of an OTLP/HTTP request may take to arrive.")
    max_slow_bodies: int = Field(
        64, ge=1, description="Bodies of OTLP requests that take longer than 2 s and are waited for; further ones go."
    )
    max_connections: int = Field(2000, ge=1, description="Connections that each port holds at once.")
    max_streams: int = Field(100, ge=1, description="Calls that one gRPC connection may have in work at once.")
    max_header_bytes: int = Field(16 * 1024, ge=1024, description="Headers, or gRPC metadata, of one request.")
    max_header_seconds: int = Field(
        10, ge=1, description="How long the headers of a request, or a gRPC connection's first words, may take."
    )
    max_idle_seconds: int = Field(120, ge=1, description="How long a connection may be without a request.")
    max_connection_age_seconds: int = Field(
        1800, ge=1, description="Age at which a gRPC connection is ended once its calls are, so that clients spread."
    )
    max_request_groups: int = Field(10_000, ge=1, description="Resources, and scopes, that one OTLP request may hold.")
    max_json_values: int = Field(
        4_000_000,
        ge=1000,
        description="Objects, lists and members that the JSON of one OTLP request may hold.",
    )
    max_request_spans: int = Field(
        200_000, ge=1, description="Spans, log records or data points that one OTLP request may hold."
    )
    max_nesting: int = Field(
        64, ge=1, le=64, description="Levels of a nested attribute value that are kept; deeper ones are cut, visibly."
    )
    max_attributes: int = Field(
        10_000, ge=1, description="Attributes that a span, event, link or log record keeps; further ones are counted."
    )
    max_events: int = Field(10_000, ge=1, description="Events that a span keeps; further ones are counted.")
    max_links: int = Field(10_000, ge=1, description="Links that a span keeps; further ones are counted.")
    max_value_bytes: int = Field(
        16 * MIB, ge=64, description="Longest text of an attribute that is kept whole; a longer one is cut there."
    )
    max_experiments: int = Field(10_000, ge=1, description="Experiments that telemetry may create by naming them.")

    wal_max_bytes: int = Field(
        4 * GIB,
        ge=MIB,
        description="Bound of the write-ahead logs, half of it for traces, a quarter each for logs and metrics; "
        "beyond it senders must retry.",
    )
    wal_segment_bytes: int = Field(64 * MIB, ge=64 * 1024, description="Size at which a log segment is closed.")
    batch_max_bytes: int = Field(64 * MIB, ge=1024, description="Size at which the loader closes a batch.")
    batch_max_age_ms: int = Field(
        750,
        ge=1,
        description="Age at which the loader closes a batch. However small, one costs a fifth of a CPU second;"
        " reads by id do not wait for it.",
    )
    read_wait_ms: int = Field(5000, ge=0, description="How long a read waits for what this process acknowledged.")

    sql_max_seconds: int = Field(30, ge=1, description="Time limit of one SQL statement of a reader.")
    sql_max_memory_bytes: int = Field(1 * GIB, ge=MIB, description="Memory limit of one SQL statement of a reader.")
    sql_max_rows: int = Field(1_000_000, ge=1, description="Rows one SQL statement of a reader may return.")
    sql_max_answer_bytes: int = Field(256 * MIB, ge=1024, description="Bytes one SQL statement of a reader may return.")
    sql_max_concurrent: int = Field(
        2,
        ge=1,
        description="SQL statements of readers that run at once; together they may use that many times the limit.",
    )

    watch_interval_ms: int = Field(
        1000, ge=50, description="How often finished traces are looked for; while few are chosen, a fourth as often."
    )
    settle_ms: int = Field(
        5000, ge=0, description="A trace is finished when its root has ended and nothing came for this long."
    )
    max_trace_age_ms: int = Field(
        3_600_000,
        ge=1000,
        description="A trace whose root never ended counts as finished after this long without news.",
    )
    worker_concurrency: int = Field(8, ge=1, description="Scoring jobs that run at once in one process.")
    calls_in_flight: int = Field(
        100,
        ge=1,
        description="Calls of one model that may be under way at once in one process, unless call_limits say.",
    )
    call_limits: list[CallLimit] = Field(
        default_factory=list,
        description="Such limits for models, or for all models of a provider together (see docs/scoring.md).",
    )
    coverage_days: int = Field(
        400,
        ge=0,
        le=36_500,
        description="How long the view coverage tells what became of a finished target, in whole months; 0: for ever.",
    )
    judge_cache_days: int = Field(
        30, ge=0, le=3650, description="How long a model's answer to a judge is used for the same question; 0: never."
    )
    judge_cache_rows: int = Field(100_000, ge=0, description="About how many such answers are kept.")
    judge_traces: bool = Field(
        True, description="Make each attempt of a judge a trace in the experiment tracestone/judges (docs/judges.md)."
    )
    judge_trace_content: bool = Field(
        False, description="Keep in these traces what judges asked and what models answered: recorded content, again."
    )
    provider_wait_seconds: int = Field(
        86_400,
        ge=1,
        description="How long a scoring job waits for a provider that is down or busy before it is given up.",
    )
    scorers: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Scorers and their online configurations, applied at start (see docs/scoring.md).",
    )

    budgets: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Budgets of judges, in USD or tokens per day, week or month, applied at start"
        " (see docs/scoring.md).",
    )

    evaluations_endpoint: Annotated[str, Field(pattern=r"^(?:https?|grpcs?)://[^@?#\s]+$")] | None = Field(
        None,
        description="OTLP endpoint that gets every assessment as an event: over HTTP the address of its logs, such"
        " as https://collector.example:4318/v1/logs, or grpc(s)://host:port (docs/outbound.md).",
    )
    evaluations_headers: SecretStr | None = Field(
        None,
        description="Headers, or gRPC metadata, of these requests, as name=value,name=value with values URL-encoded.",
    )

    webhooks: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Webhooks on assessments and alerts, applied at start (see docs/outbound.md).",
    )
    webhooks_private: bool = Field(
        False, description="Let webhooks be addresses of private networks, and http beyond this machine."
    )

    prices_file: Path | None = Field(
        None, description="YAML file with prices of this deployment, applied at start (see docs/costs.md)."
    )

    code_scorers: bool = Field(
        False,
        description="Take scorers as Python source and run each in a process that can only compute (Linux on x86-64 or"
        " arm64; see docs/scorers.md).",
    )
    judge_api_bases: list[Annotated[str, Field(pattern=r"^https?://[^@?#\s]+$")]] = Field(
        default_factory=list,
        description="Addresses (api_base) that judges defined through the API may call with the keys of this process.",
    )

    demo: bool = Field(False, description="Also run a sample agent application that sends traces (`up` only).")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log line written."
    )

    @field_validator("clickhouse_url", "postgres_url")
    @classmethod
    def _is_url(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        schemes = _SCHEMES[str(info.field_name)]
        # The message is shown, so it holds nothing of the value, which may be a secret.
        if value is not None and not _is_address(value.get_secret_value(), schemes):
            raise ValueError(f"it must be an address that begins with {' or '.join(f'{name}://' for name in schemes)}")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags (given to the constructor), then environment. `load` puts the file under both."""
        return (init_settings, env_settings)


def load(flags: dict[str, Any] | None = None, file: Path | None = None) -> Settings:
    """The effective settings. Raises StartRefused with one sentence that names the setting and the reason."""
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    try:
        from_environment = Settings(**given).model_dump(exclude_unset=True)
        return Settings(**{**_read(file), **from_environment})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise StartRefused(f"The setting {name} cannot be used: {reason}.") from error
    except SettingsError as error:
        # The cause would show the value; its own sentence ends with the field and the source.
        name = next((name for name in Settings.model_fields if f'"{name}"' in str(error)), "from the environment")
        raise StartRefused(f"The setting {name} cannot be used: its environment variable is not valid JSON.") from error


def shown(settings: Settings) -> dict[str, Any]:
    """The effective values for a person, secrets hidden."""
    return settings.model_dump(mode="json")


def handed_on(settings: Settings) -> dict[str, Any]:
    """Every value as JSON, secrets included: for a process of ours, never to be shown, logged or kept."""
    secrets = {name: value for name, value in settings if isinstance(value, SecretStr)}
    return {**settings.model_dump(mode="json"), **{name: value.get_secret_value() for name, value in secrets.items()}}


def taken_over(values: dict[str, Any]) -> Settings:
    """The settings that `handed_on` told, whatever this process's own environment says."""
    try:
        return Settings(**values)
    except ValidationError as error:
        names = ", ".join(str(each["loc"][0]) for each in error.errors())
        # The error itself would show the values, which may be secrets.
        raise StartRefused(f"The settings of a receiver process cannot be used: {names}.") from None


def _is_address(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(text)
        if parts.scheme in _SCHEMES["postgres_url"] and ("," in parts.netloc or not parts.hostname):
            # Several hosts, or one in the query: postgresql://user@/db?host=/folder.
            return parts.scheme in schemes
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _read(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartRefused(f"The configuration file {file} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise StartRefused(f"The configuration file {file} is not valid YAML.") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise StartRefused(f"The configuration file {file} must hold a mapping of settings.")
    return content


def prices_of(settings: Settings) -> list[Any]:
    """What the prices file holds under `prices`; nothing when there is none. Raises StartRefused."""
    if settings.prices_file is None:
        return []
    content = _read(settings.prices_file)
    prices = content.pop("prices", None)
    if content or not isinstance(prices, list):
        raise StartRefused(f"The prices file {settings.prices_file} must hold a list under prices, and nothing else.")
    return prices


def prepare_grpc() -> None:
    """Sets what grpc reads from the environment while it is imported: no lines of its own on standard error.

    What goes wrong we report ourselves. And we start programs (Postgres) but never fork to go on in Python, so its
    handlers around a fork have nothing to do.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")


def prepare_litellm() -> None:
    """Sets what litellm reads from the environment while it is imported: its own price map, no calls home."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ.setdefault("LITELLM_LOG", "ERROR")


def prepare_third_party() -> None:
    """Sets what ragas and deepeval read from the environment while they are imported: no calls home, no .env file."""
    os.environ["RAGAS_DO_NOT_TRACK"] = "true"
    os.environ["DEEPEVAL_TELEMETRY_OPT_OUT"] = "1"
    os.environ["DEEPEVAL_DISABLE_DOTENV"] = "1"


def provider_secrets() -> list[str]:
    """Values of environment variables that hold keys of model providers, longest first; only to hide them in errors."""
    found = {
        value
        for name, value in os.environ.items()
        if len(value) >= 8 and name.upper().endswith(("KEY", "TOKEN", "SECRET", "PASSWORD"))
    }
    return sorted(found, key=len, reverse=True)
