"""What is fed with spoilt inputs, and what a right answer is.

A target makes an input from a random source and tries it: True where it was accepted, False where it was refused with a
sentence. Whatever else happens, an exception, a hang, a row that the slow readers do not know, is a failure.
"""

import dataclasses
import json
import random
import tomllib
from collections.abc import Sequence
from typing import Any

import tomli_w

from orca_plugins.templates.from_tokenizer.kind import FromTokenizer
from orca_recipes.contract.kinds import Vocabulary
from orca_recipes.contract.markup import assemble_text
from orca_recipes.contract.templates.chat_template import ChatTemplate, Refused
from orca_recipes.errors import OrcaError, RecipeError
from orca_recipes.plan.pins import differences
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.pinning.lock_file import read_lock
from orca_recipes.shards.manifest import NAME, read_manifest
from orca_recipes.shards.reader import Shard
from tests.campaign import fuzz_sources, slow_readers
from tests.campaign.fuzz_world import Target, World, one_line, require
from tests.campaign.mutation import TEXTS, spoilt

CONTROL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]


def recipe(world: World, chance: random.Random) -> bool:
    """The TOML loader: what it resolves is what tomllib reads."""
    data = spoilt(chance.choice(world.recipes), chance, others=world.recipes)
    path = world.write("recipe.toml", data)
    overrides = chance.choice([(), (), ("packing.row_tokens=64",), ("a.b=c",), ("output=", "x..y=1")])
    try:
        loaded = load_recipe(path, catalogue=world.catalogue, overrides=overrides)
    except RecipeError as refused:
        require(bool(refused.faults), "no fault is told")
        for fault in refused.faults:
            require(bool(fault.sentence) and "\n" not in fault.sentence, f"the fault {fault.sentence!r}")
        return False
    if not overrides:
        table = tomllib.loads(data.decode("utf-8-sig"))
        table.pop("profiles", None)
        require(dict(loaded.resolved) == table, "it resolves to something else than the file says")
    return True


def template(world: World, chance: random.Random) -> bool:
    """Chat templates: compiled and rendered; one in thirty is taken apart, and then prints what its markup says."""
    text = spoilt(chance.choice(world.templates), chance, others=world.templates).decode(errors="replace")
    talk = conversation(chance)
    if chance.random() < 0.97:
        try:
            ChatTemplate(text, {"bos_token": "<s>", "eos_token": "</s>"}, None).render(talk, generation_prompt=True)
        except Refused:
            return False
        except OrcaError as refused:
            require(one_line(refused), f"the sentence {refused}")
            return False
        return True
    vocabulary = Vocabulary(
        size=len(CONTROL),
        control={token: place for place, token in enumerate(CONTROL)},
        other_added={},
        eats_space=frozenset(),
        bos="<s>",
        eos="</s>",
        pad=None,
        chat_template=text,
    )
    try:
        markup = FromTokenizer(date="2024-07-26").markup(vocabulary=vocabulary)
    except OrcaError as refused:
        require(one_line(refused), f"the sentence {refused}")
        return False
    shipped = ChatTemplate(markup.chat_template, {"bos_token": "<s>", "eos_token": "</s>"}, None)
    for talk in (conversation(chance) for _ in range(20)):
        try:
            ours, theirs = assemble_text(markup, talk), shipped.render(talk)
        except (OrcaError, Refused):
            continue
        answered = talk[-1]["role"] == "assistant"
        require(theirs.startswith(ours) if answered else ours in theirs, f"{ours!r} where it prints {theirs!r}")
    return True


def conversation(chance: random.Random) -> list[dict[str, str]]:
    roles = ["user", "assistant"] * chance.randrange(1, 4)
    roles = (["system"] if chance.random() < 0.4 else []) + roles[: chance.randrange(1, len(roles) + 1)]
    return [{"role": role, "content": chance.choice(TEXTS)} for role in roles]


