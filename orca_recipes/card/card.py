"""A card for a build or an export: README.md, whose head hubs read, and croissant.json, which loaders do.

Where rows come from is known, under which licences they may be used is not: that the user says, source by source, and
what is not said is called unknown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from orca_recipes.card.carded import Carded, open_carded
from orca_recipes.card.croissant import croissant
from orca_recipes.counted import counted
from orca_recipes.errors import ExportError, UserError
from orca_recipes.shards.beside import CARD
from orca_recipes.shards.files import write_whole
from orca_recipes.shards.publishing import file_above
from orca_recipes.shards.show.visible import visible

# The hub's own classes: it filters data sets by these words and takes no others.
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
    (1_000_000_000, "100M<n<1B"),
)
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Card:
    """Both files of a card, as text."""

    readme: str
    croissant: str


def write_card(
    directory: Path, out: Path, *, languages: Sequence[str] = (), licences: Mapping[str, str] | None = None
) -> tuple[Path, ...]:
    """Write the card of a build or an export into a folder.

    Args:
        languages: codes such as "en". licences: collection to the name of its licence on hubs ("cc-by-4.0"), in
            place of what the recipe says.
    Returns: the files written.
    Raises: BuildError, DamagedShard, UserError; ExportError where the folder holds one of the files already.
    """
    for name in CARD:
        if (out / name).exists():
            raise ExportError(f"{out / name} is there already; remove it, or choose another folder with -o")
    taken = file_above(out / CARD[0])
    if taken is not None:
        raise ExportError(f"{out} cannot be made: {taken} is a file; name a folder with -o")
    card = make_card(open_carded(directory), languages=languages, licences=licences or {})
    out.mkdir(parents=True, exist_ok=True)
    for name, text in zip(CARD, (card.readme, card.croissant), strict=True):
        write_whole(out / name, text.encode())
    return tuple(out / name for name in CARD)


def make_card(carded: Carded, *, languages: Sequence[str], licences: Mapping[str, str]) -> Card:
    """Make both files.

    Raises: UserError where a licence is said of no collection, or the head is none that hubs read.
    """
    _refuse_unknown(carded, licences)
    sources = carded.collections if carded.collections is not None else tuple(sorted(licences))
    named = {source: licences.get(source, carded.licences.get(source, _UNKNOWN)) for source in sources}
    every = tuple(sorted(set(named.values()))) or (_UNKNOWN,)
    description = (
        f"{counted(carded.examples, 'example')}, {counted(carded.tokens, 'token')}, of which "
        f"{carded.trained_tokens:,} are trained; made by orca-recipe from one recipe (manifest {carded.digest})"
    )
    readme = _readme(carded, _head(carded, languages, every), description, named)
    told = croissant(carded, description=description, licences=every)
    return Card(readme, json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def _refuse_unknown(carded: Carded, licences: Mapping[str, str]) -> None:
    for source in licences:
        if carded.collections is not None and source not in carded.collections:
            near = get_close_matches(source, carded.collections, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else f"; it has {', '.join(carded.collections)}"
            raise UserError(f'{carded.directory} has no collection "{source}"{hint}')


def _head(carded: Carded, languages: Sequence[str], licences: Sequence[str]) -> str:
    """Make the README's YAML head for hubs, validated by huggingface_hub."""
    from huggingface_hub import DatasetCard, DatasetCardData

    size = next((name for below, name in _SIZES if carded.examples < below), "1B<n<10B")
    more: dict[str, Any] = {}
    configs = _configs(carded)
    if configs:
        more["configs"] = configs
    data = DatasetCardData(
        language=list(languages) or None,
        license=licences[0] if len(licences) == 1 else list(licences),
        size_categories=size,
        task_categories=["text-generation"],
        pretty_name=visible(carded.name),
        tags=["instruction-tuning", "orca-recipe", *([] if carded.is_export else ["megatron"])],
        **more,
    )
    head = data.to_yaml()
    try:
        DatasetCard(f"---\n{head}\n---\n")
    except ValueError as error:
        raise UserError(f"the card's head is none that hubs read: {error}") from error
    return head


def _configs(carded: Carded) -> list[Mapping[str, Any]]:
    """List one hub config per dataset, with the files that loaders open; for a build these are its records.

    An export's own are kept: it may hold text and no Parquet at all.
    """
    if carded.is_export:
        head = yaml.safe_load(carded.head) or {}
        return list(head.get("configs", []))
    return [
        {"config_name": name, "data_files": [{"split": "train", "path": list(paths)}]}
        for name, paths in carded.tables.items()
        if paths
    ]


def _readme(carded: Carded, head: str, description: str, licences: Mapping[str, str]) -> str:
    table = [
        "| source | licence |",
        "| --- | --- |",
        *(f"| {_cell(source)} | {_cell(name)} |" for source, name in licences.items()),
    ]
    sources = ["## Sources", "", *table, ""] if licences else []
    if carded.is_export:
        return "\n".join(["---", head, "---", "", carded.page.rstrip("\n"), "", *sources]).rstrip("\n") + "\n"
    datasets = [f"- `{_cell(name)}`: {counted(len(paths), 'shard')}" for name, paths in carded.tables.items()]
    lines = [
        f"# {visible(carded.name)}",
        "",
        f"{description}.",
        "",
        "The rows are packed in pairs of `.bin` and `.idx`, which stand beside `manifest.json`; what viewers of hubs",
        "show are records: one line an example, where it came from and how many tokens it has.",
        "`orca-recipe verify` proves every byte of a copy.",
        "",
        "## Datasets",
        "",
        *datasets,
        "",
        *sources,
    ]
    return "\n".join(["---", head, "---", "", *lines]).rstrip("\n") + "\n"


def _cell(text: str) -> str:
    return visible(text).replace("|", "\\|").replace("`", "'")
