"""The fields of a multipart/form-data request; clients use it for parameters too long for a URL."""

from email.parser import BytesParser
from email.policy import HTTP

from tracestone.collector.sql_endpoint.refusals import Kind, Refused


def fields(content_type: str, body: bytes) -> dict[str, str]:
    """Name and text of every field. Files (ClickHouse's external tables) are refused. Raises Refused."""
    if "\r" in content_type or "\n" in content_type:
        raise Refused(Kind.BAD_ARGUMENTS, "The content type is not valid")
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    if not message.is_multipart():
        raise Refused(Kind.BAD_ARGUMENTS, "The multipart form cannot be read")
    found: dict[str, str] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if not isinstance(name, str) or part.get_filename() is not None:
            raise Refused(Kind.BAD_ARGUMENTS, "A form may hold plain fields only; external tables are not served here")
        payload = part.get_payload(decode=True)
        try:
            found[name] = payload.decode("utf-8") if isinstance(payload, bytes) else ""
        except UnicodeDecodeError:
            raise Refused(Kind.BAD_ARGUMENTS, f"The field {name[:100]} is not UTF-8 text") from None
    return found
