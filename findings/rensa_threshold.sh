#!/usr/bin/env bash
# rensa 0.5.0
# RMinHashLSH takes a threshold, a number of permutations and a number of bands, and query() answers with keys.
# One would guess: the threshold bounds what query() answers, or at least chooses the bands, as in datasketch.
# What happens: query() never looks at it. 0.01 and 0.99 give the same keys; only the bands decide. At 0.99 it answers rows
#   whose estimated Jaccard is far below, and at 0.01 it leaves out rows far above. is_similar() is what heeds the threshold.
# Why it matters for instruction-tuning data: near-duplicates are dropped by the keys that come back. Whoever tightens the
#   threshold to lose fewer rows loses the same rows. Choose the bands, then compare each candidate with jaccard().
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q rensa==0.5.0
venv/bin/python -I - <<'PY'
import random
import sys
from importlib.metadata import version

from rensa import RMinHash, RMinHashLSH

print("rensa", version("rensa"))
draw = random.Random(0)
words = [f"w{number}" for number in range(2000)]
question = draw.choices(words, k=200)


def hashed(changed):
    edited = list(question)
    for place in draw.sample(range(200), changed):
        edited[place] = draw.choice(words)
    signature = RMinHash(num_perm=128, seed=42)
    signature.update(edited)
    return signature


asked, stored = hashed(0), [hashed(changed) for changed in (0, 10, 20, 40, 60, 100)]
jaccard = [asked.jaccard(signature) for signature in stored]
print("estimated Jaccard of the rows:", [round(value, 2) for value in jaccard])
answers, similar = {}, {}
for bands in (16, 64):
    for threshold in (0.01, 0.5, 0.99):
        index = RMinHashLSH(threshold=threshold, num_perm=128, num_bands=bands)
        for key, signature in enumerate(stored):
            index.insert(key, signature)
        answers[bands, threshold] = sorted(index.query(asked))
        similar[bands, threshold] = [key for key, row in enumerate(stored) if index.is_similar(asked, row)]
        print(f"bands {bands} threshold {threshold}: query {answers[bands, threshold]}", end="  ")
        print(f"is_similar {similar[bands, threshold]}")
for bands in (16, 64):
    if not answers[bands, 0.01] == answers[bands, 0.5] == answers[bands, 0.99]:
        sys.exit("No longer so: the threshold changes what query() answers.")
if answers[16, 0.5] == answers[64, 0.5]:
    sys.exit("No longer so: the bands do not change what query() answers.")
if min(jaccard[key] for key in answers[64, 0.99]) > 0.9 or len(answers[16, 0.01]) == len(stored):
    sys.exit("No longer so: query() keeps to the threshold.")
if similar[16, 0.01] == similar[16, 0.99]:
    sys.exit("No longer so: is_similar() does not heed the threshold either.")
print("SEEN: the threshold does not bound query(): the bands alone decide")
PY
