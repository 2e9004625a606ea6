"""Packages that only some commands need."""

import pytest

from fusion_classifier.errors import UsageError
from fusion_classifier.support.extras import require


def test_a_package_that_is_missing_is_named_with_the_way_to_install_it() -> None:
    require("fec serve", "serve", "json", "socket")
    with pytest.raises(UsageError, match=r"^fec serve: needs no_such_package, .*\[serve\]'$"):
        require("fec serve", "serve", "json", "no_such_package")
