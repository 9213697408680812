"""A build proves itself: every way to damage one is found and named."""

import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.errors import BuildError
from orca_recipes.shards.checks import repeats
from orca_recipes.shards.checks.count_checks import check_twins
from orca_recipes.shards.checks.shard_checks import ShardCheck
from orca_recipes.shards.checks.verify import verify
from orca_recipes.shards.checks.verify_report import Finding
from orca_recipes.shards.digests import canonical_json, json_digest
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.writer import write_pair


def sentences(directory: Path) -> list[str]:
    return [str(finding) for finding in verify(directory).findings]


def rewrite(directory: Path, prefix: str, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Write a pair again with its tokens, lengths, modes or row starts changed, and the records' digests of tokens."""
    shard = Shard.open(directory / prefix)
    parts = {
        "tokens": np.array(shard.tokens, dtype=np.uint32),
        "lengths": np.array(shard.segments.lengths),
        "modes": np.array(shard.segments.modes),
        "row_starts": np.array(shard.segments.row_starts),
    }
    change(parts)
    write_pair(
        prefix=directory / prefix,
        vocabulary_size=300,
        blocks=iter([parts["tokens"]]),
        segment_lengths=parts["lengths"],
        segment_modes=parts["modes"],
        row_starts=parts["row_starts"],
        guarded=True,
    )
    if len(parts["tokens"]):
        change_records(directory, prefix, "ids_xxh3", digests_of_ids(directory, prefix))


def digests_of_ids(directory: Path, prefix: str) -> list[object]:
    """XXH3-128 of the bytes of each example in `.bin`."""
    shard = Shard.open(directory / prefix)
    bounds, data = (shard.segments.example_bounds * 2).tolist(), (directory / f"{prefix}.bin").read_bytes()
    return [xxhash.xxh3_128_digest(data[start:stop]) for start, stop in pairwise(bounds)]


def change_records(directory: Path, prefix: str, column: str, values: list[object]) -> None:
    path = directory / f"{prefix}.records.parquet"
    table = pq.read_table(path)
    at = table.column_names.index(column)
    pq.write_table(table.set_column(at, column, pa.array(values, table.schema.field(column).type)), path)


def test_a_sound_build_gives_no_finding_and_says_what_was_checked(build):
    report = verify(build)
    assert report.findings == ()
    assert report.is_sound
    assert report.checked == {
        "files": 8 + 5,
        "datasets": 2,
        "shards": 3,
        "rows": 5,
        "examples": 6,
        "tokens": 89,
        "trained_tokens": 46,
    }


def test_the_report_is_json(build):
    (build / "side" / "00000.bin").unlink()
    told = json.loads(json.dumps(verify(build).as_json()))
    assert told["sound"] is False
    assert told["findings"][0] == {
        "file": "side/00000.bin",
        "sentence": "the file is missing",
        "row": None,
        "example": None,
    }


def test_one_flipped_bit_in_any_file_is_found_and_its_file_named(build):
    chance = random.Random(7)
    files = sorted(path for path in build.rglob("*") if path.is_file())
    assert {path.suffix for path in files} == {".bin", ".idx", ".json", ".parquet"}
    for path in files:
        sound = path.read_bytes()
        for _ in range(4):
            broken = bytearray(sound)
            broken[chance.randrange(len(sound))] ^= 1 << chance.randrange(8)
            path.write_bytes(broken)
            findings = verify(build).findings
            assert path.relative_to(build).as_posix() in {finding.file for finding in findings}
        path.write_bytes(sound)
    assert verify(build).is_sound


def test_a_swapped_pair_is_found(build):
    for suffix in (".bin", ".idx"):
        first, second = build / f"main/00000{suffix}", build / f"main/00001{suffix}"
        shutil.move(first, build / "aside")
        shutil.move(second, first)
        shutil.move(build / "aside", second)
    assert {"main/00000.bin", "main/00001.idx"} <= {finding.file for finding in verify(build).findings}


def test_a_missing_shard_gives_one_sentence_for_each_of_its_files(build):
    for path in build.glob("main/00001.*"):
        path.unlink()
    assert sentences(build) == [
        "main/00001.bin: the file is missing",
        "main/00001.idx: the file is missing",
        "main/00001.records.parquet: the file is missing",
    ]


def test_an_extra_file_anywhere_is_found(build):
    shutil.copy(build / "main/00000.bin", build / "main/00002.bin")
    (build / "more").mkdir()
    (build / "more" / "00000.idx").write_bytes(b"")
    assert sentences(build) == [
        "main/00002.bin: the manifest does not list this file; remove it",
        "more/00000.idx: the manifest does not list this file; remove it",
    ]


def test_a_card_and_what_a_hub_puts_beside_a_build_are_no_faults(build):
    for name in ("README.md", "croissant.json", ".gitattributes", ".cache/huggingface/download/main.metadata"):
        (build / name).parent.mkdir(parents=True, exist_ok=True)
        (build / name).write_text("beside")
    assert sentences(build) == []
    (build / "main" / "README.md").write_text("within")
    assert sentences(build) == ["main/README.md: the manifest does not list this file; remove it"]


def test_a_build_without_a_manifest_is_not_complete(build):
    (build / "manifest.json").unlink()
    (told,) = sentences(build)
    assert "is not a complete build" in told
    assert "nothing else was checked" in told


def test_a_directory_that_is_not_there_is_a_mistake(tmp_path):
    with pytest.raises(BuildError, match="there is no such directory"):
        verify(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"name": "tiny"', '"name": "tony"', "what it promises does not have its digest"),
        ('"numpy": "2"', '"numpy": "3"', "does not fit its seal"),
        ('"align": 1', '"align":  1', "its bytes are not those of a manifest"),
        ('"align": 1', '"align": "1"', "it is no manifest: align: Input should be a valid integer"),
        ('"format": 2', '"format": 3', "it is no manifest: format"),
        ('"align": 1,', "", "it is no manifest: align: Field required"),
        ('"path": "main/', '"path": "../main/', "must be a path inside the build"),
        ("{", "[", "it is not JSON"),
        ('"format": 2', '"format": 1', "what it promises does not have its digest"),
        ('"data_digest": "blake2b:', '"data_digest": "', "it is no manifest: data_digest"),
    ],
)
def test_an_edit_of_the_manifest_is_found(build, old, new, told):
    path = build / "manifest.json"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert any(finding.startswith("manifest.json:") and told in finding for finding in sentences(build))


