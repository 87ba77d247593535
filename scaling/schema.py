"""What schemas are made of: the check of a value, and the mark of keys that do not change a result. Free of torch."""

from scaling.errors import ConfigError

#: Metadata of a field that changes where and how fast a run is computed, never what.
LOGISTICS = {"changes_result": False}


def require(ok: bool, key: str, value: object, allowed: str, remedy: str = "") -> None:
    """Refuse a value that is not allowed.

    Args:
        allowed: ends the sentence "KEY=VALUE must be ...". remedy: what to do instead, if that is not obvious.

    Raises:
        ConfigError: if `ok` is false, naming key, value, what is allowed and the remedy.
    """
    if not ok:
        raise ConfigError(f"{key}={value} must be {allowed}" + (f"; {remedy}" if remedy else ""))
