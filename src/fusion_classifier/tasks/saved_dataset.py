"""Data sets of `datasets`: folders that `save_to_disk` has written, and the names of their classes.

A data set is a folder of Arrow files; with several splits, a folder of such folders.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from fusion_classifier.errors import DataError
from fusion_classifier.tasks.loaded import RowPlace
from fusion_classifier.tasks.row import Row, has_field

STATE_FILE = "state.json"
SPLITS_FILE = "dataset_dict.json"
ROWS = 4096  # converted to Python values at once
METADATA = b"huggingface"  # key of an Arrow schema's metadata


def is_saved_dataset(path: Path) -> bool:
    """Whether this is the folder of one saved data set, not of several splits."""
    return os.path.isfile(path / STATE_FILE)  # noqa: PTH113 - is_file raises for a name that is too long


def saved_splits(folder: Path) -> list[str]:
    """The splits of a saved data set; empty if it has none, or if the folder is not a saved data set."""
    path = folder / SPLITS_FILE
    return [] if not path.is_file() else list(map(str, _json(path, "splits")))


def saved_rows(folder: Path, columns: Collection[str] | None) -> Iterator[Row]:
    """The rows with these columns and the names of classes; by default all columns, as they are stored."""
    import pyarrow as pa  # noqa: PLC0415 - slow to import, and only this format needs it

    number = 0
    for path in _files(folder):
        try:
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
                schema = reader.schema
                classes = {} if columns is None else class_names(schema)
                chosen = [name for name in schema.names if columns is None or has_field(name, columns)]
                for batch in reader:
                    for start in range(0, len(batch), ROWS):
                        part = batch.slice(start, ROWS).select(chosen)
                        for values in part.to_pylist():
                            yield Row(RowPlace(str(folder), number), with_names(values, classes), schema.names)
                            number += 1
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise DataError(f"{path}: not a readable Arrow file ({error}); save the data set again") from error


def saved_columns(folder: Path) -> dict[str, Any]:
    """The columns of a saved data set with their Arrow types."""
    import pyarrow as pa  # noqa: PLC0415 - as above

    path = _files(folder)[0]
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            return dict(zip(reader.schema.names, reader.schema.types, strict=True))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Arrow file ({error}); save the data set again") from error


def _files(folder: Path) -> list[Path]:
    files = _json(folder / STATE_FILE, "_data_files")
    return [folder / Path(str(one["filename"])).name for one in files]


def _json(path: Path, key: str) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not in the format of `save_to_disk` of datasets; save the data set again"
        ) from error


def class_names(schema: Any) -> dict[str, list[str]]:
    """The names of classes by column, as an Arrow schema or the features of a data set have them."""
    if hasattr(schema, "metadata"):
        try:
            features = json.loads((schema.metadata or {}).get(METADATA, b"{}"))["info"]["features"]
        except (ValueError, KeyError, TypeError):
            return {}
    else:
        features = schema.to_dict()
    return {name: names for name, feature in features.items() if (names := _names(feature))}


def _names(feature: Any) -> list[str] | None:
    """The names of a ClassLabel, or of a list of them."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = {"feature": feature[0]}
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        return feature.get("names")
    return _names(feature.get("feature"))


def with_names(values: Mapping[str, Any], classes: Mapping[str, list[str]]) -> Mapping[str, Any]:
    """A row with the names of its classes instead of their numbers; -1, no class, is None."""
    if not classes:
        return values
    return {name: _named(value, classes[name]) if name in classes else value for name, value in values.items()}


def _named(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None if value == -1 else value