def test_an_answer_without_its_terminator_is_found_with_row_and_example(build, reseal, build_rows):
    rewrite(build, "main/00000", lambda parts: parts["tokens"].__setitem__(14, 65))
    reseal(build)
    assert verify(build).findings == (
        Finding(
            "main/00000.bin",
            "the trained turn in segment 2 lacks its terminator",
            0,
            build_rows["main/00000"][0][0].id,
        ),
    )


def test_an_answer_flagged_as_cut_that_ends_with_the_terminator_is_found(build, reseal):
    change_records(build, "main/00000", "flags", [0, 1, 2])
    reseal(build)
    (told,) = sentences(build)
    assert "row 0" in told
    assert "flagged as cut, but ends with the terminator" in told


def test_a_cut_that_is_not_flagged_is_found(build, reseal):
    change_records(build, "main/00000", "flags", [0, 0, 4])
    reseal(build)
    assert [finding.row for finding in verify(build).findings] == [1]


def test_an_example_without_bos_is_found(build, reseal):
    rewrite(build, "side/00000", lambda parts: parts["tokens"].__setitem__(0, 65))
    reseal(build)
    (told,) = sentences(build)
    assert "it begins with token 65, not with BOS 256" in told


def test_bos_twice_is_found(build, reseal):
    rewrite(build, "side/00000", lambda parts: parts["tokens"].__setitem__(1, 256))
    reseal(build)
    (told,) = sentences(build)
    assert "it begins with BOS 256 twice" in told


def test_bos_in_an_answer_is_found(build, reseal):
    rewrite(build, "side/00000", lambda parts: parts["tokens"].__setitem__(4, 256))
    reseal(build)
    (told,) = sentences(build)
    assert "at its token 4: BOS 256 is trained" in told


def test_bos_before_a_later_question_is_allowed(build, reseal):
    rewrite(build, "main/00000", lambda parts: parts["tokens"].__setitem__(30, 256))
    reseal(build)
    assert verify(build).is_sound


def test_bos_where_inference_has_none_is_found(build, reseal):
    reseal(build, bos_id=None, unused_bos_id=256)
    told = sentences(build)
    assert len(told) == 6
    assert all("BOS 256 stands where no prompt of inference has it" in sentence for sentence in told)


def test_bos_behind_white_space_that_begins_every_prompt_is_allowed_and_in_an_answer_is_found(build, reseal):
    for shard in ("main/00000", "main/00001", "side/00000"):
        rewrite(build, shard, lambda parts: parts["tokens"].__setitem__(parts["tokens"] == 256, 65))
    rewrite(build, "main/00000", lambda parts: parts["tokens"].__setitem__(30, 256))
    reseal(build, bos_id=None, unused_bos_id=256)
    assert verify(build).is_sound
    rewrite(build, "side/00000", lambda parts: parts["tokens"].__setitem__(4, 256))
    reseal(build, bos_id=None, unused_bos_id=256)
    (told,) = sentences(build)
    assert "at its token 4: BOS 256 stands where no prompt of inference has it" in told


