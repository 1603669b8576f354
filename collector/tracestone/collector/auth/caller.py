"""The caller of the request that is being answered, for code that must keep to their experiments."""

from contextvars import ContextVar

from tracestone.schema.errors import Forbidden, NotFound
from tracestone.schema.keys import ANYBODY, Caller

# Set by the check in front of each port, in the task of the request.
CALLER: ContextVar[Caller] = ContextVar("caller", default=ANYBODY)


def caller() -> Caller:
    """Who sent the current request."""
    return CALLER.get()


def visible(experiment_id: int) -> bool:
    """Whether the current caller may know of this experiment."""
    return CALLER.get().may_see(experiment_id)


def check_visible(experiment_id: int) -> None:
    """Raises NotFound, as if there were none, for an experiment that is not the current caller's."""
    if not CALLER.get().may_see(experiment_id):
        raise NotFound(f"No Experiment with id={experiment_id} exists")


def check_unbound(what: str) -> None:
    """Raises Forbidden when the current caller's key is bound to experiments; `what` begins the sentence."""
    if CALLER.get().experiments is not None:
        raise Forbidden(f"{what} concerns all experiments, and this API key is bound to some.")
