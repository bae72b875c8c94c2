"""Writing a directory's files, each whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

from jaxnas.runs import writing


def put(path: Path, content: str | Callable[[Path], object]) -> None:
    """Write text, or let `content(path)` make the file, beside and then in its place.

    Raises:
        InputError: what the system says of a write that fails.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.part")
        try:
            if isinstance(content, str):
                beside.write_text(content, encoding="utf-8")
            else:
                content(beside)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