def test_a_token_outside_the_vocabulary_is_found(build, reseal):
    rewrite(build, "main/00001", lambda parts: parts["tokens"].__setitem__(1, 280))
    reseal(build)
    (told,) = sentences(build)
    assert "at its token 1: token 280 is outside the vocabulary of 259" in told


def test_an_example_without_a_trained_token_is_found(build, reseal):
    rewrite(build, "main/00001", lambda parts: parts["modes"].__setitem__(1, 3 << 2))
    change_records(build, "main/00001", "trained_tokens", [0])
    reseal(build)
    told = sentences(build)
    assert any("no token after its first is trained" in sentence for sentence in told)
    assert any("it goes on after its last trained turn" in sentence for sentence in told)


def test_segments_that_are_not_maximal_are_found(build, reseal):
    def split(parts):
        parts["lengths"] = np.concatenate([[4, 4], parts["lengths"][1:]]).astype(np.int32)
        parts["lengths"][1] = Shard.open(build / "main/00000").segments.lengths[0] - 4
        parts["modes"] = np.concatenate([[6, 4], parts["modes"][1:]]).astype(np.int8)
        parts["row_starts"] = parts["row_starts"] + np.array([0, 1, 1])

    rewrite(build, "main/00000", split)
    reseal(build)
    (told,) = sentences(build)
    assert "segment 1 has role and mask of the one before it" in told


def test_a_row_that_overflows_when_examples_are_aligned_is_found(build, reseal):
    reseal(build, row_tokens=32, align=16)
    (told,) = sentences(build)
    assert told == "main/00000.idx: row 0: its examples take 48 of 32 tokens"


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("row", [0, 0, 0], "its record says row 0, the index 1"),
        ("place", [0, 3, 0], "its record says place 3, the index 15"),
        ("tokens", [15, 30, 18], "its record says tokens"),
        ("trained_tokens", [1, 8, 10], "its record says trained_tokens 1, the index 2"),
        ("flags", [0, 32, 2], "flags 32 are not known"),
        ("turn", [-1, -2, 0], "turn -2 is none"),
        (
            "ids_xxh3",
            [b"a" * 16, b"b" * 16, b"c" * 16],
            "its tokens are others than its record says, by their digest",
        ),
        ("ids_xxh3", [None, b"b" * 16, None], 'column "ids_xxh3" has 2 nulls, and may have none'),
        ("task", ["aqua", None, "esnli"], 'column "task" has 1 nulls, and may have none'),
    ],
)
def test_records_that_differ_from_the_index_are_found(build, reseal, column, values, told):
    change_records(build, "main/00000", column, values)
    reseal(build)
    file = "main/00000.bin" if "tokens are others" in told else "main/00000.records.parquet"
    assert any(told in sentence and sentence.startswith(file) for sentence in sentences(build))


def test_a_token_of_the_context_that_changed_is_found_though_all_was_sealed_anew(build, reseal):
    before = digests_of_ids(build, "main/00000")
    rewrite(build, "main/00000", lambda parts: parts["tokens"].__setitem__(3, 65))
    change_records(build, "main/00000", "ids_xxh3", before)
    reseal(build)
    (found,) = verify(build).findings
    assert (found.file, found.row, found.example) == ("main/00000.bin", 0, pq_ids(build, "main/00000")[0])
    assert found.sentence == "its tokens are others than its record says, by their digest"


def pq_ids(directory: Path, prefix: str) -> list[str]:
    return [example.hex() for example in pq.read_table(directory / f"{prefix}.records.parquet")["id"].to_pylist()]


def test_a_data_digest_that_its_files_do_not_give_is_found(build):
    path = build / "manifest.json"
    told = json.loads(path.read_bytes())
    held, told["data_digest"] = told["data_digest"], "blake2b:" + "0" * 64
    promised = {key: value for key, value in told.items() if key not in ("digest", "made", "seal")}
    told["digest"] = json_digest(promised)
    told["seal"] = json_digest({key: value for key, value in told.items() if key != "seal"})
    path.write_bytes(canonical_json(told))
    (found,) = sentences(build)
    assert found == f"manifest.json: data_digest is blake2b:{'0' * 64}, where its files and tables give {held}"


def test_a_missing_record_is_found(build, reseal):
    path = build / "main/00000.records.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    reseal(build)
    assert any("it has 2 lines for 3 examples" in sentence for sentence in sentences(build))


