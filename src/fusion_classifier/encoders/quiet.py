"""Silences transformers while it loads a model, and restores its settings."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

# torchao, which transformers imports where it is installed, warns of every kernel that this machine can't use.
LOGGERS = ("transformers", "torchao", "torch.utils._pytree")
_lock = RLock()  # the settings are the process's: two loads at a time would restore each other's


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings and progress bars of transformers, torchao and the GGUF reader, but not exceptions."""
    import transformers.utils.logging as library  # noqa: PLC0415 - takes seconds; sets its logger's level when imported

    with _lock:
        loggers = {logging.getLogger(name): logging.getLogger(name).level for name in LOGGERS}
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        hook = library.set_tqdm_hook(_no_bar)
        try:
            yield
        finally:
            library.set_tqdm_hook(hook)
            for logger, level in loggers.items():
                logger.setLevel(level)


def _no_bar(_factory: Callable[..., Any], arguments: tuple[Any, ...], _options: dict[str, Any]) -> Any:
    from transformers.utils.logging import EmptyTqdm  # noqa: PLC0415

    return EmptyTqdm(*arguments)
