"""How text becomes ids: the fast tokenizer equals the reference, and no text becomes a control token."""

import gzip
import json
import pickle
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from orca_plugins.tokenizers.hf import fast_engine as fast
from orca_plugins.tokenizers.hf.hf_encoder import HFEncoder
from orca_plugins.tokenizers.hf.kind import HF
from orca_plugins.tokenizers.hf.tokenizer_json import without_control
from orca_recipes.contract.kinds import Encoder
from orca_recipes.errors import TokenizerError

CHAT = ("<|im_start|>", "<|im_end|>")
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SHAPES = ("llama", "llama 3", "gpt 2 with a prefix space", "metaspace always", "metaspace first")
PREFIX_FREE = ("llama", "llama 3", "metaspace first")
ANYTHING = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

Open = Callable[[str], HFEncoder]


def encoded(encoder: Encoder, *texts: str, opens: bool = True, exact: bool = False) -> list[list[int]]:
    ids, offsets = encoder.encode(texts=pa.array(texts, type=pa.large_string()), opens=opens, exact=exact)
    assert ids.dtype == np.uint32
    assert offsets.dtype == np.int64
    return [ids[start:stop].tolist() for start, stop in pairwise(offsets)]


@pytest.fixture(scope="session")
def llama_json(shared: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((shared / "data/tokenizer/tokenizer.json").read_bytes())
    return table


@pytest.fixture(scope="session")
def lines(shared: Path) -> list[str]:
    rows = gzip.decompress((shared / "data/cot/qasc_train.tsv.gz").read_bytes()).decode().split("\n")
    return [*rows, "\n\n".join(row.rstrip(" .") for row in rows)]


@pytest.fixture(scope="session")
def opened(llama_json: dict[str, Any], lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> Open:
    """Opens a tokenizer of one of the shapes, with ChatML's control tokens added; each is made once."""
    made: dict[str, HFEncoder] = {}

    def of_shape(shape: str) -> HFEncoder:
        if shape not in made:
            place = tmp_path_factory.mktemp("tokenizer")
            (place / "source.json").write_text(json.dumps(definition(shape, llama_json, lines)), encoding="utf-8")
            made[shape] = shipped(HF(path=place / "source.json", add_special_tokens=CHAT), place)
        return made[shape]

    return of_shape


def shipped(kind: HF, folder: Path) -> HFEncoder:
    kind.materialize(files=kind.files(), folder=folder)
    return kind.open(folder=folder)


def definition(shape: str, llama: dict[str, Any], lines: list[str]) -> dict[str, Any]:
    if shape == "llama":
        return llama
    if shape.startswith("metaspace"):
        step = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": shape.split()[1], "split": False}
        return {**llama, "normalizer": None, "pre_tokenizer": step}
    return byte_level(lines, prefix_space=shape != "llama 3")


def byte_level(lines: list[str], *, prefix_space: bool) -> dict[str, Any]:
    tokenizer = Tokenizer(models.BPE(ignore_merges=not prefix_space))
    whole = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=prefix_space)
    split = pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated")
    tokenizer.pre_tokenizer = whole if prefix_space else pre_tokenizers.Sequence([split, whole])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.add_special_tokens(["<|end_of_text|>"])
    table: dict[str, Any] = json.loads(tokenizer.to_str())
    return table


@pytest.fixture(scope="session")
def inference(opened: Open) -> Callable[[str, str], list[int]]:
    """What inference makes of a whole text that holds control tokens, by shape."""
    loaded: dict[str, Any] = {}
    load: Any = PreTrainedTokenizerFast

    def ids(shape: str, text: str) -> list[int]:
        if shape not in loaded:
            table = json.dumps(opened(shape)._definition)
            loaded[shape] = load(tokenizer_object=Tokenizer.from_str(table))
        found: list[int] = loaded[shape](text, add_special_tokens=False).input_ids
        return found

    return ids


@pytest.mark.parametrize("shape", SHAPES)
def test_the_fast_tokenizer_is_used_and_equals_the_reference(opened: Open, shape: str) -> None:
    encoder = opened(shape)
    assert encoder.fast, encoder.why
    assert encoder.verdict() == "fast, equal to the reference"


@pytest.mark.parametrize("shape", SHAPES)
@ANYTHING
@given(texts=st.lists(st.text(max_size=40), max_size=8), opens=st.booleans())
def test_fast_and_exact_ids_are_the_same_for_any_text(opened: Open, shape: str, texts: list[str], opens: bool) -> None:
    encoder = opened(shape)
    assert encoded(encoder, *texts, opens=opens) == encoded(encoder, *texts, opens=opens, exact=True)


@pytest.mark.parametrize("shape", SHAPES)
@ANYTHING
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="<|>"), max_size=30), min_size=2, max_size=4)
)
def test_runs_between_control_tokens_are_encoded_as_inference_encodes_the_whole(
    opened: Open, inference: Callable[[str, str], list[int]], shape: str, texts: Sequence[str]
) -> None:
    encoder = opened(shape)
    separator = encoder.vocabulary.control["<|im_start|>"]
    ours: list[int] = []
    for place, text in enumerate(texts):
        opens = place == 0 or not encoder.prefix_only_at_start
        ours += encoded(encoder, text, opens=opens)[0] + [separator]
    assert ours == inference(shape, "".join(f"{text}<|im_start|>" for text in texts))


