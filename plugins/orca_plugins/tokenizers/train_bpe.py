"""Train a small byte-level BPE tokenizer on the texts of a JSON-lines file.

    python -m orca_plugins.tokenizers.train_bpe --texts tasks.jsonl.gz --vocabulary 4096 --out tokenizer.json

Byte-level, so that it can write any text; split as Llama 3 splits, which the fast tokenizer knows; three control tokens
come first. The same texts give the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

# How Llama 3 parts text before merging (github.com/meta-llama/llama3, llama/tokenizer.py): English endings, words with
# the sign before them, numbers by three digits, signs, runs of white space.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns: the exit status: 0, or 2 with a sentence for a mistake."""
    options = _parser().parse_args(arguments)
    try:
        options.out.write_text(trained(texts(options.texts), options.vocabulary), encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"train_bpe: {error}", file=sys.stderr)
        return 2
    return 0


def texts(path: Path) -> Iterator[str]:
    """Yield every text of every row, in order. Raises: ValueError for a line that is no JSON object."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            yield from (value for value in _row(line, f"{path}:{number}").values() if isinstance(value, str))


def trained(corpus: Iterator[str], vocabulary: int) -> str:
    """Train the tokenizer.json of a tokenizer with at most `vocabulary` tokens, control tokens included."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            # Without its own regex (GPT-2's), which would split the pieces once more.
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(CONTROL_TOKENS),
        # A token for every byte; sorted, since a set's order is not the same in every process.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer=trainer)
    return str(tokenizer.to_str(pretty=True)) + "\n"


def _row(line: str, where: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: is not JSON: {error.msg}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: is not a JSON object")
    return row


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orca_plugins.tokenizers.train_bpe", description=__doc__)
    parser.add_argument(
        "--texts", required=True, type=Path, help="JSON lines, plain or .gz; every text of a row counts"
    )
    parser.add_argument("--vocabulary", required=True, type=int, help="tokens, control tokens included")
    parser.add_argument("--out", required=True, type=Path, help="tokenizer.json to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
