"""Publish a build: make its directory aside, rename it into place, and write the manifest last.

Shards are the one thing that the store does not keep: they are written straight into the build, which is their home.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from orca_recipes.contract.ending import without_added_end
from orca_recipes.contract.frames import completed
from orca_recipes.counted import counted
from orca_recipes.errors import BuildError
from orca_recipes.plan.plugins import PluginPin
from orca_recipes.plan.used_parts import taken_collections
from orca_recipes.recipe.load import LoadedRecipe
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.answer_counts import answer_counts
from orca_recipes.run.build_folder import give_up, make_aside, put_in_place, refuse_foreign, settle
from orca_recipes.run.emptied import emptiness
from orca_recipes.run.examples.selection import conserved
from orca_recipes.run.rows.units import units_of_dataset
from orca_recipes.run.rows.write import WriteTask, Written, WrittenShard, write_half
from orca_recipes.run.work.account import Account, ids_of, joined_counts, read_account, rejected_schema
from orca_recipes.run.work.bench import Bench
from orca_recipes.run.work.student import TOKENIZER_FILES, Student
from orca_recipes.shards import curriculum, manifest, records
from orca_recipes.shards.curriculum import AskedPhase
from orca_recipes.shards.digests import file_digest
from orca_recipes.shards.layout import token_dtype
from orca_recipes.shards.table_digest import content_digest_of_table, rows_of_table
from orca_recipes.store.arrow_files import read_frame

VERSIONED = ("orca-recipes", "gigatoken", "numpy", "polars", "pyarrow", "tokenizers")
"""Packages whose versions a manifest tells, apart from what is hashed."""

_TOKENS_WORTH_WORKERS = 1 << 25
"""Fewer tokens than this are written in half a second, which a worker takes to start."""


@dataclass(frozen=True)
class Publication:
    """Inputs of publishing, in addition to the run itself."""

    loaded: LoadedRecipe
    bench: Bench
    lock_digest: str
    directory: Path
    plugins: Mapping[str, PluginPin] = field(default_factory=dict)

    def publish(self) -> manifest.Manifest:
        """Write every dataset, then the manifest, then put the build in place.

        Raises: BuildError where a dataset is empty or the directory is in the way.
        """
        refuse_foreign(self.directory)
        aside = make_aside(self.directory)
        try:
            written = {name: self._write_dataset(name, aside / name) for name in self.loaded.recipe.datasets}
            self._refuse_emptied(written)
            self._write_student(aside)
            self._write_curriculum(aside, written)
            # The manifest comes last, after all it names is safe on the disk: a folder that has one is complete.
            settle(aside)
            made = self._write_manifest(aside, written)
            put_in_place(aside, self.directory)
        finally:
            give_up(aside, self.directory)
        return made

    def _write_dataset(self, name: str, folder: Path) -> list[Written]:
        """Write a dataset; what was written is in the order of shards."""
        bench = self.bench
        self._refuse_empty(name, bench.folder(f"pack {name}").receipt["report"])
        folder.mkdir()
        tasks = self._write_tasks(name, folder)
        bench.progress.begin(f"write {name}", total=len(tasks), unit="files")
        written: dict[int, Written] = {}
        bench.mapped[f"write {name}"] = len(tasks)
        for number, result in bench.run(write_half, tasks, workers=self._writers(name, tasks), build=folder):
            written[number] = result
            bench.progress.advance(1)
        self._write_rejected(name, folder / records.REJECTED_NAME)
        ordered = [written[number] for number in sorted(written)]
        shards = _shards(ordered)
        rows = sum(shard.rows for shard in shards)
        bench.progress.end(f"{counted(len(shards), 'shard')}, {counted(rows, 'row')}")
        return ordered

    def _writers(self, name: str, tasks: Sequence[WriteTask]) -> int:
        """Count the workers that write a dataset: many tokens are worth them, in however few shards."""
        parts = self.bench.folder(f"pack {name}").parts()
        rows = sum(part.report["rows"] for part in parts if "shard" in part.report)
        is_large = rows * self.loaded.recipe.packing.row_tokens >= _TOKENS_WORTH_WORKERS
        return self.bench.workers if is_large else self.bench.workers_for(tasks)

    def _write_tasks(self, name: str, folder: Path) -> list[WriteTask]:
        # Which of their examples count, the packed order says.
        units = tuple(replace(unit, is_taken=None) for unit in units_of_dataset(self.bench, name))
        # Two halves of a shard are two tasks: records are compressed while tokens are copied.
        halves: tuple[Literal["tokens", "records"], ...] = ("tokens", "records")
        return [
            WriteTask(
                order=part.path(".order.arrow"),
                rows=part.path(".rows.arrow"),
                units=units,
                prefix=folder / f"{part.report['shard']:05d}",
                vocabulary_size=self.bench.student.size,
                writer=self.loaded.recipe.output,
                half=half,
            )
            for part in self.bench.folder(f"pack {name}").parts()
            if "shard" in part.report
            for half in halves
        ]

    def _refuse_empty(self, name: str, report: Mapping[str, Any]) -> None:
        if report["out"]:
            return
        reasons: dict[str, int] = joined_counts(stage["rejected"] for stage in self._stages(name))
        told = "; ".join(f"{number} {reason}" for reason, number in reasons.items()) or "its collections are empty"
        raise BuildError(f"datasets.{name}: no example is left to train on ({told})")

    def _refuse_emptied(self, written: Mapping[str, Sequence[Written]]) -> None:
        """Refuse a build that lost a collection, a task or a rule whole; say it where that is tried with few rows."""
        refused = []
        for name, found in written.items():
            kept = {collection: counts.tasks for collection, counts in _by_collection(_shards(found)).items()}
            examples = {name: {task: one.examples for task, one in tasks.items()} for name, tasks in kept.items()}
            emptied = emptiness(self.bench, name, examples)
            refused += [emptied.sentence(emptied.refused)] if emptied.refused else []
            if emptied.said:
                self.bench.progress.say(emptied.sentence(emptied.said))
        if refused:
            raise BuildError("\n".join(refused))

    def _write_rejected(self, name: str, path: Path) -> None:
        """Write the table of lost rows, with place, stage and reason; rows that a draw left out are counted, not
        listed."""
        import polars as pl

        frames = [
            account.rejected.with_columns(pl.lit(collection).alias("collection"))
            for collection, account in self._accounts(name).items()
        ]
        frames.append(read_frame(self.bench.folder(f"pack {name}").file("rejected.rejected.arrow")))
        schema = {**rejected_schema(), "collection": pl.String}
        table = pl.concat([completed(frame, schema) for frame in frames])
        ids = {"id": ids_of(table), "twin": ids_of(table, "twin")}
        named = table.with_columns(**ids).rename({"place": "line"})
        ordered = named.sort("collection", "file", "line", "stage", "id", nulls_last=True)
        told = records.rejected_schema()
        listed = ordered.select(told.names).to_arrow()
        records.write_table(path, records.with_columns(path, listed, told))

    def _write_student(self, aside: Path) -> None:
        """Write the tokenizer as trained, with chat template and generation settings."""
        student = self.bench.student
        folder = aside / "tokenizer"
        folder.mkdir()
        _ship_definition(student.folder / TOKENIZER_FILES[0], folder / TOKENIZER_FILES[0])
        config = json.loads((student.folder / TOKENIZER_FILES[1]).read_text(encoding="utf-8"))
        named = {"eos_token": student.ending.token, "pad_token": student.ending.pad}
        _write_json(folder / TOKENIZER_FILES[1], {**config, **named, "chat_template": student.markup.chat_template})
        (folder / "chat_template.jinja").write_text(student.markup.chat_template, encoding="utf-8")
        _write_json(folder / "generation_config.json", generation_settings(student))

    def _write_curriculum(self, aside: Path, written: Mapping[str, Sequence[Written]]) -> None:
        sizes = {name: _size(_shards(found)) for name, found in written.items()}
        recipe = self.loaded.recipe
        compiled = curriculum.compiled_curriculum(asked_phases(recipe), sizes)
        tables = {"model": recipe.model, "training": recipe.training}
        curriculum.write_curriculum(aside, compiled.model_copy(update=tables))

    def _write_manifest(self, aside: Path, written: Mapping[str, Sequence[Written]]) -> manifest.Manifest:
        recipe, student = self.loaded.recipe, self.bench.student
        bos = student.control[student.bos] if student.bos is not None else None
        begins = bos is not None and student.begins_with_bos
        paths = sorted(path for path in aside.rglob("*") if path.is_file())
        tables = [path for path in paths if path.suffix == ".parquet"]
        found = [one for files in written.values() for one in files]
        digests = {path: digest for one in found for path, digest in one.digests.items()}
        contents_of = {path: digest for one in found for path, digest in one.content_digests.items()}
        contents = manifest.Contents(
            name=recipe.name,
            recipe=self.loaded.decisive,
            profile=self.loaded.profile,
            set=self.loaded.decisive_overrides,
            limit=self.bench.limit,
            lock_digest=self.lock_digest,
            plan=tuple(
                manifest.StageIdentity(
                    name=stage.name, verb=stage.verb, kind=stage.kind or None, fingerprint=stage.fingerprint
                )
                for stage in self.bench.plan
            ),
            plugins={name: manifest.PluginIdentity.model_validate(pin.as_json()) for name, pin in self.plugins.items()},
            row_tokens=recipe.packing.row_tokens,
            align=recipe.packing.align,
            pad_id=student.control[student.ending.pad],
            bos_id=bos if begins else None,
            unused_bos_id=None if begins else bos,
            terminators=student.ending.terminators,
            vocabulary_size=student.size,
            dtype="uint16" if token_dtype(student.size).itemsize == 2 else "int32",
            longest_example=max(self._packed(name)["longest_example"] for name in written),
            datasets={name: self._counts(name, _shards(found)) for name, found in written.items()},
            files=tuple(_file(path, aside, digests) for path in paths if path not in tables),
            tables=tuple(_table(path, aside, contents_of) for path in tables),
        )
        made = manifest.Made(
            answers=answer_counts(self.bench),
            timings=self.bench.timings,
            versions={name: metadata.version(name) for name in VERSIONED},
            engine=self.loaded.resolved.get("engine"),
            set=self.loaded.engine_overrides,
            table_files=tuple(_file(path, aside, digests) for path in tables),
        )
        sealed = manifest.sealed(contents, made=made)
        manifest.write_manifest(aside, sealed)
        return sealed

    def _packed(self, name: str) -> Mapping[str, Any]:
        report: Mapping[str, Any] = self.bench.folder(f"pack {name}").receipt["report"]
        return report

    def _accounts(self, name: str) -> dict[str, Account]:
        """Read the account of each collection of a dataset."""
        collections = taken_collections(self.loaded.recipe, name)
        return {found: read_account(self.bench.folder(f"tokenize {name}/{found}")) for found in collections}

    def _stages(self, name: str) -> list[dict[str, Any]]:
        """List the row counts of each stage of a dataset: in, created, out and rejected."""
        stages = []
        for collection, account in self._accounts(name).items():
            for verb, report in account.reports.items():
                mixture = self.loaded.recipe.datasets[name].mixture
                subject = {"read": collection, "mix": f"{mixture}/{collection}"}.get(verb, f"{name}/{collection}")
                stages.append(_conservation(f"{verb} {subject}", report))
        return [*stages, _conservation(f"pack {name}", self._packed(name))]

    def _held(self, name: str, what: str) -> manifest.HeldCounts:
        """Sum a dataset's examples and answers that hold a certain text, as counted by `tokenize`."""
        reports = [account.reports["tokenize"][what] for account in self._accounts(name).values()]
        return manifest.HeldCounts(
            examples=sum(report["examples"] for report in reports), answers=sum(report["answers"] for report in reports)
        )

    def _counts(self, name: str, shards: Sequence[WrittenShard]) -> manifest.DatasetCounts:
        rows, tokens = sum(shard.rows for shard in shards), sum(shard.tokens for shard in shards)
        return manifest.DatasetCounts(
            rows=rows,
            examples=sum(shard.examples for shard in shards),
            tokens=tokens,
            trained_tokens=sum(shard.trained_tokens for shard in shards),
            fill=manifest.fill(tokens=tokens, rows=rows, row_tokens=self.loaded.recipe.packing.row_tokens),
            collections=_by_collection(shards),
            stages=tuple(manifest.StageCounts.model_validate(stage) for stage in self._stages(name)),
            echoes=sum(account.reports["converse"].get("echoes", 0) for account in self._accounts(name).values()),
            unknown=self._held(name, "unknown"),
            normalized=self._held(name, "normalized"),
            prompts_checked=sum(
                found.reports["tokenize"]["prompts_checked"] for found in self._accounts(name).values()
            ),
            shards=tuple(
                manifest.ShardCounts(
                    prefix=f"{name}/{shard.name}",
                    rows=shard.rows,
                    examples=shard.examples,
                    tokens=shard.tokens,
                    trained_tokens=shard.trained_tokens,
                )
                for shard in shards
            ),
        )


