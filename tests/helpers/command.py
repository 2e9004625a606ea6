"""`fec` and programs in this process, which has torch already: a process of its own takes seconds to import it."""

import contextlib
import io
import logging
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from fusion_classifier.cli.main import main


def fec(*arguments: object, cwd: Path | None = None, stdin: str = "") -> CompletedProcess[str]:
    """What a command prints, where, and its exit code."""
    words = [*map(str, arguments)]
    return _done(lambda: main(words), words, cwd, stdin)


def program(path: Path, *arguments: object) -> CompletedProcess[str]:
    """What a program prints, where, and its exit code."""
    words = [*map(str, (path, *arguments))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        patch.syspath_prepend(path.parent)
        return _done(lambda: runpy.run_path(str(path), run_name="__main__"), words)


def _done(
    run: Callable[[], object], words: Sequence[str], cwd: Path | None = None, stdin: str = ""
) -> CompletedProcess[str]:
    out, err, code = io.StringIO(), io.StringIO(), 0
    logger = logging.getLogger("fusion_classifier")
    handlers, level = logger.handlers[:], logger.level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("signal.signal", lambda *_: None)
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        with contextlib.chdir(cwd or Path.cwd()), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                run()
            except SystemExit as ended:
                code = int(ended.code or 0) if not isinstance(ended.code, str) else 1
                if isinstance(ended.code, str):
                    print(ended.code, file=err)
    for handler in set(logger.handlers) - set(handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)
    return CompletedProcess(list(words), code, out.getvalue(), err.getvalue())
