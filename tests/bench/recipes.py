"""The recipes that the bench builds, and the two tokenizers that they name."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from orca_plugins.tokenizers.train_bpe import trained
from tests.bench.corpus import Corpus, making

CONTROL = ("<|im_start|>", "<|im_end|>")
VOCABULARY = 32_000
_TRAINING_BYTES = 40_000_000


@dataclass(frozen=True)
class Student:
    """A tokenizer and how a recipe names it."""

    name: str
    path: Path
    added: tuple[str, ...]


@dataclass(frozen=True)
class Build:
    """One recipe over corpora, each a collection; where min_answer_chars is set, one more filter stands last.

    max_chars: of the first filter; None leaves it out. rows: so many are drawn of the first corpus, where not all are.
    system_messages: each of a rule; the corpora hold questions, then.
    """

    student: Student
    corpora: tuple[Corpus, ...]
    row_tokens: int = 2048
    shard_tokens: int = 100_000_000
    min_answer_chars: int | None = None
    max_chars: int | None = 20_000
    tasks_in_rows: bool = False
    seed: int = 1
    rows: int | None = None
    system_messages: tuple[str, ...] = ()

    def with_changes(self, **changes: object) -> "Build":
        return replace(self, **changes)  # type: ignore[arg-type]

    def write(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n\n".join(self._tables(path)) + "\n", encoding="utf-8")
        if self.system_messages:
            told = [f"{number} = {json.dumps(text)}" for number, text in enumerate(self.system_messages)]
            path.with_suffix(".messages.toml").write_text("\n".join(["[messages]", *told, ""]), encoding="utf-8")
        return path

    def _tables(self, path: Path) -> Iterator[str]:
        yield f'name = "bench"\nseed = {self.seed}'
        for number, corpus in enumerate(self.corpora):
            yield f'[collections.chat-{number}]\nkind = "files"\npath = {_quoted(corpus.path)}\n{self._columns()}'
        takes = [f"take.chat-{number} = {{ all = true }}" for number in range(len(self.corpora))]
        if self.rows is not None:
            takes[0] = f"take.chat-0 = {{ rows = {self.rows} }}"
        yield "\n".join(["[mixtures.all]", *takes])
        filters = [] if self.max_chars is None else [f'{{ kind = "length", max_chars = {self.max_chars} }}']
        if self.min_answer_chars is not None:
            filters.append(f'{{ kind = "length", min_answer_chars = {self.min_answer_chars} }}')
        yield f'[datasets.main]\nmixture = "all"\nfilters = [{", ".join(filters)}]'
        yield from self._rules(path)
        added = f"\nadd_special_tokens = {json.dumps(list(self.student.added))}" if self.student.added else ""
        yield f'[tokenizer]\nkind = "hf"\npath = {_quoted(self.student.path)}{added}'
        yield '[template]\nkind = "chatml"'
        yield f'[packing]\nkind = "best_fit"\nrow_tokens = {self.row_tokens}'
        yield f"[output]\nshard_tokens = {self.shard_tokens}"

    def _columns(self) -> str:
        if self.system_messages:
            return 'columns = { question = "question", reference = "answer", task = "task" }'
        task, column = ("", ', task = "task"') if self.tasks_in_rows else ('task = "chat"\n', "")
        return f'{task}columns = {{ messages = "messages"{column} }}'

    def _rules(self, path: Path) -> Iterator[str]:
        if self.system_messages:
            yield f'[system_messages.ten]\nkind = "file"\npath = {_quoted(path.with_suffix(".messages.toml"))}'
        for number in range(len(self.system_messages)):
            # The first is for one task of a hundred, the last for all that are left.
            tasks = "00" if number == 0 else f"*{number}"
            when = f'when = {{ task = "{tasks}" }}\n' if number < len(self.system_messages) - 1 else ""
            yield f'[[rules]]\n{when}strategy = "direct"\nsystem_messages = ["ten/{number}"]'


def students(shared: Path, corpus: Corpus, folder: Path) -> dict[str, Student]:
    """The shared SentencePiece tokenizer, and a byte-level one trained on the corpus, split as Llama 3 splits."""
    path = folder / f"byte-level-{VOCABULARY}.json"
    if not path.exists():
        with making(path) as aside:
            aside.write_text(trained(_contents(corpus), VOCABULARY), encoding="utf-8")
    return {
        "sentencepiece": Student("sentencepiece", shared / "tokenizer", CONTROL),
        "byte-level": Student("byte-level", path, ()),
    }


def _contents(corpus: Corpus) -> Iterator[str]:
    """The first tens of megabytes of a corpus' text; real text stands first."""
    given = 0
    with corpus.path.open(encoding="utf-8") as lines:
        for line in lines:
            for message in json.loads(line)["messages"]:
                yield message["content"]
                given += len(message["content"])
            if given >= _TRAINING_BYTES:
                return


def _quoted(path: Path) -> str:
    return json.dumps(str(path.absolute()), ensure_ascii=False)
