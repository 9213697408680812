"""The same work done by others, each on a slice of the corpus that takes it long enough to be measured.

Peers live in a virtual environment of their own, so that what they need decides nothing of ours.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench.corpus import Corpus, Library
from tests.bench.measure import Cost, measure
from tests.bench.recipes import Build, Student
from tests.bench.trials import COMMAND

ROW_TOKENS = 2048
LEAST_SECONDS = 60.0
_FIRST_MEGABYTES = 4.0
_START_SECONDS = 10.0
_TRIES = 5
HOW_TO_INSTALL = (
    "python3.11 -m venv peers-venv && peers-venv/bin/pip install torch==2.13.0 && "
    "peers-venv/bin/pip install trl datasets transformers sentencepiece 'datatrove[processing,io]'; "
    "and for llamafactory, which wants other versions, one like it: pip install torch==2.13.0 llamafactory, then "
    "pip uninstall torchvision torchaudio (of another torch)"
)


@dataclass(frozen=True)
class Peer:
    """A script in `peers/` and what of our work it does."""

    name: str
    script: str
    does: str
    packs: bool


PEERS = {
    peer.name: peer
    for peer in (
        Peer("trl", "trl_packed.py", "datasets.map + apply_chat_template + mask + TRL bfd, 2 processes", True),
        Peer("datatrove", "datatrove_tokens.py", "datatrove DocumentTokenizer, 2 tasks: tokens only", False),
        Peer(
            "llamafactory", "llamafactory_packed.py", "LlamaFactory's template, mask, neat packing, 2 processes", True
        ),
    )
}


@dataclass(frozen=True)
class PeerTrial:
    """What a peer did with a slice. fill is None for one that does not pack."""

    peer: Peer
    student: str
    corpus: Corpus
    cost: Cost
    tokens: int
    fill: float | None

    @property
    def rate(self) -> float:
        """MB of text a second."""
        return self.corpus.megabytes / self.cost.wall_seconds

    @property
    def cpu_rate(self) -> float:
        """MB of text a CPU second."""
        return self.corpus.megabytes / self.cost.cpu_seconds


def compete(peer: Peer, student: Student, *, python: Path, library: Library, folder: Path) -> PeerTrial:
    """Give a peer more text until it takes at least a minute; the last run counts.

    Raises: CommandFailed.
    """
    tokenizer = tokenizer_of(student, library, folder)
    megabytes = _FIRST_MEGABYTES
    for _ in range(_TRIES):
        trial = _tried(peer, student, library.of_size(round(megabytes)), python, tokenizer, folder / "peer")
        if trial.cost.wall_seconds >= LEAST_SECONDS:
            break
        started = min(_START_SECONDS, trial.cost.wall_seconds / 2)
        megabytes *= max(1.3, 1.25 * (LEAST_SECONDS - started) / (trial.cost.wall_seconds - started))
    return trial


def tokenizer_of(student: Student, library: Library, folder: Path) -> Path:
    """The tokenizer as we ship it, which transformers and tokenizers open as it stands."""
    kept = folder / f"{student.name}-shipped"
    if not kept.exists():
        corpus = library.of_rows(100)
        made = folder / "shipping"
        recipe = Build(student, (corpus,)).write(made / "recipe.toml")
        measure([COMMAND, "build", recipe, "--store", "store", "--out", "out", "--workers", "1"], folder=made)
        shutil.copytree(made / "out" / "tokenizer", kept)
        shutil.rmtree(made)
    return kept


def _tried(peer: Peer, student: Student, corpus: Corpus, python: Path, tokenizer: Path, out: Path) -> PeerTrial:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        script = Path(__file__).parent / "peers" / peer.script
        cost = measure(
            [python, script, corpus.path, tokenizer, out, str(ROW_TOKENS)],
            folder=out,
            environment={"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        said = json.loads(cost.output.splitlines()[-1])
    finally:
        shutil.rmtree(out, ignore_errors=True)
    fill = said["tokens"] / (said["rows"] * ROW_TOKENS) if peer.packs else None
    print(f"{peer.name}, {student.name}, {corpus.path.name}: {cost.wall_seconds:.0f} s", file=sys.stderr)
    return PeerTrial(peer, student.name, corpus, cost, said["tokens"], fill)
