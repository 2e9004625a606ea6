"""Warnings name the caller's line, whoever calls."""

import warnings

from fusion_classifier.support import warn


def called_from(scope: dict[str, object]) -> warnings.WarningMessage:
    """The warning of a call in a module with these globals."""
    scope |= {"warn_caller": warn.warn_caller}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        exec(compile("\n\nwarn_caller('few rows')", "their.py", "exec"), scope)  # noqa: S102 - our own text
    return seen[0]


def test_the_caller_s_line_is_shown() -> None:
    found = called_from({"__name__": "theirs"})
    assert (found.filename, found.lineno, str(found.message)) == ("their.py", 3, "few rows")


def test_code_without_a_module_name_is_a_caller() -> None:
    """As `exec(code, {})` runs it."""
    found = called_from({})
    assert (found.filename, found.lineno) == ("their.py", 3)


def test_frames_of_this_package_are_skipped() -> None:
    within: dict[str, object] = {"__name__": "fusion_classifier.fusion.logistic", "warn_caller": warn.warn_caller}
    exec(compile("def solve():\n    warn_caller('no convergence')", "ours.py", "exec"), within)  # noqa: S102
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        exec(compile("solve()", "their.py", "exec"), {"__name__": "theirs", "solve": within["solve"]})  # noqa: S102
    assert seen[0].filename == "their.py"
