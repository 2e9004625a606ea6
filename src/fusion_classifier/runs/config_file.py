"""Reads `config.yaml` of a run, without importing torch."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fusion_classifier.config import RunConfig
from fusion_classifier.errors import FecError, reason
from fusion_classifier.support.files import user_path
from fusion_classifier.support.validation import first_problem

CONFIG_FILE = "config.yaml"


def read_config(path: Path) -> dict[str, Any]:
    """Sections of a run's `config.yaml`: `run`, `data` and others. A bare run configuration is read as `run`.

    Args:
        path: The file, or the run folder.
    """
    path = _file(path)
    try:
        described = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise FecError(f"{path} can't be read ({reason(error)}); give a run folder or its {CONFIG_FILE}") from error
    if isinstance(described, dict) and set(described) <= set(RunConfig.model_fields):
        described = {"run": described}
    if not isinstance(described, dict) or "run" not in described:
        raise FecError(f"{path} is not the configuration of a run; give a run folder or its {CONFIG_FILE}")
    return described


def read_run_config(path: Path) -> RunConfig:
    """The configuration of a run.

    Args:
        path: Its `config.yaml`, or the run folder.
    """
    try:
        return RunConfig.model_validate(read_config(path)["run"])
    except ValidationError as error:
        field, problem = first_problem(error)
        raise FecError(f"{_file(path)}: run{'.' * bool(field)}{field}: {problem}") from error


def _file(path: Path) -> Path:
    path = user_path(str(path), "config")
    return path / CONFIG_FILE if path.is_dir() else path
