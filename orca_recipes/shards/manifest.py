"""The manifest of a build: recipe, plan, counts, the trainer's settings, and digests of every file.

It is written last, so its presence means that the build is complete. `data_digest` covers what a trainer and a reader
of tables get, and nothing of how it was asked for: two builds with one `data_digest` hold the same data. `digest`
covers what is promised to be equal on every machine: the data, the recipe and its plan. The engine, timings, versions
and the bytes of Parquet files stand apart in `made`. `seal` covers everything, so an edit by hand anywhere is found.
The file is canonical JSON: any other way to write the same is an edit too.

Format 2 is written. Format 1, which had one list `terminator_ids` and no `data_digest`, is read in its words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from orca_recipes.errors import BuildError
from orca_recipes.shards.digests import Digest, bytes_digest, canonical_json, json_digest
from orca_recipes.shards.files import damage, read_whole, write_whole

NAME = "manifest.json"

_APART = ("digest", "made", "seal")
"""Fields that `digest` does not cover."""


def _inside_the_build(path: str) -> str:
    if re.search(r"^/|\\|\x00|(^|/)\.{0,2}(/|$)|^[A-Za-z]:", path):
        raise ValueError("must be a path inside the build, with forward slashes")
    return path


Count = Annotated[int, Field(ge=0)]
Terminator = Annotated[tuple[Count, ...], Field(min_length=1, description="tokens in order")]
BuildPath = Annotated[str, AfterValidator(_inside_the_build), Field(description="relative to the build directory")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class TaskCounts(_Part):
    """Counts of one task."""

    examples: Count
    tokens: Count
    trained_tokens: Annotated[int, Field(ge=0, description="the sum of the loss mask")]


class CollectionCounts(TaskCounts):
    """Counts of one collection and of each of its tasks."""

    tasks: Mapping[str, TaskCounts]


class ExpansionCounts(_Part):
    """Counts of conversations, each read once, and of the examples made of them, before any was fitted to a row."""

    conversations: Count
    tokens: Annotated[int, Field(ge=0, description="of the conversations, each read once")]
    examples: Count
    example_tokens: Count


class StageCounts(_Part):
    """Rows into and out of a stage: in + created = out + rejected.

    untrained: answers of rows that went out which filters left untrained, as context.
    passed_over: rows of the source that are none of the collection by its own options; they are not among `in`.
    unused_columns: of the source's files, which nothing reads.
    """

    name: str
    taken: Annotated[Count, Field(alias="in")]
    created: Annotated[Mapping[str, Count], Field(description="reason to number")]
    out: Count
    rejected: Annotated[Mapping[str, Count], Field(description="reason to number")]
    passed_over: Annotated[Mapping[str, Count], Field(description="reason to number")] = {}
    unused_columns: tuple[str, ...] = ()
    expansion: Annotated[
        ExpansionCounts | None, Field(description="of conversations, where the chat template itself renders some")
    ] = None
    untrained: Annotated[Mapping[str, Count], Field(description="filter and reason to number")] = {}


class ShardCounts(_Part):
    """One pair and what it holds."""

    prefix: Annotated[BuildPath, Field(description="path of the pair without suffix")]
    rows: Count
    examples: Count
    tokens: Count
    trained_tokens: Count


class HeldCounts(_Part):
    """Counts examples and trained answers with a certain kind of text, kept or rejected."""

    examples: Count
    answers: Count


class DatasetCounts(_Part):
    """One dataset: its counts, where they come from, and its shards in order."""

    rows: Count
    examples: Count
    tokens: Count
    trained_tokens: Count
    fill: Annotated[str, Field(pattern=r"^\d\.\d{6}$", description="tokens / (rows * row_tokens), as a decimal")]
    collections: Mapping[str, CollectionCounts]
    stages: tuple[StageCounts, ...]
    echoes: Annotated[Count, Field(description="answers that quote their instruction, before filters")] = 0
    unknown: Annotated[HeldCounts | None, Field(description="text that the vocabulary cannot spell")] = None
    normalized: Annotated[HeldCounts | None, Field(description="text that the tokenizer's normalizer changes")] = None
    prompts_checked: Annotated[Count, Field(description="examples whose prompts were tried before they were kept")] = 0
    shards: tuple[ShardCounts, ...]


class StageIdentity(_Part):
    """One stage of the plan."""

    name: str
    verb: str
    kind: str | None
    fingerprint: str


class PluginIdentity(_Part):
    """A package other than ours whose kinds decided bytes."""

    version: str
    digest: Annotated[Digest, Field(description="of its files")]
    kinds: Annotated[Mapping[str, str], Field(description='kind ("filters:no_shouting") to its class')]


class FileDigest(_Part):
    """One file whose bytes are promised."""

    path: BuildPath
    bytes: Count
    digest: Digest


class TableDigest(_Part):
    """One Parquet file, promised by content."""

    path: BuildPath
    rows: Count
    content_digest: Digest


class SpentCounts(_Part):
    """Cost of answers: tokens as counted by the servers, USD at the recipe's prices."""

    answers: Count
    input_tokens: Count
    output_tokens: Count
    usd: Annotated[str | None, Field(pattern=r"^\d+\.\d{6}$", description="null where the recipe states no prices")]
    unpriced: Annotated[Count, Field(description="answers that came without usage, whose cost is not known")]


