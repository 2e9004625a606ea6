"""Lists the public names of the package with their signatures, read from the source by griffe.

    python docs/public_api.py > docs/reference/public-api.txt

A test compares the list with the code. A new line is a feature; a line that changes or goes breaks programs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

SOURCE = Path(__file__).parents[1] / "src"
TITLE = "# Public names of fusion_classifier. Written by: python docs/public_api.py > docs/reference/public-api.txt"


def public_api() -> str:
    """Every name, one a line: functions and methods with their parameters, attributes with their defaults."""
    package = griffe.load("fusion_classifier", search_paths=[SOURCE], submodules=True)
    exports = sorted(str(name) for name in package.exports or ())
    return "\n".join([TITLE, *(line for name in exports for line in _described(name, package[name]))]) + "\n"


def _described(name: str, found: Any) -> Iterator[str]:  # griffe.Object or Alias; what it has depends on its kind
    if found.is_function:
        yield f"{name}{_signature(found.parameters)}"
    elif found.is_attribute:
        shown = found.value is not None and "class-attribute" in found.labels and not _has_signature(found.parent)
        yield f"{name} = {found.value}" if shown else name
    else:
        yield f"class {name}{_signature(found.parameters) if _has_signature(found) else ''}"
        for member in sorted(found.all_members):
            if not member.startswith("_") and member != "model_config" and not found.all_members[member].is_class:
                yield from _described(f"{name}.{member}", found.all_members[member])


def _has_signature(found: griffe.Object | griffe.Alias | None) -> bool:
    return found is not None and found.is_class and "__init__" in found.all_members


def _signature(parameters: griffe.Parameters) -> str:
    shown: list[str] = []
    star = False
    for one in parameters:
        if one.name in ("self", "cls"):
            continue
        if one.kind is griffe.ParameterKind.var_positional:
            star = True
        elif one.kind is griffe.ParameterKind.keyword_only and not star:
            shown.append("*")
            star = True
        prefix = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(one.kind, "")
        simple = prefix or one.default is None
        shown.append(f"{prefix}{one.name}" if simple else f"{one.name}={one.default}")
    return f"({', '.join(shown)})"


if __name__ == "__main__":
    print(public_api(), end="")
