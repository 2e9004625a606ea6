"""A row of a table in any format."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fusion_classifier.errors import DataError
from fusion_classifier.tasks.loaded import RowPlace


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table; `header` is None if rows name their own columns."""

    place: RowPlace
    values: Mapping[str, object]
    header: Collection[str] | None = None

    @property
    def columns(self) -> Collection[str]:
        """Names of all columns."""
        return self.values if self.header is None else self.header


def has_field(name: str, columns: Collection[str]) -> bool:
    """Whether a column is one of these, or one of these is a field within it (`message.body`)."""
    return name in columns or any(column.startswith(f"{name}.") for column in columns)


def check_unique(columns: Sequence[str], where: str) -> None:
    """Check that no column is duplicated."""
    for name in columns:
        if columns.count(name) > 1:
            raise DataError(f"{where}: column {name!r} is duplicated")