class StrategyCounts(_Part):
    """Counts of one strategy: its answers, those kept by filters, and their tokens."""

    answers: Count
    kept: Count
    input_tokens: Count
    output_tokens: Count


class RejectionCounts(_Part):
    """Answers of one task, asked by one strategy, that were rejected for one reason."""

    collection: str
    task: str | None
    strategy: str
    stage: str
    reason: str
    answers: Count


class AnswerCounts(_Part):
    """Origin of a dataset's answers when this copy was made.

    rejected: by its teacher, with reasons; filters count theirs in the stages.
    """

    stored: Annotated[Count, Field(description="answers that were kept from before")]
    asked: Annotated[Count, Field(description="requests whose answers were bought for this copy")]
    rejected: Annotated[Count, Field(description="requests to which the teacher gave no answer that can be used")]
    empty: Annotated[Count, Field(description="of those, requests to which every reply was empty")] = 0
    teacher: str
    digest: Annotated[Mapping[str, Digest], Field(description="collection to the digest of its answers")]
    spent: Annotated[Mapping[str, SpentCounts], Field(description="collection to what was bought for this copy")]
    strategies: Annotated[Mapping[str, StrategyCounts], Field(description="which strategies earn their keep")]
    rejections: Annotated[tuple[RejectionCounts, ...], Field(description="by teacher and filters, task by task")]


class Made(_Part):
    """How this very copy was made; another machine's copy differs here."""

    answers: Annotated[Mapping[str, AnswerCounts], Field(description="datasets whose answers were bought")] = {}
    timings: Annotated[Mapping[str, float], Field(description="seconds by stage")]
    versions: Annotated[Mapping[str, str], Field(description="package to version")]
    engine: Annotated[JsonValue, Field(description="the recipe's [engine], as resolved; null where it has none")] = None
    set: Annotated[tuple[str, ...], Field(description="the --set overrides of the engine, as given")] = ()
    table_files: Annotated[tuple[FileDigest, ...], Field(description="the bytes of the Parquet files as written here")]


class Contents(_Part):
    """The part of a manifest that is promised to be equal on every machine."""

    format: Annotated[Literal[1, 2], Field(description="2 is written, 1 is read")] = 2
    name: str
    recipe: Annotated[
        Mapping[str, JsonValue], Field(description="as resolved: profile and --set applied; without [engine]")
    ]
    profile: str | None
    set: Annotated[tuple[str, ...], Field(description="the --set overrides, as given, without those of the engine")]
    limit: Annotated[int | None, Field(gt=0, description="--limit: at most so many examples of each collection")]
    lock_digest: Digest
    plan: tuple[StageIdentity, ...]
    plugins: Annotated[Mapping[str, PluginIdentity], Field(description="packages other than ours, by name")] = {}
    row_tokens: Annotated[int, Field(gt=0)]
    align: Annotated[int, Field(gt=0)]
    pad_id: Count
    bos_id: Annotated[Count | None, Field(description="BOS that begins every example, where inference has one")]
    unused_bos_id: Annotated[
        Count | None,
        Field(description="BOS that begins no example and is trained in none, where no prompt begins with it"),
    ]
    terminators: Annotated[
        tuple[Terminator, ...],
        Field(min_length=1, description="every complete trained turn ends with the tokens of one of these"),
    ]
    vocabulary_size: Annotated[int, Field(gt=0, description="with added tokens")]
    dtype: Literal["uint16", "int32"]
    longest_example: Annotated[Count, Field(description="tokens")]
    datasets: Mapping[str, DatasetCounts]
    files: tuple[FileDigest, ...]
    tables: tuple[TableDigest, ...]


class Manifest(Contents):
    """A sealed manifest."""

    data_digest: Annotated[Digest, Field(description="of files and tables, by their digests")]
    digest: Annotated[Digest, Field(description="of everything but made and seal")]
    made: Made
    seal: Annotated[Digest, Field(description="of everything else")]


def sealed(contents: Contents, *, made: Made) -> Manifest:
    """Create the manifest of these contents, with its digest and its seal."""
    promised = {**_as_json(contents), "data_digest": data_digest(contents.files, contents.tables)}
    open_manifest = {**promised, "digest": json_digest(promised), "made": _as_json(made)}
    return Manifest.model_validate_json(json.dumps({**open_manifest, "seal": json_digest(open_manifest)}))


