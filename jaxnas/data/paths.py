"""Sentences about files that cannot be read."""

from collections.abc import Iterable
from pathlib import Path

from jaxnas.errors import InputError, nearest


def missing(path: Path) -> InputError:
    """An `InputError` for a path that is not there, with the nearest names in its folder."""
    folder = path.parent
    if not folder.is_dir():
        return InputError(f"{path} does not exist, and neither does the folder {folder}.")
    return InputError(f"{path} does not exist{nearest_there(path.name, entries(folder))}.")


def unreadable(path: Path, error: OSError) -> InputError:
    """An `InputError` for a path the operating system refuses to open."""
    return InputError(f"{path} cannot be read: {error.strerror or error}.")


def entries(folder: Path) -> list[str]:
    """Names in a folder, hidden ones left out, sorted."""
    try:
        return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise unreadable(folder, error) from None


def nearest_there(name: str, known: Iterable[str]) -> str:
    """`"; the nearest there: a, b"`, or nothing where nothing is near."""
    close = nearest(name, known)
    return f"; the nearest there: {', '.join(close)}" if close else ""
