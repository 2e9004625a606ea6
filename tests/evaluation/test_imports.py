"""Evaluation needs no model: reports and comparisons start without heavy packages."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "sklearn", "scipy", "matplotlib")


@pytest.mark.parametrize("module", ["commands.report", "commands.compare", "evaluation.pictures"])
def test_import_is_light(module: str) -> None:
    program = f"import sys, fusion_classifier.{module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_formats_import_nothing() -> None:
    program = "import sys, fusion_classifier.evaluation.formats; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
