"""Making a key from what a person says, on the command line or through the API."""

import logging
from collections.abc import Sequence

from tracestone.collector.auth.caller import caller
from tracestone.schema import clock, keys
from tracestone.schema.errors import Conflict, Invalid
from tracestone.schema.keys import Key
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.keys import KeyStore

logger = logging.getLogger(__name__)

_DAY_MS = 24 * 3600 * 1000
_MAX_DAYS = 36_500


async def make_key(
    store: KeyStore,
    experiments_store: ExperimentStore,
    *,
    name: str,
    scopes: Sequence[str],
    experiments: Sequence[str] | None = None,
    expires_in_days: float | None = None,
) -> tuple[Key, str]:
    """A new key and its text. `experiments` are ids, and names, of which new ones are made; None means all.

    Raises Invalid, TooLarge, StorageDown.
    """
    granted = keys.read_scopes(list(scopes))
    if expires_in_days is not None and not 0 < expires_in_days <= _MAX_DAYS:
        raise Invalid("expires_in_days", f"must be more than 0 and at most {_MAX_DAYS}")
    expires = None if expires_in_days is None else clock.now_ms() + round(expires_in_days * _DAY_MS)
    if experiments is not None and len(experiments) > keys.MAX_EXPERIMENTS:
        raise Invalid("experiments", f"may be at most {keys.MAX_EXPERIMENTS}")
    bound = None
    if experiments is not None:
        bound = frozenset([await _experiment(experiments_store, text) for text in experiments])
    key, token = await store.create(name, granted, bound, expires)
    logger.info("API key made", extra={"action": "make_key", "key": key.key_id, "by": caller().key_id or "nobody"})
    return key, token


async def _experiment(store: ExperimentStore, text: str) -> int:
    if text.isascii() and text.isdigit():
        number = int(text[:12])
        if not await store.exists(number):
            raise Invalid("experiments", f"there is no experiment {text[:12]}")
        return number
    found = await store.by_name(text)
    if found is not None:
        return found.experiment_id
    try:
        return (await store.create(text)).experiment_id
    except Conflict:  # another was faster
        made = await store.by_name(text)
        if made is None:
            raise
        return made.experiment_id
