"""Downloading a file: broken off it goes on, and it is what it should be or refused.

What has come so far lies in NAME.part; NAME.part.json says which version of which
address it is, so that two versions are never joined.
"""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

from minimind.errors import UserError
from minimind.files import room_for, sha256_of, write_json

TRIES = 5  # in a row that bring nothing, before giving up
PAUSE = 1.0  # seconds after the first of them; doubled each time
TIMEOUT = 30  # seconds without a byte
BROKEN = (OSError, http.client.HTTPException)

Progress = Callable[[int, int | None], None]  # bytes so far, and in all where known


class Unreachable(Exception):
    """An address that gives no file at all: what it said."""


def open_from(url: str, start: int, version: str | None) -> http.client.HTTPResponse:
    """Ask for a file from a byte on, or for all of it if its version has changed.

    Raises Unreachable where the server has no such file or there is none.
    """
    headers = {"User-Agent": "minimind", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version or ""}
    try:
        request = urllib.request.Request(url, headers=headers)
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code >= 500 or error.code in (416, 429):  # may be well next time
            raise
        raise Unreachable(f"{error.code} {error.reason}") from None
    except ValueError as error:  # no address at all
        raise Unreachable(str(error)) from None


def note_of(part: Path) -> Path:
    """The file that says what a part is a part of."""
    return part.with_name(part.name + ".json")


def receive(url: str, part: Path, progress: Progress) -> None:
    """Fetch what is still missing of a file; return when all of it is there.

    Raises an error of BROKEN where the connection ends early.
    """
    note = note_of(part)
    known = json.loads(note.read_text("utf-8")) if note.is_file() else {}
    # Without a version the rest might be another file's: then from the beginning.
    start = part.stat().st_size if part.is_file() else 0
    if known.get("url") != url or not known.get("version"):
        start = 0
    if start and start == known.get("size"):
        return
    with open_from(url, start, known.get("version")) as response:
        if response.status != 206:  # the whole file comes, whatever was asked for
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        version = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if version and version.startswith("W/"):
            version = None  # says only that it is about the same
        write_json(note, {"url": url, "version": version, "size": total})
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            while block := response.read(2**18):
                with room_for(part, len(block)):
                    file.write(block)
                    file.flush()
                start += len(block)
                progress(start, total)
    if total is not None and start < total:
        raise ConnectionError(f"ended after {start:,} of {total:,} bytes")


def fetch(url: str, part: Path, progress: Progress) -> None:
    """Fetch a file, going on after each break.

    Raises Unreachable, and UserError where TRIES in a row brought nothing.
    """
    tries = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            return receive(url, part, progress)
        except urllib.error.URLError as error:
            reason = error.reason
            if getattr(error, "code", None) == 416:  # the file is shorter than the part
                note_of(part).unlink()
        except BROKEN as error:
            reason = error
        grown = part.is_file() and part.stat().st_size > before
        tries = 0 if grown else tries + 1
        if tries == TRIES:
            if not before:
                raise Unreachable(str(reason))
            raise UserError(
                f"{url}: broke off ({reason}); {before:,} bytes are kept in {part}: "
                "run the same command again to go on"
            )
        if tries:
            time.sleep(PAUSE * 2 ** (tries - 1))


def download(
    urls: Iterable[str],
    path: Path,
    sha256: str | None = None,
    progress: Progress = lambda done, total: None,
) -> str:
    """Get a file from the first address that has it, and return its sha256.

    sha256: what it must be; if not given, what was recorded in NAME.sha256 the time
    before, and the first time anything. Raises UserError for a file that is something
    else (it is kept as NAME.refused) and where no address has it.
    """
    record = path.with_name(path.name + ".sha256")
    if sha256 is None and record.is_file():
        sha256 = record.read_text(encoding="utf-8").split()[0]
    if path.is_file():
        found = sha256_of(path)
        if sha256 not in (None, found):
            raise UserError(
                f"{path}: is there, with the sha256 {found} and not {sha256}; move it "
                "away to download it again"
            )
        return found
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    said = []
    for url in urls:
        try:
            fetch(url, part, progress)
            break
        except Unreachable as error:
            said.append(f"{url}: {error}")
    else:
        raise UserError(
            f"{path.name}: no address has it ({'; '.join(said)}); give another with "
            "--from-url, or put the file there by hand"
        )
    found = sha256_of(part)
    if sha256 not in (None, found):
        refused = path.with_name(path.name + ".refused")
        os.replace(part, refused)
        note_of(part).unlink()
        raise UserError(
            f"{url}: refused, its sha256 is {found} and not {sha256}; it is kept as "
            f"{refused}: take it from another place (--source, --from-url), or say "
            f"that it is right with --sha256 {found}"
        )
    record.write_text(f"{found}  {path.name}\n", encoding="utf-8")
    os.replace(part, path)
    note_of(part).unlink()
    return found