def data_digest(files: Iterable[FileDigest], tables: Iterable[TableDigest]) -> str:
    """Compute the digest of a build's data, independent of the recipe's wording: `.bin`, `.idx`, `curriculum.json` and
    `tokenizer/` by their bytes, and the tables by their content."""
    held = {
        "files": {file.path: file.digest for file in files},
        "tables": {table.path: table.content_digest for table in tables},
    }
    return json_digest(held)


def contents_digest(manifest: Manifest) -> str:
    """Return the digest of the manifest's contents without the recipe's own words."""
    told = _as_json(manifest)
    return json_digest({key: value for key, value in told.items() if key not in (*_APART, "recipe", "set")})


def write_manifest(directory: Path, manifest: Manifest) -> Path:
    """Publish `directory/manifest.json`; write it last."""
    path = directory / NAME
    write_whole(path, canonical_json(_as_json(manifest)))
    return path


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest of a complete, unedited build.

    Raises: BuildError where there is none; DamagedShard where it cannot be read or was changed.
    """
    manifest, edit = inspect_manifest(directory)
    if edit is not None:
        raise damage(directory / NAME, edit)
    return manifest


def no_build(directory: Path) -> BuildError:
    """Create the error for a directory that holds no manifest, does not exist, or is a file."""
    if not directory.exists():
        return BuildError(f"{directory}: there is no such folder; `orca-recipe build` says where it puts a build")
    if not directory.is_dir():
        return BuildError(f"{directory} is a file; name the folder that `orca-recipe build` made")
    return BuildError(f"{directory} is not a complete build: it has no {NAME}; run `orca-recipe build` to the end")


def inspect_manifest(directory: Path) -> tuple[Manifest, str | None]:
    """Read the manifest, with a sentence about any change since it was written, else None.

    Raises: as `read_manifest`, but not for changes that leave it readable.
    """
    path = directory / NAME
    if not path.is_file():
        raise no_build(directory)
    data = read_whole(path)
    try:
        found = json.loads(data)
        manifest = _manifest_of(found, data)
        return manifest, _edit(found, data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise damage(path, f"it is no manifest: {where}: {first['msg']}" if where else "it is no manifest") from error
    except (ValueError, RecursionError) as error:
        raise damage(path, "it is not JSON") from error


def manifest_schema() -> dict[str, Any]:
    """Return JSON Schema (2020-12) of `manifest.json`."""
    schema = Manifest.model_json_schema(mode="serialization", by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def fill(*, tokens: int, rows: int, row_tokens: int) -> str:
    """Compute the fill of rows, tokens / (rows * row_tokens), rounded half up to six places ("0.998612")."""
    room = rows * row_tokens
    # In whole numbers, so that every machine writes the same digits.
    millionths = (2 * tokens * 1_000_000 + room) // (2 * room) if room else 0
    return f"{millionths // 1_000_000}.{millionths % 1_000_000:06d}"


def _as_json(part: _Part) -> dict[str, Any]:
    told = part.model_dump(mode="json", by_alias=True)
    for dataset in told.get("datasets", {}).values():
        for stage in dataset["stages"]:
            # A build without any does not speak of them: its digest is what it was before they were told.
            for name in ("expansion", "untrained"):
                if not stage[name]:
                    del stage[name]
    # A build without plugins does not speak of them: its digest is what it was before they were told.
    return {name: value for name, value in told.items() if value or name != "plugins"}


def _manifest_of(found: Any, data: bytes) -> Manifest:
    """Parse the manifest of a file of either format; found: its parsed JSON."""
    if not isinstance(found, dict) or found.get("format") != 1:
        return Manifest.model_validate_json(data)
    told = {**found, "data_digest": json_digest(None)}
    if "terminator_ids" in told:
        told["terminators"] = [told.pop("terminator_ids")]
    manifest = Manifest.model_validate_json(json.dumps(told))
    return manifest.model_copy(update={"data_digest": data_digest(manifest.files, manifest.tables)})


def _edit(found: dict[str, Any], data: bytes) -> str | None:
    """Check digest, seal and canonical form, and return the first, most exact sentence about an edit, or None."""
    # With 100,000 tasks the writing takes seconds, so every value is written once for all three.
    written = {key: canonical_json(value).decode() for key, value in found.items()}
    if bytes_digest(_joined(written, without=_APART)) != found["digest"]:
        return "it was changed after the build: what it promises does not have its digest"
    if bytes_digest(_joined(written, without=("seal",))) != found["seal"]:
        return "it was changed after the build: what it says does not fit its seal"
    if _joined(written) != data:
        return "it was written anew after the build: its bytes are not those of a manifest"
    return None


def _joined(written: Mapping[str, str], *, without: Sequence[str] = ()) -> bytes:
    """Join `canonical_json` of a table from what it gives of each value; no text of JSON holds a line break of its
    own."""
    lines = [
        f" {json.dumps(key, ensure_ascii=False)}: " + text.rstrip("\n").replace("\n", "\n ")
        for key, text in sorted(written.items())
        if key not in without
    ]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()
