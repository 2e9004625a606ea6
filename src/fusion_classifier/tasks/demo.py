"""The demo corpus: short texts with one of ten emotions, written for this project.

It lets every command be tried without a download. It is small and clean, so its scores say nothing about a
method: never quote them as a result.
"""

from pathlib import Path

from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.table import load_table

NAME = "demo"
TITLE = "Demo corpus written for this project, 10 emotions; not a benchmark"
LICENCE = "Apache-2.0"
FOLDER = Path(__file__).parent / "demo_corpus"


def load() -> LoadedTask:
    """The task, from the package's own files."""
    return load_table(FOLDER, name=NAME, licence=LICENCE)
