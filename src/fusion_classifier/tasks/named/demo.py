"""The demo corpus: short texts with one of ten emotions, written for this project.

With it, every command can be tried without a download. It is small and clean: never quote its scores as a result.
"""

from pathlib import Path

from fusion_classifier.config import TaskConfig
from fusion_classifier.tasks.emotions import CAVEAT, EXAMPLES
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.task import Task

FOLDER = Path(__file__).parent / "demo_corpus"


class Demo(Task):
    """Demo corpus; comes with the package."""

    name = "demo"
    title = "Demo corpus written for this project, 10 emotions; not a benchmark"
    licence = "Apache-2.0"
    language = "en"
    examples = EXAMPLES
    caveat = CAVEAT
    labels = (
        "anger", "anxiety", "boredom", "disgust", "gratitude", "joy", "loneliness", "nostalgia", "pride", "surprise",
    )  # fmt: skip

    def load(self, data: Path | None = None, config: TaskConfig | None = None) -> LoadedTask:
        """Read the corpus, or another folder with its labels."""
        return super().load(data or FOLDER, config)
