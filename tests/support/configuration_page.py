"""docs/configuration.md, written from the settings themselves.

python tests/support/configuration_page.py > docs/configuration.md
"""

import sys
import typing
from typing import Any

from tracestone.schema.settings import Settings

_HEAD = """\
# Configuration

Every setting of `tracestone` has three spellings, the first that is given wins:

1. a flag: `--otlp-grpc-port 4317` (all but lists, which a command line cannot say);
2. an environment variable: `TRACESTONE_OTLP_GRPC_PORT=4317`;
3. a key of the YAML file that `--config` or `TRACESTONE_CONFIG` names: `otlp_grpc_port: 4317`. A key that is not known
   stops the start.

`tracestone config` prints the effective values, secrets hidden. This page is written from the code by
`python tests/support/configuration_page.py > docs/configuration.md`, and a test compares them.

| setting | default | what it is |
|---|---|---|
"""


def page() -> str:
    """The page's text."""
    return _HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: Any) -> str:
    choices = ""
    if typing.get_origin(field.annotation) is typing.Literal:
        choices = f" One of {', '.join(f'`{each}`' for each in typing.get_args(field.annotation))}."
    return f"| `{name}` | {_default(field)} | {field.description}{choices} |\n"


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    return "not set" if value is None or value == [] else f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(page())
