#!/usr/bin/env bash
# tokenizers 0.23.3
# A text holds characters that a vocabulary cannot spell, and the model has no unknown token.
# One would guess: an error, as three of the four models give; or, with "<unk>" among the trainer's special tokens, that id.
# What happens: BPE alone encodes on and leaves the characters out. No id, no error, and no offset marks the place.
#   A trainer that is given "<unk>" puts it in the vocabulary but does not make it the model's unknown token;
#   byte_fallback=True, where the vocabulary has no byte pieces, leaves out as much.
# Why it matters for instruction-tuning data: "2 + 2" and "2 - 2" become the same training example, and every count still
#   adds up. Compare decode(encode(text)) with the text before a build, or give the model an unknown token.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q tokenizers==0.23.3
venv/bin/python -I - <<'PY'
import sys
from importlib.metadata import version

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

print("tokenizers", version("tokenizers"))
corpus = ["add two and two to get four", "what is two plus two"]
letters = {letter: place for place, letter in enumerate(sorted(set("".join(corpus)) - {" "}))}
words = letters | {"▁" + word: 50 + place for place, word in enumerate(("what", "is", "two"))}


def encode(model, text, trainer=None):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    if trainer:
        tokenizer.train_from_iterator(corpus, trainer)
    try:
        return tokenizer.decode(tokenizer.encode(text).ids)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


plus, minus = "what is 2 + two", "what is 2 - two"
bpe = words | {"▁": 90}
seen = {
    "WordLevel": encode(models.WordLevel(words), plus),
    "WordPiece": encode(models.WordPiece(words), plus),
    "Unigram": encode(models.Unigram([(piece, -1.0) for piece in words]), plus),
    "BPE": encode(models.BPE(bpe, []), plus),
    "BPE, the other text": encode(models.BPE(bpe, []), minus),
    "BPE, byte_fallback": encode(models.BPE(bpe, [], byte_fallback=True), plus),
    "BPE, trained with <unk>": encode(
        models.BPE(), plus, trainers.BpeTrainer(special_tokens=["<unk>"], show_progress=False)
    ),
}
for name, answer in seen.items():
    print(f"{name:24} {answer!r}")
if not all(seen[name].startswith("Exception") for name in ("WordLevel", "WordPiece", "Unigram")):
    sys.exit("No longer so: one of the other three models does not refuse what it cannot spell.")
ours = [answer for name, answer in seen.items() if name.startswith("BPE")]
if any("what" not in text or "two" not in text or set("2+-<") & set(text) for text in ours):
    sys.exit("No longer so: BPE does not leave out in silence what it cannot spell.")
if seen["BPE"] != seen["BPE, the other text"]:
    sys.exit("No longer so: the two texts encode differently.")
print("SEEN: BPE alone drops what it cannot spell; two unlike questions are one")
PY
