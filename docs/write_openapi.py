"""Writes the description of the HTTP interface, docs/openapi.json:

python docs/write_openapi.py docs/openapi.json
"""

import json
import sys
from pathlib import Path
from typing import cast

from fusion_classifier.serving.app import create_app
from fusion_classifier.serving.model import ServedModel
from fusion_classifier.serving.settings import ServerSettings

if __name__ == "__main__":
    # The same for every model; no route is called. With a key, so that the key is described.
    app = create_app(cast(ServedModel, None), ServerSettings(api_key="of any kind"))
    Path(sys.argv[1]).write_text(json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n", "utf-8")
