"""Where results go: refused before the work starts rather than after it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from planner.errors import OutputExistsError, PlannerError


class UnwritableError(PlannerError):
    """Results cannot be written where the user wants them."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"{path}: {reason}; choose another place with --output")


def check_folder(folder: Path, *, force: bool) -> None:
    """Refuse a folder that holds something already, or that cannot be made.

    Raises
    ------
    OutputExistsError
        If the folder is not empty and ``force`` is off.
    UnwritableError
        If it is a file, or nothing can be written there.
    """
    if folder.exists() and not folder.is_dir():
        raise UnwritableError(folder, "is a file, not a folder")
    _probe(folder, folder)
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise OutputExistsError(folder)


def check_file(path: Path | None, *, force: bool) -> None:
    """Refuse a file that exists already, or whose folder is missing or cannot be written.

    Raises
    ------
    OutputExistsError
        If the file exists and ``force`` is off.
    UnwritableError
        If its folder is missing, or nothing can be written there.
    """
    if path is None:
        return
    if not path.parent.is_dir():
        raise UnwritableError(path, f"there is no folder {path.parent}")
    if path.exists() and not force:
        raise OutputExistsError(path)
    _probe(path.parent, path)


def _probe(folder: Path, wanted: Path) -> None:
    """Write to the nearest folder that exists, and leave nothing behind."""
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    try:
        Path(tempfile.mkdtemp(prefix=".planner-", dir=place)).rmdir()
    except OSError as error:
        raise UnwritableError(wanted, f"cannot be written: {error.strerror}") from error
