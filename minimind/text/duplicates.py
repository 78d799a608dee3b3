"""Near duplicates: texts that share most of their runs of three words.

Explained in chapter 08. Sources: Broder 1997, "On the Resemblance and Containment
of Documents" (MinHash); Lee et al. 2022, "Deduplicating Training Data Makes Language
Models Better".
"""

import hashlib
import re
import zlib
from collections.abc import Callable, Iterable

import numpy as np

from minimind.errors import UserError

# A Chinese character, a word of another script, or a single sign.
UNIT = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+|[^\w\s]")
RUN = 3  # units in a shingle
HASHES = 128  # of a MinHash; the error of a similarity is about 1/sqrt(HASHES)


def units(text: str) -> list[str]:
    """The words, Chinese characters and signs of a text, in lower case."""
    return UNIT.findall(text.lower())


def runs(words: list[str], length: int) -> list[str]:
    """All runs of so many words, in their order; a shorter text is one run."""
    count = max(1, len(words) - length + 1)
    return [" ".join(words[i : i + length]) for i in range(count)]


def shingles(text: str) -> set[str]:
    """The runs that a text is compared by."""
    return set(runs(units(text), RUN))


def similarity(one: str, other: str) -> float:
    """The Jaccard similarity of two texts: runs in both, of runs in either."""
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def digest(data: bytes) -> int:
    """64 bits that stand for any bytes."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def choose_bands(threshold: float) -> tuple[int, int]:
    """How many bands, of how many hashes each, find pairs of this similarity.

    Weighted so that few are missed: what is found too much is compared exactly.
    Raises UserError where datasketch is not installed.
    """
    try:
        from datasketch import MinHashLSH
    except ImportError:
        raise UserError(
            "near duplicates are found with datasketch, which is not installed: "
            "pip install 'build-minimind[data]', or pass --near None"
        ) from None
    threshold = min(threshold, 0.95)  # it knows no bands for more; these find them too
    index = MinHashLSH(threshold=threshold, num_perm=HASHES, weights=(0.1, 0.9))
    return index.b, index.r


def band_digests(text: str, bands: tuple[int, int]) -> list[int]:
    """A number for each band; similar texts agree in one of them at least."""
    from datasketch import MinHash

    sketch = MinHash(num_perm=HASHES, hashfunc=zlib.crc32)
    sketch.update_batch([run.encode("utf-8", "replace") for run in shingles(text)])
    count, width = bands
    rows = sketch.hashvalues[: count * width].reshape(count, width)
    return [digest(row.tobytes()) for row in rows]


def first_alike(values: np.ndarray) -> np.ndarray:
    """For each of N values the place of the first that is equal to it, (N,)."""
    _, first, which = np.unique(values, return_index=True, return_inverse=True)
    return first[which]


def find_near(
    bands: Iterable[np.ndarray], text_of: Callable[[int], str], threshold: float
) -> dict[int, int]:
    """Rows that are near duplicates of an earlier one, each with that one.

    bands: for each band the numbers of the N rows, as `band_digests` gives them.
    Each row is compared, run by run, with the first that agrees with it in a band.
    """
    earlier: dict[int, set[int]] = {}
    for band in bands:
        first = first_alike(band)
        for row in np.flatnonzero(first < np.arange(len(first))).tolist():
            earlier.setdefault(row, set()).add(int(first[row]))
    found = {}
    for row, others in sorted(earlier.items()):
        text = text_of(row)
        for other in sorted(others):
            if similarity(text, text_of(other)) >= threshold:
                found[row] = other
                break
    return found