def test_an_example_that_stands_twice_in_a_dataset_is_found(
    build, reseal, rewrite_curriculum, write_shard, build_rows, tokenizer
):
    twin = build_rows["main/00000"][1][0]
    write_shard(build, "main/00001", [[twin]], tokenizer)
    rewrite_curriculum(build)
    reseal(build)
    (found,) = verify(build).findings
    assert found == Finding(
        "main/00001.records.parquet", "the example stands in the dataset more than once", 0, twin.id
    )


HALVES = st.sampled_from([0, 1, 2**63, 2**64 - 1])


@pytest.mark.parametrize("at_once", [1, 1 << 20])
@given(shards=st.lists(st.lists(st.tuples(HALVES, HALVES), max_size=4), max_size=4))
def test_an_id_is_told_for_every_example_that_has_it_again(at_once: int, shards: list[list[tuple[int, int]]]):
    checks = [
        ShardCheck(
            f"main/{number}",
            ids=np.array(ids, dtype=np.uint64).reshape(-1, 2),
            turns=np.full(len(ids), -1, dtype=np.int32),
            example_rows=np.arange(len(ids), dtype=np.int32),
        )
        for number, ids in enumerate(shards)
    ]
    every = [(f"{hi:016x}{lo:016x}") for ids in shards for hi, lo in ids]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "_SORTED_AT_ONCE", at_once)
        found = {finding.example for finding in check_twins(checks)}
    assert found <= {name for name in every if every.count(name) > 1}
    assert bool(found) == (len(set(every)) < len(every))


def test_examples_that_share_half_an_id_are_no_twins():
    ids = np.array([[7, 1], [7, 2], [3, 1], [7, 1]], dtype=np.uint64)
    one, other = (
        ShardCheck(f"main/{at}", ids=half, turns=np.full(2, -1), example_rows=np.arange(2))
        for at, half in enumerate((ids[:2], ids[2:]))
    )
    assert list(check_twins([one, ShardCheck("main/2")])) == []
    assert [(found.file, found.row, found.example) for found in check_twins([one, other])] == [
        ("main/1.records.parquet", 1, f"{7:016x}{1:016x}")
    ]


def test_turns_of_a_conversation_share_an_id_and_are_no_twins():
    ids, rows = np.array([[7, 1], [7, 1], [7, 1]], dtype=np.uint64), np.arange(3)
    assert list(check_twins([ShardCheck("main/0", ids=ids, turns=np.array([0, 1, 2]), example_rows=rows)])) == []
    again = list(check_twins([ShardCheck("main/0", ids=ids, turns=np.array([0, 1, 1]), example_rows=rows)]))
    assert [found.row for found in again] == [2]


def test_one_example_may_stand_in_two_datasets(build, reseal, write_shard, build_rows, tokenizer):
    write_shard(build, "side/00000", build_rows["main/00001"], tokenizer)
    reseal(build)
    assert verify(build).is_sound


def test_a_shard_without_rows_is_found(build, reseal):
    rewrite(
        build,
        "main/00001",
        lambda parts: parts.update(
            {name: values[:0] for name, values in parts.items() if name != "row_starts"},
            row_starts=np.zeros(1, dtype=np.int64),
        ),
    )
    datasets = json.loads((build / "manifest.json").read_text(encoding="utf-8"))["datasets"]
    reseal(build, datasets=datasets)
    assert any(told.startswith("main/00001.idx: it holds no rows") for told in sentences(build))


def test_a_gap_in_the_tokens_is_found(build, reseal):
    with (build / "main/00001.bin").open("ab") as file:
        file.write(b"\0\0")
    reseal(build)
    (told,) = sentences(build)
    assert ".bin holds" in told
    assert "its tokens were not checked" in told


def test_a_fault_that_is_everywhere_is_named_a_few_times_and_counted(
    build, reseal, rewrite_curriculum, write_shard, build_rows, tokenizer
):
    example = build_rows["main/00000"][1][0]
    rows = [[dataclasses.replace(example, name=f"n{number}", flags=0)] for number in range(9)]
    write_shard(build, "main/00000", rows, tokenizer)
    change_records(build, "main/00000", "flags", [2] * 9)
    rewrite_curriculum(build)
    reseal(build)
    told = sentences(build)
    assert len(told) == 3
    assert told[-1].endswith("(and 6 more like it)")


def test_a_finding_never_lets_a_name_steer_the_terminal():
    assert str(Finding("a\x1b[2J", "bad")) == "a␛[2J: bad"


def test_a_name_of_any_length_in_a_manifest_is_told_in_a_line_that_can_be_read(build: Path):
    path = build / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "x" * 70_000: 1}), encoding="utf-8")
    (finding,) = verify(build).findings
    assert "it is no manifest: xxx" in finding.sentence
    assert len(finding.sentence) < 3000
