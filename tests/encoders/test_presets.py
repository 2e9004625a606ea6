"""Naming and finding encoders takes no time."""

import subprocess
import sys

LIGHT = [
    *(f"encoders.{name}" for name in ("device", "fingerprint", "identity", "presets", "protocol", "spec", "weights")),
    *(f"features.{name}" for name in ("arrays", "codec", "dataset", "export", "hashing", "place", "store", "stored")),
]
HEAVY = ("huggingface_hub", "lance", "torch", "transformers")


def test_names_keys_and_the_store_need_no_torch() -> None:
    program = f"""
import sys
from importlib import import_module
for name in {LIGHT}:
    import_module("fusion_classifier." + name)
    heavy = [package for package in {HEAVY} if package in sys.modules]
    assert not heavy, (name, heavy)
from fusion_classifier.encoders.weights import describe_presets
describe_presets()
assert not [package for package in {HEAVY} if package in sys.modules]
"""
    subprocess.run([sys.executable, "-c", program], check=True)
