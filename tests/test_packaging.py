"""The sdist and the wheel: both build, hold what they should, and what is installed from them works."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What is not Python: data files that a build may forget.
DATA_FILES = [
    "builtin/go-emotions/README.md",
    "builtin/go-emotions/model.safetensors",
    "evaluation/report.html.j2",
    "modelcard.md.j2",
    "py.typed",
    "serving/static/page.js",
    "tasks/named/demo_corpus/train.csv",
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


def test_the_wheel_holds_the_data_files_and_no_data_sets(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"fusion_classifier/{name}" for name in DATA_FILES} <= set(names)
    assert wheel.stat().st_size < 12e6


def test_the_sdist_holds_what_a_packager_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py", "mkdocs.yml"} <= names


def test_the_installed_wheel_works_by_itself(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    where = str(tmp_path / "site")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        where,
        str(wheel),
    ]
    subprocess.run(pip, check=True, timeout=120)
    code = (
        "import fusion_classifier, sys; print(fusion_classifier.__file__);"
        "from fusion_classifier.cli import main; main(['tasks', '--json'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": where},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(where)
    assert '"name": "demo"' in done.stdout
