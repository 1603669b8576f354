"""What clients of the gRPC port may use, in grpc's own options."""

from dataclasses import dataclass, fields

from tracestone.collector.open_files import connections_for
from tracestone.schema.settings import Settings

_MS = 1000
_AGE_GRACE_SECONDS = 30
_PONG_SECONDS = 20


@dataclass(frozen=True)
class GrpcLimits:
    """The fields are settings of the same names."""

    max_request_bytes: int = 64 * 1024 * 1024
    max_connections: int = 2000
    max_streams: int = 100
    max_header_bytes: int = 16 * 1024
    max_header_seconds: int = 10
    max_idle_seconds: int = 120
    max_connection_age_seconds: int = 1800

    @classmethod
    def of(cls, settings: Settings) -> "GrpcLimits":
        """As they are set, with no more connections than this process can open."""
        given = {each.name: getattr(settings, each.name) for each in fields(cls)}
        return cls(**{**given, "max_connections": connections_for(settings.max_connections)})

    def options(self) -> list[tuple[str, int]]:
        """Options of a server. grpc takes any name and ignores those that it does not know, so a test looks."""
        return [
            ("grpc.max_receive_message_length", self.max_request_bytes),
            # Ours to do, with limits on what all requests together become.
            ("grpc.per_message_decompression", 0),
            ("grpc.max_allowed_incoming_connections", self.max_connections),
            # A client's further calls wait on its side, where grpc's refusal would not tell it to try again.
            ("grpc.max_concurrent_streams", self.max_streams),
            ("grpc.max_metadata_size", self.max_header_bytes),
            ("grpc.absolute_max_metadata_size", self.max_header_bytes),
            # Until a connection has said HTTP/2's first words.
            ("grpc.server_handshake_timeout_ms", self.max_header_seconds * _MS),
            ("grpc.max_connection_idle_ms", self.max_idle_seconds * _MS),
            # Load balancers spread connections, so old ones come again; calls in work are finished before.
            ("grpc.max_connection_age_ms", self.max_connection_age_seconds * _MS),
            ("grpc.max_connection_age_grace_ms", _AGE_GRACE_SECONDS * _MS),
            # A client that is gone without a word is noticed.
            ("grpc.keepalive_time_ms", self.max_idle_seconds * _MS),
            ("grpc.keepalive_timeout_ms", _PONG_SECONDS * _MS),
            # Exporters and Collectors keep connections open with pings that grpc's defaults punish.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 10 * _MS),
        ]
