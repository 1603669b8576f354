"""Templates to HTML. Everything is escaped; a name that a page does not have is an error, not empty."""

import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tracestone.collector.ui import format as fmt
from tracestone.schema.assessments import value_text

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"

_FILTERS = {
    "duration": fmt.duration,
    "count": fmt.count,
    "tokens": fmt.tokens,
    "cost": fmt.cost,
    "relative": fmt.relative,
    "exact": fmt.exact,
    "iso": fmt.iso,
    "short_id": fmt.short_id,
    "one_line": fmt.one_line,
    "value_text": value_text,
}


def render(template: str, page: object) -> str:
    """The HTML of a page, a dataclass of `pages`. Takes tens of milliseconds for a big trace."""
    return _environment().get_template(template).render(page=page)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(_FILTERS)
    environment.globals["static"] = _static
    return environment


@cache
def _static(name: str) -> str:
    """The address of a static file, which changes with its content, so that browsers may keep it for ever."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"
