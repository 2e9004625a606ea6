"""Optional dependencies: the extras of pyproject.toml."""

import importlib.util

from fusion_classifier.errors import UsageError


def require(what: str, extra: str, *packages: str) -> None:
    """Check that the packages of an extra are installed.

    Args:
        what: Feature that needs them, for the start of the message.
        extra: Name of the extra.
        packages: Import names.
    """
    missing = [name for name in packages if not _installed(name)]
    if missing:
        raise UsageError(f"{what} needs {' and '.join(missing)}: pip install 'llm-fusion-classifier[{extra}]'")


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package around it, such as google of google.protobuf
        return False
