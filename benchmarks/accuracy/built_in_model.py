"""Converts a run on GoEmotions to the model in the package: config, weights, card and scores, no text.

make model DATA=data/go_emotion   # trains first; without DATA the texts come from the Hub
python benchmarks/accuracy/built_in_model.py runs/go-emotions
"""

import json
import platform
import sys
from pathlib import Path

from fusion_classifier.classifier.card import model_card
from fusion_classifier.classifier.folder import load_model, save_model
from fusion_classifier.classifier.models import BUILT_IN_FOLDER, DEFAULT_MODEL, METRICS_FILE
from fusion_classifier.encoders.presets import PRESETS
from fusion_classifier.runs.config_file import read_config, read_run_config
from fusion_classifier.runs.pipeline import training_data


def main(run: Path) -> None:
    """Write the model folder to the package's sources."""
    saved, described = load_model(run / "model"), read_config(run)
    metrics = json.loads((run / METRICS_FILE).read_text("utf-8"))
    encoders = []
    for one in saved.config.encoders:
        preset = PRESETS[one.config.model]
        assert preset.package is not None, "its weights must be installable without the Hub"
        assert described["weights"][one.config.name]["source"] == "package", "extract with the package's weights"
        encoders.append(one.model_copy(update={"package": preset.package.requirement}))
    config = saved.config.model_copy(update={"encoders": tuple(encoders)})
    data = described["data"]
    card = model_card(
        config,
        metrics=metrics,
        training=read_run_config(run).training,
        data=training_data(
            config.task, data["licence"], {name: split["sha256"] for name, split in data["splits"].items()}
        ),
        processor=f"{platform.machine()}, {described['environment']['threads']} threads",
        licence="apache-2.0",
        place=DEFAULT_MODEL,
    )
    folder = BUILT_IN_FOLDER / DEFAULT_MODEL
    save_model(folder, config, saved.head, card, known=saved.known)
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