def asked_phases(recipe: Recipe) -> list[AskedPhase]:
    """Convert the recipe's phases for compilation of the curriculum."""
    return [
        AskedPhase(datasets=phase.weights, epochs=phase.passes, tokens=phase.tokens, training=phase.training.given())
        for phase in recipe.curriculum
    ]


def generation_settings(student: Student) -> dict[str, Any]:
    """Return generation settings whose stop tokens are those trained as the end of an answer."""
    ending, control = student.ending, student.control
    ends = list(dict.fromkeys([control[ending.token], *ending.others]))
    settings: dict[str, Any] = {
        "eos_token_id": ends if len(ends) > 1 else ends[0],
        "pad_token_id": control[ending.pad],
    }
    if student.bos is not None:
        settings["bos_token_id"] = student.control[student.bos]
    return settings


def _size(shards: Sequence[WrittenShard]) -> curriculum.DatasetSize:
    return curriculum.DatasetSize(
        rows=sum(shard.rows for shard in shards),
        tokens=sum(shard.tokens for shard in shards),
        trained_tokens=sum(shard.trained_tokens for shard in shards),
    )


def _conservation(name: str, report: Mapping[str, Any]) -> dict[str, Any]:
    created, rejected = conserved(report)
    passed_over = report.get("passed_over", {})
    return {
        "name": name,
        "in": report["in"],
        "created": created,
        "out": report["out"],
        "rejected": rejected,
        "passed_over": passed_over,
        "unused_columns": tuple(report.get("unused_columns", ())),
        "expansion": report.get("expansion"),
        "untrained": report.get("untrained", {}),
    }


