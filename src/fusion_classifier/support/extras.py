"""Packages that only some commands need."""

import importlib.util

from fusion_classifier.errors import UsageError


def require(what: str, extra: str, *modules: str) -> None:
    """See that the packages of an extra are installed.

    Raises:
        UsageError: one is not; the message says how to install it.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"{what}: needs {', '.join(missing)}, not installed here: pip install 'llm-fusion-classifier[{extra}]'"
        )
