#!/usr/bin/env bash
# reasoning-gym 0.1.25
# A task is drawn with seed 1 to train on and with seed 2 to evaluate on, 1,000 items each.
# One would guess: two seeds give two independent draws, as with any generator of random numbers.
# What happens: item i is drawn from the sum seed + i, so the second set is the first one moved up by one place: 999 of its
#   1,000 questions are training questions, word for word. Seeds must lie at least `size` apart.
# Why it matters for instruction-tuning data: seeds 1, 2, 3 for train, validation and test, or for the parts of one mixture,
#   leak almost whole, or count the same examples again and again, and neither set looks wrong by itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q reasoning-gym==0.1.25
venv/bin/python -I - <<'PY'
import sys
from importlib.metadata import version

import reasoning_gym

print("reasoning-gym", version("reasoning-gym"))


def draw(task, seed):
    return [item["question"] for item in reasoning_gym.create_dataset(task, size=1000, seed=seed)]


for task in ("basic_arithmetic", "leg_counting", "letter_counting"):
    train, near, far = draw(task, 1), draw(task, 2), draw(task, 1001)
    shared, apart = (sum(question in set(train) for question in other) for other in (near, far))
    print(f"{task}: of 1,000 questions of seed 2, {shared} are in seed 1; of seed 1001, {apart}")
    if near[:-1] != train[1:]:
        sys.exit("No longer so: the next seed is not the same draw moved by one place.")
    if apart > 100:
        sys.exit("No longer so: seeds that lie the size apart share questions too.")
print("SEEN: seeds 1 and 2 share 999 of 1,000 questions")
PY
