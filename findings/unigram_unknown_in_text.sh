#!/usr/bin/env bash
# sentencepiece 0.2.3, tokenizers 0.23.3
# One Unigram vocabulary, trained by SentencePiece and given to tokenizers piece by piece; nothing is added as special.
# One would guess: both encode a text alike, also one in which somebody writes of the piece "<unk>".
# What happens: they agree, on "<b>" as well, until the text has those five characters. SentencePiece spells them out;
#   tokenizers answers the id of the unknown, though it could spell them, and decode() gives them back, so that no round
#   trip shows it.
# Why it matters for instruction-tuning data: tokenizer questions and old corpora hold "<unk>" as text. Counting unknown
#   ids, or dropping the rows that have one, then judges good rows; and ids differ from those of the model's own training.
#   Compare ids, not texts, of the two.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q sentencepiece==0.2.3 tokenizers==0.23.3
venv/bin/python -I - <<'PY'
import io
import sys
from importlib.metadata import version

import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

print("sentencepiece", version("sentencepiece"), "tokenizers", version("tokenizers"))
corpus = ["what does a tag mean in a list", "the unknown is written so <b> and <k>", "a user asks, the model answers > <"]
model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(corpus * 20), model_writer=model, model_type="unigram", vocab_size=60, hard_vocab_limit=False,
    character_coverage=1.0, normalization_rule_name="identity", num_threads=1, minloglevel=2,
)  # fmt: skip
ours = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
pieces = [(ours.id_to_piece(place), ours.get_score(place)) for place in range(ours.get_piece_size())]
theirs = Tokenizer(models.Unigram(pieces, unk_id=ours.unk_id()))
theirs.pre_tokenizer, theirs.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
if theirs.get_added_tokens_decoder():
    sys.exit("No longer so: tokenizers adds special tokens by itself.")
plain, written = "what does <b> mean in a list", "what does <unk> mean in a list"
for text in (plain, written):
    print(f"sentencepiece {ours.encode(text, out_type=str)}")
    print(f"tokenizers    {theirs.encode(text).tokens}")
if theirs.encode(plain).ids != ours.encode(plain):
    sys.exit("No longer so: the two differ on a text without the unknown piece.")
if ours.unk_id() in ours.encode(written):
    sys.exit("No longer so: SentencePiece does not spell the five characters out.")
if theirs.encode(written).ids.count(ours.unk_id()) != 1:
    sys.exit("No longer so: tokenizers does not give the unknown id.")
if theirs.decode(theirs.encode(written).ids, skip_special_tokens=True) != written:
    sys.exit("No longer so: the round trip shows it.")
print("SEEN: <unk> in a text is the unknown id in tokenizers, spelled out in SentencePiece, and the round trip is whole")
PY
