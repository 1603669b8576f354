"""Whether an address is loopback, where only programs of this machine can reach it."""

import ipaddress


def is_loopback(name: str) -> bool:
    """Of a host as it stands in the settings: an address of loopback, or localhost."""
    bare = name.lower().strip("[]").removesuffix(".")
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False
