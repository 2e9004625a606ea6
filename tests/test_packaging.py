"""The sdist and the wheel: both build, hold what they should, and what is installed from them works."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_source(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    files = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*") if path.is_file()}
    assert {name for name in files if "__pycache__" not in name} <= set(zipfile.ZipFile(wheel).namelist())
    assert wheel.stat().st_size < 12e6


@pytest.mark.slow
def test_the_sdist_holds_what_a_packager_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py", "mkdocs.yml"} <= names


@pytest.mark.slow
def test_the_installed_wheel_works_by_itself(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    where = str(tmp_path / "site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", where, str(wheel)], check=True, timeout=120)
    code = (
        "import fusion_classifier; print(fusion_classifier.__file__);"
        "from fusion_classifier.cli.main import main; main(['tasks', '--json'])"
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


def test_all_that_is_needed_is_pinned() -> None:
    """Every package of pyproject.toml has one version in constraints.txt, and the core stays small."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    core, extras = project["project"]["dependencies"], project["project"]["optional-dependencies"].values()
    named = {re.split(r"[\[>=<]", line)[0] for line in [*core, *(line for extra in extras for line in extra)]}
    pinned = [line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()]
    assert len(core) <= 18
    assert len(pinned) == len(set(pinned))
    assert named <= {name.lower().replace("_", "-") for name in pinned}


def test_uv_locks_the_pinned_versions() -> None:
    """`uv sync` and make install the same (make lock writes both)."""
    text = (ROOT / "uv.lock").read_text("utf-8")
    locked = {package["name"]: package["version"] for package in tomllib.loads(text)["package"]}
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}
    tools = {"editables", "hatchling", "pip", "trove-classifiers", "uv"}  # what builds and installs
    assert {name: locked.get(name) for name in pinned.keys() - tools} == {
        name: version for name, version in pinned.items() if name not in tools
    }
    assert set(re.findall(r"https?://([^/\"]+)", text)) == {"pypi.org", "files.pythonhosted.org"}


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    lock = {
        package["name"]: package["version"] for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    }
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert citation
    assert citation.group(1) == project == lock["llm-fusion-classifier"]
    assert f"## {project}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_conda_recipe_has_the_dependencies_and_the_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    recipe = yaml.safe_load((ROOT / "deploy" / "conda" / "recipe.yaml").read_text("utf-8"))
    renamed = {"torch": "pytorch", "huggingface-hub": "huggingface_hub", "xxhash": "python-xxhash"}
    needed = [re.fullmatch(r"([a-z0-9-]+)(.+)", line) for line in project["dependencies"]]
    expected = [f"{renamed.get(found[1], found[1])} {found[2]}" for found in needed if found]
    assert recipe["requirements"]["run"][1:] == expected
    assert recipe["context"]["version"] == project["version"]


def test_every_link_of_llms_txt_is_there() -> None:
    places = re.findall(r"\]\(([^)]+)\)", (ROOT / "llms.txt").read_text("utf-8"))
    assert len(places) > 10
    assert [place for place in places if not (ROOT / place).is_file()] == []


def test_actions_are_pinned_by_commit() -> None:
    files = list((ROOT / ".github" / "workflows").glob("*.yml"))
    used = [line for file in files for line in re.findall(r"uses: .*", file.read_text("utf-8"))]
    assert len(used) > 10
    assert [line for line in used if not re.fullmatch(r"uses: [\w/-]+@[0-9a-f]{40} # v[\d.]+", line)] == []
