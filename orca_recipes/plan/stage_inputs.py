"""The inputs of a stage, where thousands of stages take in the same ones up to a place.

A draw of a collection looks at all earlier ones. Listed for each, they cost the square of their number; so a stage with
more than `LISTED` inputs holds lines of names that it shares with others, and is told by one digest of each line.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orca_recipes.plan.fingerprint import digest_of_text

LISTED = 1000
"""Up to so many inputs a fingerprint is made of each one's: those of stores and locks that exist stay as they are."""


@dataclass(frozen=True)
class Stretch:
    """The first stages of a line; digest: of their fingerprints, in their order."""

    line: Sequence[str]
    count: int
    digest: str

    def __len__(self) -> int:
        return self.count


class Line:
    """Names of stages in one order, with the digest of each stretch from the first."""

    def __init__(self, fingerprints: Mapping[str, str], names: Iterable[str] = ()) -> None:
        """fingerprints: of the stages of a plan, by name."""
        self._fingerprints = fingerprints
        self._names: list[str] = []
        self._digests = [""]
        for name in names:
            self.append(name)

    def __len__(self) -> int:
        return len(self._names)

    def append(self, name: str) -> None:
        self._names.append(name)
        # As canonical JSON: digits alone, in which it escapes nothing.
        self._digests.append(digest_of_text(f'["{self._digests[-1]}","{self._fingerprints[name]}"]'))

    def stretch(self, count: int | None = None) -> Stretch:
        """Return the first stages of the line; count: how many, None for all that are there."""
        count = len(self._names) if count is None else count
        return Stretch(self._names, count, self._digests[count])


@dataclass(frozen=True)
class ManyInputs:
    """Inputs that are not listed one by one: names, and stretches of lines, in their order."""

    parts: tuple[str | Stretch, ...]

    def __iter__(self) -> Iterator[str]:
        """Yield each stage once."""
        return iter(each_once(self.parts))


def inputs_of(parts: Sequence[str | Stretch]) -> tuple[str, ...] | ManyInputs:
    """Return a stage's inputs, each once: listed, unless stretches make them too many."""
    if sum(1 if isinstance(part, str) else len(part) for part in parts) <= LISTED:
        return tuple(each_once(parts))
    return ManyInputs(tuple(parts))


def told_by(inputs: tuple[str, ...] | ManyInputs, fingerprints: Mapping[str, str]) -> list[str]:
    """Return what stands for inputs in a stage's identity; fingerprints: of the stages of a plan, by name."""
    if isinstance(inputs, ManyInputs):
        return [fingerprints[part] if isinstance(part, str) else f"stretch {part.digest}" for part in inputs.parts]
    return list(map(fingerprints.__getitem__, inputs))


def each_once(parts: Sequence[str | Stretch]) -> list[str]:
    """List the stages of stretches, each once, without going through what shorter stretches of a line held before."""
    found: dict[str, None] = {}
    seen: dict[int, int] = {}
    for part in parts:
        if isinstance(part, str):
            found[part] = None
        else:
            line = id(part.line)
            found |= dict.fromkeys(part.line[seen.get(line, 0) : part.count])
            seen[line] = max(seen.get(line, 0), part.count)
    return list(found)