@pytest.mark.parametrize("shape", PREFIX_FREE)
@ANYTHING
@given(
    header=st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=20),
    answer=st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=30),
)
def test_a_header_and_the_answer_that_goes_on_decode_to_their_text(
    opened: Open, shape: str, header: str, answer: str
) -> None:
    encoder = opened(shape)
    ids = encoded(encoder, f"assistant\n{header}")[0] + encoded(encoder, answer, opens=False)[0]
    assert encoder.decode(ids=np.array(ids, dtype=np.uint32)) == f"assistant\n{header}{answer}"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_whole_conversation_decodes_with_its_control_tokens(opened: Open, shape: str) -> None:
    encoder = opened(shape)
    start, end = (encoder.vocabulary.control[token] for token in CHAT)
    opens = not encoder.prefix_only_at_start
    ids = [
        start,
        *encoded(encoder, "user\nIs it é 中 👍?", opens=opens)[0],
        end,
        *encoded(encoder, "\n", opens=opens)[0],
    ]
    assert encoder.decode(ids=np.array(ids)) == "<|im_start|>user\nIs it é 中 👍?<|im_end|>\n"
    assert encoder.decode(ids=np.array([], dtype=np.uint32)) == ""
    assert encoder.decode(ids=np.array([end, start])) == "<|im_end|><|im_start|>"


@pytest.fixture(scope="session")
def twins(opened: Open) -> Callable[[str], tuple[HFEncoder, HFEncoder]]:
    """A tokenizer twice: one that reads ids by the reference, and one that read so many that it keeps a table."""
    made: dict[str, tuple[HFEncoder, HFEncoder]] = {}

    def of_shape(shape: str) -> tuple[HFEncoder, HFEncoder]:
        if shape not in made:
            few, many = (HFEncoder(opened(shape)._definition, opened(shape).vocabulary) for _ in range(2))
            count = many.vocabulary.size + 1
            a_run = encoded(opened(shape), "a")[0][-1:]
            many.decode_runs(ids=np.array(a_run * count), offsets=np.array([0, count]), opens=False)
            made[shape] = few, many
        return made[shape]

    return of_shape


