"""The description of the interface, docs/openapi.json; written anew with

python -m fusion_classifier.serving.openapi docs/openapi.json
"""

import json
import sys
from pathlib import Path
from typing import Any, cast

from fusion_classifier.config import ServerSettings
from fusion_classifier.serving.app import create_app
from fusion_classifier.serving.model import ServedModel


def describe_interface() -> dict[str, Any]:
    """The OpenAPI document; the same for every model."""
    return create_app(cast(ServedModel, None), ServerSettings()).openapi()  # no route is called


def written() -> str:
    """As it stands in the file."""
    return json.dumps(describe_interface(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(written(), "utf-8")