def pair(world: World, chance: random.Random) -> bool:
    """An index and its tokens, against the struct module."""
    index, stored = world.pair
    if chance.random() < 0.9:
        index = spoilt(index, chance) if chance.random() < 0.4 else flipped(index, chance)
    if chance.random() < 0.2:
        stored = spoilt(stored, chance)
    expected = slow_readers.index(index, stored)
    world.write("pair.idx", index)
    world.write("pair.bin", stored)
    try:
        shard = Shard.open(world.folder / "pair")
    except OrcaError as refused:
        require(one_line(refused), f"the sentence {refused}")
        require(expected is None, f"a sound pair is refused: {refused}")
        return False
    require(expected is not None, "a pair that breaks a rule is opened")
    found = [shard.row(number) for number in range(shard.rows)]
    rows = [
        (one.tokens.tolist(), list(zip(one.segments.lengths.tolist(), one.segments.modes.tolist(), strict=True)))
        for one in found
    ]
    require(rows == expected, "other rows than the struct module reads")
    return True


def flipped(data: bytes, chance: random.Random) -> bytes:
    """One bit or byte changed, so that sizes stay: what a header still fits."""
    changed = bytearray(data)
    at = chance.choice([chance.randrange(len(data)), chance.randrange(min(80, len(data)))])
    changed[at] = (
        changed[at] ^ 1 << chance.randrange(8) if chance.random() < 0.7 else chance.choice([0, 1, 127, 128, 255])
    )
    return bytes(changed)


def manifest(world: World, chance: random.Random) -> bool:
    """A manifest: any other bytes are refused."""
    data = edited_json(world.manifest, chance) if chance.random() < 0.3 else spoilt(world.manifest, chance)
    world.write(NAME, data)
    try:
        read_manifest(world.folder)
    except OrcaError as refused:
        require(one_line(refused), f"the sentence {refused}")
        require(data != world.manifest, f"a sound manifest is refused: {refused}")
        return False
    require(data == world.manifest, "a manifest with other bytes is believed")
    return True


def edited_json(data: bytes, chance: random.Random) -> bytes:
    """JSON with some value replaced by another."""
    table = json.loads(data)
    edit(table, chance)
    return (json.dumps(table, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def edit(table: Any, chance: random.Random) -> None:
    """Replace one value, somewhere, or take it away."""
    here = table
    while True:
        keys: Sequence[Any] = list(here) if isinstance(here, dict) else range(len(here))
        if not keys:
            return
        key = chance.choice(keys)
        if isinstance(here[key], dict | list) and here[key] and chance.random() < 0.8:
            here = here[key]
            continue
        if chance.random() < 0.2:
            del here[key]
        else:
            here[key] = chance.choice(["", "x", 1, -1, 1.5, True, [], {}, [1], {"a": 1}, "blake2b:" + "0" * 64])
        return


def lock(world: World, chance: random.Random) -> bool:
    """A lock: read, and compared with the sound one as `--locked` does."""
    if chance.random() < 0.5:
        table = tomllib.loads(world.locked.decode())
        edit(table, chance)
        data = tomli_w.dumps(table).encode()
    else:
        data = spoilt(world.locked, chance)
    path = world.write("recipe.lock", data)
    try:
        found = read_lock(path)
        sound = read_lock(world.lock)
    except OrcaError as refused:
        require(one_line(refused), f"the sentence {refused}")
        return False
    require(found is not None and sound is not None, "no lock is there")
    assert found is not None
    assert sound is not None
    told = [*differences(found.pins, sound.pins), *differences(sound.pins, found.pins)]
    require(all(one_line(line) for line in told), f"differences {told}")
    require(
        bool(told) or dataclasses.replace(found, outcomes=sound.outcomes) == sound, "a difference that nobody tells"
    )
    return True


TARGETS: dict[str, tuple[Target, int]] = {
    "recipe": (recipe, 16),
    "jsonl": (fuzz_sources.json_lines, 24),
    "json list": (fuzz_sources.json_list, 10),
    "csv, tsv": (fuzz_sources.tables, 12),
    "parquet": (fuzz_sources.parquet, 6),
    "gz, zst": (fuzz_sources.compressed, 6),
    "template": (template, 8),
    "idx": (pair, 8),
    "manifest": (manifest, 5),
    "lock": (lock, 5),
}
"""By name, with its share of the inputs in percent."""
