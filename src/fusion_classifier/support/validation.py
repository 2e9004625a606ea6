"""Validation errors of pydantic as one-sentence messages."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from fusion_classifier.errors import UsageError

Model = TypeVar("Model", bound=BaseModel)
SECRETS = ("api_key",)  # not repeated in messages


class HasErrors(Protocol):
    """pydantic's ValidationError, or FastAPI's."""

    def errors(self) -> Any:
        """The problems."""


def first_problem(error: HasErrors, *, show_input: bool = True) -> tuple[str, str]:
    """Location of the first validation error, such as `encoders[0].layers`, and a description of it.

    Args:
        error: Validation error.
        show_input: Whether the message quotes the invalid value.
    """
    problem = error.errors()[0]
    where = ""
    for part in problem["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else str(part)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "string_unicode":
        return where, "is not text (half of a surrogate pair)"
    shown = show_input and problem["loc"] and problem["loc"][-1] not in SECRETS
    if shown and not isinstance(problem["input"], Mapping):
        message += f", not {problem['input']!r}"
    return where, message


def checked(model: type[Model], values: Mapping[str, Any], where: str = "") -> Model:
    """Validate values.

    Args:
        model: Configuration class.
        values: Fields and values.
        where: Prefix of the field in the error, such as `encoders[0].`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        field, message = first_problem(error)
        name = where + field
        raise UsageError(f"`{name}`: {message}" if name else message) from None
