"""Files that are whole or not there: written beside their place, then renamed."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minimind.errors import UserError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def room_for(path: Path, size: int) -> Iterator[None]:
    """Turn the system's error on a full disk into a UserError; size in bytes."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise UserError(
            f"{path}: no room on the disk for {size / 1e6:.1f} MB; the earlier one "
            "is kept: free some space and run the same command again"
        ) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file beside its place, and rename it only when it is whole.

    Raises UserError on a full disk; the earlier file, if any, is untouched.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    with room_for(path, len(data)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a json file atomically."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False).encode())


def read_json(path: Path) -> dict[str, Any]:
    """The object that a json file holds.

    Raises UserError where it cannot be read, or is damaged: cut off, not UTF-8,
    or no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); put a whole copy back") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not an object of fields and values")
    return value


def sha256_of(*paths: Path) -> str:
    """The sha256 of the files' bytes, one file after the other, as hex digits."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()
