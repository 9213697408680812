#!/usr/bin/env bash
# transformers 5.23.0, the chat templates that trl 1.16.0 ships
# A conversation has text alone: each message's content is a string, as OpenAI's format has it. It is rendered by
#   transformers with the chat templates of two vision models, Idefics3 and SmolVLM.
# One would guess: the texts, or an error that says that these templates take lists of parts.
# What happens: every text is missing, without a word. The template walks over the content's parts; of a string those are
#   characters, a character has no "type", and what is not there is neither image nor text. Roles and end marks are printed,
#   so lengths look plausible. With the same text as one part, {"type": "text", "text": ...}, all is there.
# Why it matters for instruction-tuning data: a text-only set mixed into a vision model's training teaches it to say
#   nothing, and a mask of "answer" tokens covers end marks alone. Compare what is rendered with what was said.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q transformers==5.23.0 jinja2==3.1.6
venv/bin/pip download -q --no-deps trl==1.16.0
venv/bin/python -I - <<'PY'
import glob
import sys
import zipfile

import transformers
from transformers.utils.chat_template_utils import render_jinja_template

print("transformers", transformers.__version__)
(wheel,) = glob.glob("trl-*.whl")
with zipfile.ZipFile(wheel) as held:
    texts = {name.rpartition("/")[2]: held.read(name).decode() for name in held.namelist() if name.endswith(".jinja")}
said = [("user", "How many legs has a spider?"), ("assistant", "Eight.")]
plain = [{"role": role, "content": text} for role, text in said]
parts = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in said]
changed = []
for name in ("idefics3.jinja", "smolvlm.jinja"):
    for form, messages in (("strings", plain), ("parts", parts)):
        (printed,), _ = render_jinja_template(conversations=[messages], chat_template=texts[name])
        there = [text in printed for _, text in said]
        print(f"{name:15} {form:8} {printed!r}")
        if there != [form == "parts"] * 2:
            changed.append((name, form))
if changed:
    sys.exit(f"No longer so: {changed}")
print("SEEN: texts that are strings are not printed, and nobody says so")
PY