def _by_collection(shards: Sequence[WrittenShard]) -> dict[str, manifest.CollectionCounts]:
    totals: dict[str, dict[str, list[int]]] = {}
    for shard in shards:
        for collection, tasks in shard.tasks.items():
            for task, counts in tasks.items():
                sums = totals.setdefault(collection, {}).setdefault(task, [0, 0, 0])
                sums[:] = [old + new for old, new in zip(sums, counts, strict=True)]
    return {
        collection: manifest.CollectionCounts(
            **_named([sum(column) for column in zip(*tasks.values(), strict=True)]),
            tasks={task: manifest.TaskCounts(**_named(counts)) for task, counts in sorted(tasks.items())},
        )
        for collection, tasks in sorted(totals.items())
    }


def _named(counts: Sequence[int]) -> dict[str, int]:
    return dict(zip(("examples", "tokens", "trained_tokens"), counts, strict=True))


def _shards(written: Sequence[Written]) -> list[WrittenShard]:
    return [one.shard for one in written if one.shard is not None]


def _file(path: Path, root: Path, known: Mapping[Path, str]) -> manifest.FileDigest:
    """Describe a file for the manifest. known: digests taken when files were written."""
    digest = known.get(path) or file_digest(path)
    return manifest.FileDigest(path=path.relative_to(root).as_posix(), bytes=path.stat().st_size, digest=digest)


def _table(path: Path, root: Path, known: Mapping[Path, str]) -> manifest.TableDigest:
    digest = known.get(path) or content_digest_of_table(path)
    return manifest.TableDigest(path=path.relative_to(root).as_posix(), rows=rows_of_table(path), content_digest=digest)


def _ship_definition(source: Path, target: Path) -> None:
    """Copy the tokenizer.json as it is, unless it adds tokens at the end of a text: then write it without them."""
    definition = json.loads(source.read_bytes())
    shipped = without_added_end(definition)
    if shipped == definition:
        shutil.copyfile(source, target)
    else:
        target.write_text(json.dumps(shipped, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    # Sorted, so that equal builds have equal bytes.
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
