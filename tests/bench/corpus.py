"""The bench's corpus, kept between runs: real text once, then repeated with other numbers and names.

It is asked for by rows or by size, and written as chat JSON lines and as Parquet with the same rows. Sizes are of text:
the contents of the messages in UTF-8, without JSON's quotes, keys and escapes.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from random import Random

from tests.bench.conversations import Conversation, conversations
from tests.bench.variation import Variation

SHARED = Path(__file__).parents[3] / "shared" / "data"
WORK = Path(tempfile.gettempdir()) / "orca-bench"
"""Where corpora, tokenizers and builds lie, unless one says otherwise."""

_BATCH = 20_000


def workshop(work: Path) -> AbstractContextManager[str]:
    """A folder for the builds of one run, gone after it: two benches at once never share one."""
    work.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="run-", dir=work)


@contextmanager
def making(path: Path) -> Iterator[Path]:
    """Where to make a file that is kept: it takes its place when it is whole, whoever else makes it meanwhile."""
    aside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@dataclass(frozen=True)
class Corpus:
    """One file of conversations.

    rows, text_bytes and file_bytes are what it holds; original is how many rows stand as people wrote them, repeated
    how many of the others hold neither number nor name and so are repeated word for word.
    """

    path: Path
    rows: int
    text_bytes: int
    file_bytes: int
    original: int
    repeated: int

    @property
    def megabytes(self) -> float:
        return self.text_bytes / 1e6

    def __str__(self) -> str:
        times = self.rows / self.original
        return (
            f"{self.path.name}: {self.rows:,} conversations, {self.megabytes:.1f} MB of text "
            f"({self.file_bytes / 1e6:.1f} MB of file); {self.original:,} of them real, as written, then repeated to "
            f"{times:.1f} times as many with other numbers and names ({self.repeated:,} of these hold neither and are "
            "repeated word for word)"
        )


class Library:
    """Corpora in a folder, each made when it is first asked for."""

    def __init__(self, folder: Path, shared: Path = SHARED) -> None:
        self.folder = folder
        self.shared = shared
        folder.mkdir(parents=True, exist_ok=True)

    def of_size(self, megabytes: float, *, skip: int = 0) -> Corpus:
        """At least so much text, after the first `skip` conversations."""
        return self._kept(f"{megabytes:g}mb" + (f"-from-{skip}" if skip else ""), megabytes * 1e6, None, skip)

    def of_rows(self, rows: int, *, skip: int = 0) -> Corpus:
        """So many conversations, after the first `skip`."""
        return self._kept(f"{rows}" + (f"-from-{skip}" if skip else ""), None, rows, skip)

    def as_parquet(self, corpus: Corpus) -> Corpus:
        """The same rows in a Parquet file."""
        path = corpus.path.with_suffix(".parquet")
        if not path.exists():
            with making(path) as aside:
                _write_parquet(corpus.path, aside)
        return Corpus(**{**asdict(corpus), "path": path, "file_bytes": path.stat().st_size})

    def as_questions(self, corpus: Corpus) -> Corpus:
        """The first exchange of each conversation as question and answer, of a hundred tasks in turn."""
        path = corpus.path.with_name(f"questions-of-{corpus.path.name}")
        if not path.exists():
            with making(path) as aside:
                _write_questions(corpus.path, aside)
        return Corpus(**{**asdict(corpus), "path": path, "file_bytes": path.stat().st_size})

    @cached_property
    def variation(self) -> Variation:
        found = list(conversations(self.shared))
        # Mixed, so that every slice is like the whole, whatever order the sources come in.
        Random(0).shuffle(found)
        return Variation(found)

    def _kept(self, name: str, size: float | None, rows: int | None, skip: int) -> Corpus:
        path = self.folder / f"chat-{name}.jsonl"
        notes = path.with_suffix(".json")
        if not notes.exists():
            with making(path) as aside:
                made = self._made(aside, size, rows, skip)
            with making(notes) as aside:
                aside.write_text(json.dumps({**asdict(made), "path": path.name}), encoding="utf-8")
        return Corpus(**{**json.loads(notes.read_text(encoding="utf-8")), "path": path})

    def _made(self, path: Path, size: float | None, rows: int | None, skip: int) -> Corpus:
        written = text = 0
        with path.open("wb") as file:
            for conversation in self._from(skip):
                messages = [{"role": role, "content": content} for role, content in conversation]
                file.write(json.dumps({"messages": messages}, ensure_ascii=False).encode() + b"\n")
                written += 1
                text += sum(len(content.encode()) for _, content in conversation)
                if written == rows or (size is not None and text >= size):
                    break
        original = max(1, min(written, len(self.variation.corpus) - skip))
        repeated = round(self.variation.fixed() * max(0, written - original) / len(self.variation.corpus))
        return Corpus(path, written, text, path.stat().st_size, original, repeated)

    def _from(self, skip: int) -> Iterator[Conversation]:
        """All conversations, round after round, from one place on."""
        whole = len(self.variation.corpus)
        number, at = divmod(skip, whole)
        while True:
            round = self.variation.round(number) if number else None
            for place in range(at, whole):
                yield self.variation.conversation(place, round)
            number, at = number + 1, 0


def _write_questions(source: Path, path: Path) -> None:
    with source.open(encoding="utf-8") as lines, path.open("w", encoding="utf-8") as file:
        for number, line in enumerate(lines):
            told = {message["role"]: message["content"] for message in reversed(json.loads(line)["messages"])}
            row = {"question": told["user"], "answer": told["assistant"], "task": f"{number % 100:02d}"}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_parquet(source: Path, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema([("messages", pa.list_(message))])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer, source.open(encoding="utf-8") as lines:
        batch: list[dict[str, object]] = []
        for line in lines:
            batch.append(json.loads(line))
            if len(batch) == _BATCH:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                batch = []
        if batch:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
