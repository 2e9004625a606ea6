"""Hides the packages of $HIDDEN_PACKAGES from this process, as if they were not installed."""

import os
import sys
from typing import Any

HIDDEN = frozenset(os.environ.get("HIDDEN_PACKAGES", "").split())


class Finder:
    """Another finder, but for the hidden packages."""

    def __init__(self, finder: Any) -> None:
        self.finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)

    def find_spec(self, name: str, *arguments: Any) -> Any:
        """Where a module is."""
        return None if name.partition(".")[0] in HIDDEN else self.finder.find_spec(name, *arguments)


sys.meta_path[:] = [Finder(finder) for finder in sys.meta_path]