@pytest.mark.parametrize("shape", SHAPES)
@ANYTHING
@given(texts=st.lists(st.text(), max_size=4), places=st.data())
def test_many_ids_read_the_same_as_few_whatever_stands_beside_them(
    twins: Callable[[str], tuple[HFEncoder, HFEncoder]], shape: str, texts: list[str], places: Any
) -> None:
    few, many = twins(shape)
    said = [token for text in texts for token in encoded(few, text, exact=True)[0]]
    control = sorted(few.vocabulary.control.values())
    anything = st.sampled_from([*said, *control, *range(300)])
    ids = np.array(places.draw(st.permutations([*said, *places.draw(st.lists(anything, max_size=9))])), dtype=np.int64)
    assert many.decode(ids=ids) == few.decode(ids=ids)
    bounds = st.tuples(st.integers(0, len(ids)), st.integers(0, len(ids))).map(sorted)
    starts, stops = np.array(places.draw(st.lists(bounds, max_size=5)), dtype=np.int64).reshape(-1, 2).T
    spans = [few.decode(ids=ids[start:stop]) for start, stop in zip(starts, stops, strict=True)]
    for kind in (np.int64, np.uint16):
        assert many.decode_spans(ids=ids.astype(kind), starts=starts, stops=stops) == spans
    assert few.decode_spans(ids=ids, starts=starts, stops=stops) == spans
    runs = ids[~np.isin(ids, control)]
    offsets = np.array([0, len(runs) // 3, len(runs) // 2, len(runs)])
    for opens in (True, False):
        asked: dict[str, Any] = {"offsets": offsets, "opens": opens}
        expected = few.decode_runs(ids=runs, **asked).to_pylist()
        for kind in (np.int64, np.uint32, np.int32, np.uint16):
            assert many.decode_runs(ids=runs.astype(kind), **asked).to_pylist() == expected
        few._read_ids = 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("exact", [False, True])
def test_a_control_token_in_user_text_stays_text(opened: Open, shape: str, exact: bool) -> None:
    encoder = opened(shape)
    control = encoder.vocabulary.control
    texts = [text for token in control for text in (token, f"a {token}b", f"\n{token}{token}")]
    for opens in (True, False):
        found = {place for ids in encoded(encoder, *texts, opens=opens, exact=exact) for place in ids}
        assert not found & (set(control.values()) - {control.get("<unk>")})


def test_an_instruction_and_its_text_are_one_run(opened: Open) -> None:
    encoder = opened("llama")
    apart = encoded(encoder, "[INST] ")[0] + encoded(encoder, "What", opens=False)[0]
    whole = encoded(encoder, "[INST] What")[0]
    assert len(apart) == len(whole) + 1
    assert encoder.decode(ids=np.array(apart)) == encoder.decode(ids=np.array(whole)) == "[INST] What"


def test_two_line_ends_at_a_seam_are_one_token_in_a_whole_run(opened: Open) -> None:
    encoder = opened("llama 3")
    whole = encoded(encoder, "user\n\nfoo")[0]
    assert whole != encoded(encoder, "user\n")[0] + encoded(encoder, "\nfoo", opens=False)[0]


def test_a_run_that_goes_on_from_text_gets_no_dummy_space(opened: Open) -> None:
    for shape in ("llama", "metaspace always", "metaspace first", "gpt 2 with a prefix space"):
        encoder = opened(shape)
        opening, following = encoded(encoder, "Paris")[0], encoded(encoder, "Paris", opens=False)[0]
        assert opening == encoded(encoder, " Paris", opens=False)[0]
        assert opening != following


def test_the_prefix_stands_only_at_the_start_where_metaspace_says_first(opened: Open) -> None:
    assert [shape for shape in SHAPES if opened(shape).prefix_only_at_start] == ["metaspace first"]


def test_slices_and_empty_columns_are_read_where_they_lie(opened: Open) -> None:
    encoder = opened("llama 3")
    texts = pa.array(["one", "", "two words", "drei", ""], type=pa.large_string())
    expected = encoded(encoder, *texts.to_pylist())
    for column, places in ((texts[2:4], slice(2, 4)), (texts[5:], slice(5, 5)), (texts[1:2], slice(1, 2))):
        for exact in (False, True):
            ids, offsets = encoder.encode(texts=column, opens=True, exact=exact)
            found = [ids[a:b].tolist() for a, b in pairwise(offsets)]
            assert found == expected[places]
            assert len(offsets) == len(column) + 1
    nothing = pa.array([], type=pa.large_string())
    assert [len(part) for part in encoder.encode(texts=nothing, opens=True)] == [0, 1]


def test_loading_the_fast_tokenizer_anew_changes_no_id(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = opened("llama 3")
    texts = ["the quick brown fox", "jumps over 12345"]
    before = encoded(encoder, *texts)
    monkeypatch.setattr(fast, "RELOAD_BYTES", 1)
    assert [encoded(encoder, *texts) for _ in range(3)] == [before] * 3


def test_where_the_fast_tokenizer_panics_the_reference_goes_on(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    class Panics:
        def encode_batch(self, *_: object, **__: object) -> None:
            raise PanicException("index out of bounds\nnote: run with RUST_BACKTRACE")

    encoder = HFEncoder(opened("llama 3")._definition, opened("llama 3").vocabulary)
    before = encoded(encoder, "Hello")
    monkeypatch.setattr(encoder._engines[True]._state.fast, "_engine", Panics())
    assert encoded(encoder, "Hello") == before
    assert not encoder.fast
    assert encoder.why == "the fast tokenizer gave up on a text (index out of bounds)"


def test_an_interrupt_is_not_taken_for_a_panic() -> None:
    assert isinstance(fast._unsupported(KeyboardInterrupt()), KeyboardInterrupt)


def test_what_the_fast_tokenizer_cannot_load_is_left_to_the_reference(lines: list[str], tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=["[UNK]", "[SEP]"], show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.save(str(tmp_path / "wordpiece.json"))
    encoder = shipped(HF(path=tmp_path / "wordpiece.json"), tmp_path)
    assert not encoder.fast
    assert "WordPiece" in encoder.verdict()
    assert encoded(encoder, "what is this") == encoded(encoder, "what is this", exact=True)


def test_what_the_fast_tokenizer_gets_wrong_is_left_to_the_reference(lines: list[str], tmp_path: Path) -> None:
    table = byte_level(lines, prefix_space=False)
    table["pre_tokenizer"] = table["pre_tokenizer"]["pretokenizers"][1]
    (tmp_path / "unsplit.json").write_text(json.dumps(table), encoding="utf-8")
    encoder = shipped(HF(path=tmp_path / "unsplit.json"), tmp_path)
    assert not encoder.fast
    assert "differs on" in encoder.why
    assert encoded(encoder, "a b c", "1234") == encoded(encoder, "a b c", "1234", exact=True)


def test_a_control_token_that_the_model_finds_whole_stays_text(tmp_path: Path) -> None:
    letters = [(letter, -3.0) for letter in "</s>ab"]
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), *letters], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    tokenizer.save(str(tmp_path / "unigram.json"))
    encoder = shipped(HF(path=tmp_path / "unigram.json"), tmp_path)
    assert 1 not in encoded(encoder, "a</s>b")[0]


PIECES = st.text("<a> ", min_size=1, max_size=3).filter(lambda piece: not piece.startswith(" "))


@given(st.lists(st.tuples(PIECES.filter(lambda piece: " " not in piece), PIECES), max_size=6), st.booleans())
def test_merges_that_take_or_make_a_control_token_are_left_out(merges: list[tuple[str, str]], as_text: bool) -> None:
    written = [f"{left} {right}" if as_text else [left, right] for left, right in merges]
    token = {"id": 0, "content": "<a>", "special": True}
    model = {"type": "BPE", "vocab": {"<a>": 0, "a": 1}, "merges": written}
    left_in = without_control({"model": model, "added_tokens": [token]})["model"]["merges"]
    assert left_in == [
        merge for merge, (left, right) in zip(written, merges, strict=True) if "<a>" not in (left, right, left + right)
    ]


def test_a_tokenizer_that_strips_text_refuses_runs_that_go_on(llama_json: dict[str, Any], tmp_path: Path) -> None:
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    steps = [strip, *llama_json["normalizer"]["normalizers"]]
    table = {**llama_json, "normalizer": {"type": "Sequence", "normalizers": steps}}
    (tmp_path / "strips.json").write_text(json.dumps(table), encoding="utf-8")
    encoder = shipped(HF(path=tmp_path / "strips.json"), tmp_path)
    assert encoded(encoder, " a ") == encoded(encoder, "a")
    with pytest.raises(TokenizerError, match="strips white space at the ends"):
        encoded(encoder, "Paris", opens=False)


def test_added_tokens_that_are_not_control_tokens_stay(llama_json: dict[str, Any], tmp_path: Path) -> None:
    spaces = {**llama_json["added_tokens"][0], "id": 32001, "content": "    ", "special": False}
    marker = {**llama_json["added_tokens"][0], "id": 32000, "content": "<|mark|>"}
    table = {**llama_json, "added_tokens": [*llama_json["added_tokens"], marker, spaces]}
    (tmp_path / "spaces.json").write_text(json.dumps(table), encoding="utf-8")
    encoder = shipped(HF(path=tmp_path / "spaces.json"), tmp_path)
    assert encoder.vocabulary.other_added == {"    ": 32001}
    for exact in (False, True):
        assert 32001 in encoded(encoder, "a    b", exact=exact)[0]
        assert 32000 not in encoded(encoder, "a<|mark|>b", exact=exact)[0]


def test_a_kind_travels_to_other_processes(tmp_path: Path) -> None:
    kind = HF(path=tmp_path / "tokenizer.json", add_special_tokens=CHAT)
    assert pickle.loads(pickle.dumps(kind)) == kind
    assert "path" not in kind.identity()
