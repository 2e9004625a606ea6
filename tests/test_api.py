"""The public names: all there, found by tools, and imported only when they are used."""

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import fusion_classifier

ROOT = Path(__file__).parents[1]

# What neither building a classifier nor loading one needs.
HEAVY = ("sklearn.metrics", "sklearn.model_selection", "matplotlib", "datasets", "lance", "jinja2", "torch._dynamo")


def modules_after(code: str) -> set[str]:
    """The modules that are loaded after some code in a process of its own."""
    command = f"{code}\nimport sys\nprint(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    return set(found.stdout.split())


@pytest.mark.parametrize("name", fusion_classifier.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(fusion_classifier, name) is not None
    assert name in dir(fusion_classifier)


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match="FusionClasifier"):
        fusion_classifier.FusionClasifier  # noqa: B018


def test_no_public_name_or_parameter_changed_by_accident() -> None:
    """What changes on purpose is written down by `python docs/public_api.py > docs/reference/public-api.txt`."""
    pytest.importorskip("griffe")
    found = runpy.run_path(str(ROOT / "docs" / "public_api.py"))["public_api"]()
    assert found.splitlines() == (ROOT / "docs" / "reference" / "public-api.txt").read_text("utf-8").splitlines()


def test_type_checkers_see_the_names() -> None:
    tree = ast.parse(Path(fusion_classifier.__file__).read_text("utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    names = {alias.name for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names == set(fusion_classifier.__all__) - {"__version__"}


def test_the_package_itself_imports_nothing_heavy() -> None:
    assert not {"torch", "numpy", "transformers", "sklearn"} & modules_after("import fusion_classifier")


@pytest.mark.parametrize("name", ["EncoderConfig", "TrainingConfig", "HeadConfig", "FunctionEncoder", "Task"])
def test_values_need_no_torch(name: str) -> None:
    assert not {"torch", "transformers"} & modules_after(f"from fusion_classifier import {name}")


def test_a_classifier_imports_what_it_needs() -> None:
    found = modules_after("from fusion_classifier import FusionClassifier, FusionHeadClassifier")
    assert not [name for name in HEAVY if name in found]


def test_prediction_needs_no_scikit_learn() -> None:
    found = modules_after("from fusion_classifier.classifier.prediction import TextPredictor")
    assert not [name for name in (*HEAVY, "sklearn", "scipy.stats", "pandas") if name in found]


def test_models_are_listed_without_torch() -> None:
    found = modules_after("from fusion_classifier.classifier.models import describe_models; describe_models()")
    assert not {"torch", "transformers", "huggingface_hub"} & found
