"""Models in and out of Hugging Face's form: transformers is the witness."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from orca_recipes.cli.main import main
from orca_recipes.errors import BuildError, ModelError
from orca_recipes.shards.reader import Shard
from orca_recipes.train.checkpoints import streamed
from orca_recipes.train.checkpoints.checkpoint import save_checkpoint
from orca_recipes.train.checkpoints.description import Checkpoint, read_checkpoint
from orca_recipes.train.hf.configuration import architecture_from_hf
from orca_recipes.train.hf.conversion import export_hf, import_hf, load_hf
from orca_recipes.train.hf.model_folder import write_safetensors
from orca_recipes.train.model.network import build_model, logits
from orca_recipes.train.processes.parallel_layout import Layout, Place
from tests.run.ends import COHERE_LIKE, make_build
from tests.train.rows import Packed, packed

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
MODELS: dict[str, dict[str, Any]] = {
    "untied": {},
    "tied": {"tie_word_embeddings": True},
    "llama 3's RoPE": {"rope_parameters": {"rope_theta": 500_000.0, **LLAMA3}},
    "another width of heads": {"head_dim": 16},
    "every head its own key": {"num_key_value_heads": 4},
    "vocabulary 32,001": {"vocab_size": 32_001},
}
LAYOUTS = [Layout(), Layout(tensor_parallel=2), Layout(tensor_parallel=2, sequence_parallel=True)]


def random_llama(folder: Path, *, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    """A random model as transformers saves it."""
    torch.manual_seed(5)
    shape: dict[str, Any] = {
        "vocab_size": 500,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
        "initializer_range": 0.2,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**shape, **changes}))
    model.to(dtype).save_pretrained(folder)
    return folder


def witness_logits(folder: Path, tokens: torch.Tensor) -> torch.Tensor:
    model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        found: torch.Tensor = model(tokens).logits
    return found


def whole(tokens: torch.Tensor) -> Packed:
    bounds = np.array([0, tokens.shape[1]], dtype=np.int32)
    return Packed(tokens, tokens, torch.ones(tokens.shape), [bounds] * len(tokens))


def loaded_logits(folder: Path, layout: Layout, batch: Packed) -> Callable[[Place], torch.Tensor]:
    def compute(place: Place) -> torch.Tensor:
        config = json.loads((folder / "config.json").read_text())
        model = build_model(architecture_from_hf(config, "config.json"), layout, initialize=False)
        load_hf(folder, model)
        return logits(model, batch).detach()

    return compute


def test_an_imported_model_gives_the_logits_that_transformers_gives(
    run_layout: Callable[..., list[Any]], tmp_path: Path
):
    folders = {name: random_llama(tmp_path / name, **changes) for name, changes in MODELS.items()}
    sizes = {name: changes.get("vocab_size", 500) for name, changes in MODELS.items()}
    batches = {name: whole(packed([64], [64], vocabulary=size).tokens_BT) for name, size in sizes.items()}
    expected = {name: witness_logits(folder, batches[name].tokens_BT) for name, folder in folders.items()}
    for layout in LAYOUTS:

        def compute(place: Place, to: Layout = layout) -> dict[str, torch.Tensor]:
            return {name: loaded_logits(folder, to, batches[name])(place) for name, folder in folders.items()}

        for rank in run_layout(layout, compute):
            for name, found in rank.items():
                differs = (found[..., : sizes[name]] - expected[name]).abs().max()
                assert differs < 1e-4, f"{name}, {layout}"
                assert torch.isneginf(found[..., sizes[name] :]).all()


def test_packed_examples_give_the_logits_that_transformers_gives_each_alone(
    run_layout: Callable[..., list[Any]], tmp_path: Path
):
    folder = random_llama(tmp_path / "model", **MODELS["llama 3's RoPE"])
    batch = packed([11, 40, 13], [64], vocabulary=500)
    layout = Layout(tensor_parallel=2, sequence_parallel=True)
    found = run_layout(layout, loaded_logits(folder, layout, batch))[0]
    for row, start, end in ((0, 0, 11), (0, 11, 51), (0, 51, 64), (1, 0, 64)):
        alone = witness_logits(folder, batch.tokens_BT[row : row + 1, start:end])
        assert (found[row, start:end, :500] - alone[0]).abs().max() < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("tied", [True, False])
def test_what_is_imported_and_exported_is_what_it_was_to_the_bit(
    fork_ranks: Callable[..., list[Any]], tmp_path: Path, dtype: torch.dtype, tied: bool
):
    folder = random_llama(tmp_path / "model", dtype=dtype, tie_word_embeddings=tied, vocab_size=501)

    def there_and_back(rendezvous: str) -> None:
        import_hf(folder, tmp_path / "run")
        export_hf(tmp_path / "run" / "step-00000000", tmp_path / "exported")
        import_hf(tmp_path / "exported", tmp_path / "again")
        export_hf(tmp_path / "again" / "step-00000000", tmp_path / "exported-again")

    fork_ranks(1, there_and_back)
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "exported" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(before[name].dtype == after[name].dtype == dtype for name in before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        assert (tmp_path / "exported" / name).read_bytes() == (tmp_path / "exported-again" / name).read_bytes()
    ours = transformers.AutoConfig.from_pretrained(tmp_path / "exported").to_dict()
    theirs = transformers.AutoConfig.from_pretrained(folder).to_dict()
    assert {key for key in theirs if ours[key] != theirs[key]} <= {"_name_or_path"}


@pytest.mark.parametrize("layout", LAYOUTS[1:], ids=str)
def test_a_checkpoint_of_any_layout_is_exported_as_it_was_imported(
    fork_ranks: Callable[..., list[Any]], run_layout: Callable[..., list[Any]], tmp_path: Path, layout: Layout
):
    folder = random_llama(tmp_path / "model", vocab_size=32_001)

    def taken_over(place: Place) -> None:
        architecture = architecture_from_hf(json.loads((folder / "config.json").read_text()), "config.json")
        model = build_model(architecture, layout, initialize=False)
        load_hf(folder, model)
        save_checkpoint(tmp_path / "run", Checkpoint(architecture), model, keep=1)

    run_layout(layout, taken_over)
    fork_ranks(1, lambda rendezvous: export_hf(tmp_path / "run" / "step-00000000", tmp_path / "exported"))
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "exported" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_tensors_are_written_one_by_one_as_safetensors_writes_them_at_once(tmp_path: Path):
    tensors = load_file(random_llama(tmp_path / "model", dtype=torch.bfloat16) / "model.safetensors")
    tensors["café"] = torch.zeros(0, 3, dtype=torch.bfloat16)
    save_file(tensors, tmp_path / "expected", metadata={"format": "pt"})
    backwards = dict(reversed(tensors.items()))
    shapes = {name: tuple(tensor.shape) for name, tensor in backwards.items()}
    write_safetensors(tmp_path, backwards.items(), shapes, torch.bfloat16)
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "expected").read_bytes()


def test_no_more_than_a_part_of_a_model_is_in_memory_at_once(fork_ranks: Callable[..., list[Any]], tmp_path: Path):
    shape = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 16, "vocab_size": 8192}
    folder = random_llama(tmp_path / "model", dtype=torch.bfloat16, **shape)
    size = (folder / "model.safetensors").stat().st_size
    assert size > 100_000_000

    def peaks(rendezvous: str) -> list[int]:
        # Imports, and what is made once for all models.
        small = random_llama(tmp_path / "small")
        export_hf(import_hf(small, tmp_path / "small-run")[0], tmp_path / "small-exported")
        found = []
        for body in (
            lambda: import_hf(folder, tmp_path / "run"),
            lambda: export_hf(tmp_path / "run" / "step-00000000", tmp_path / "exported"),
        ):
            Path("/proc/self/clear_refs").write_text("5")
            before = memory("VmHWM")
            body()
            found.append(memory("VmHWM") - before)
        return found

    [found] = fork_ranks(1, peaks)
    assert max(found) < 0.6 * size
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "exported" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def memory(what: str) -> int:
    """Bytes of this process, as Linux counts them."""
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(told[what].split()[0]) * 1024


def test_an_import_and_an_export_that_are_interrupted_leave_nothing(
    fork_ranks: Callable[..., list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = random_llama(tmp_path / "model")
    fork_ranks(1, lambda rendezvous: import_hf(folder, tmp_path / "run"))
    seen = [0]

    def interrupted(*_: Any, **__: Any) -> Any:
        seen[0] += 1
        if seen[0] == 4:
            raise KeyboardInterrupt
        return real(*_, **__)

    def attempt(rendezvous: str) -> None:
        with pytest.raises(KeyboardInterrupt):
            import_hf(folder, tmp_path / "again")

    def attempt_to_export(rendezvous: str) -> None:
        with pytest.raises(KeyboardInterrupt):
            export_hf(tmp_path / "run" / "step-00000000", tmp_path / "exported")

    real = torch.save
    with monkeypatch.context() as patching:
        patching.setattr(torch, "save", interrupted)
        fork_ranks(1, attempt)
    assert [path.name for path in tmp_path.rglob("*again*")] in ([], ["again"])
    assert not any((tmp_path / "again").glob("*"))
    real, seen[0] = streamed.Weights.read, 0
    with monkeypatch.context() as patching:
        patching.setattr(streamed.Weights, "read", interrupted)
        fork_ranks(1, attempt_to_export)
    assert not list(tmp_path.glob("*exported*"))


def test_a_large_model_is_written_in_several_files_and_read_from_them(
    run_layout: Callable[..., list[Any]], tmp_path: Path
):
    folder = random_llama(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    write_safetensors(sharded, tensors.items(), shapes, torch.float32, file_bytes=70_000)
    (sharded / "config.json").write_bytes((folder / "config.json").read_bytes())
    assert len(list(sharded.glob("model-*-of-*.safetensors"))) > 1

    batch = whole(packed([32], vocabulary=500).tokens_BT)
    expected = witness_logits(folder, batch.tokens_BT)
    assert torch.equal(witness_logits(sharded, batch.tokens_BT), expected)
    [found] = run_layout(Layout(), loaded_logits(sharded, Layout(), batch))
    assert (found[..., :500] - expected).abs().max() < 1e-4


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart with two added tokens, as a user builds it: 4,098 tokens, of which the last two are added."""
    place = tmp_path_factory.mktemp("build")
    recipe = Path(__file__).parents[2] / "recipes" / "quickstart.toml"
    words = ["build", str(recipe), "--limit", "20", "--workers", "1", "--store", str(place / "s")]
    added = 'tokenizer.add_special_tokens=["[[PAD]]", "<|new|>"]'
    done = CliRunner().invoke(main, [*words, "--set", added, "--out", str(place / "b")])
    assert done.exit_code == 0, done.output
    return place / "b"


def test_generation_stops_where_training_ends_an_answer(
    fork_ranks: Callable[..., list[Any]], tmp_path: Path, build: Path
):
    settings = json.loads((build / "tokenizer" / "generation_config.json").read_text())
    manifest = json.loads((build / "manifest.json").read_text())
    folder = random_llama(tmp_path / "model", vocab_size=manifest["vocabulary_size"])
    chat = [{"role": "user", "content": "What is 2 + 2?"}]

    def imported(rendezvous: str) -> None:
        main(["import-hf", str(folder), str(tmp_path / "run"), "--build", str(build)], standalone_mode=False)

    def exported(rendezvous: str) -> None:
        main(["export-hf", str(tmp_path / "run" / "step-00000000"), str(tmp_path / "out")], standalone_mode=False)

    fork_ranks(1, imported)
    fork_ranks(1, exported)

    def answer(end: int | None) -> list[int]:
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        if end is not None:
            # The output's row of the token that would come fourth becomes the terminator's.
            with torch.no_grad():
                table = model.lm_head.weight
                table[[end, settings["eos_token_id"]]] = table[[settings["eos_token_id"], end]]
        made = model.generate(**prompt, do_sample=False, max_new_tokens=12)
        return made[0, prompt["input_ids"].shape[1] :].tolist()

    babble = answer(None)
    assert len(babble) == 12
    first_of_its_kind = next(token for token in babble[3:] if token != settings["eos_token_id"])
    stopped = answer(first_of_its_kind)
    assert len(stopped) < 12
    assert stopped[-1] == settings["eos_token_id"]


def test_a_model_that_prints_what_it_was_trained_to_stops_exactly_at_its_end(
    fork_ranks: Callable[..., list[Any]], tmp_path: Path
):
    build = make_build(tmp_path / "project", COHERE_LIKE.replace("between", "' so '"), eos="<|old|>")
    manifest = json.loads((build / "manifest.json").read_text())
    folder = random_llama(tmp_path / "model", vocab_size=manifest["vocabulary_size"])

    def there_and_back(rendezvous: str) -> None:
        import_hf(folder, tmp_path / "run", build=build)
        export_hf(tmp_path / "run" / "step-00000000", tmp_path / "out")

    fork_ranks(1, there_and_back)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    trained = tokenizer.encode("Bye.<|END_RESPONSE|> so <|END_TURN|>", add_special_tokens=False)
    shard = Shard.open(build / "main" / "00000")
    assert trained in [shard.tokens[place : place + len(trained)].tolist() for place in range(len(shard.tokens))]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "And?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    asked = prompt["input_ids"].shape[1]

    def next_of_trained(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(scores, -torch.inf)
        forced[:, (trained * 2)[ids.shape[1] - asked]] = 0
        return forced

    made = model.generate(
        **prompt, do_sample=False, max_new_tokens=len(trained) + 5, logits_processor=[next_of_trained]
    )
    assert made[0, asked:].tolist() == trained
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["eos_token_id"] == model.generation_config.eos_token_id == tokenizer.eos_token_id == trained[-1]
    assert config["pad_token_id"] == model.generation_config.pad_token_id == tokenizer.pad_token_id


def test_the_digest_of_the_manifest_travels_into_the_export_and_back(
    fork_ranks: Callable[..., list[Any]], tmp_path: Path
):
    folder = random_llama(tmp_path / "model")

    def there_and_back(rendezvous: str) -> Checkpoint:
        path, _ = import_hf(folder, tmp_path / "run")
        described = json.loads((path / "checkpoint.json").read_text())
        (path / "checkpoint.json").write_text(json.dumps({**described, "manifest_digest": "blake2b:feed", "step": 7}))
        export_hf(path, tmp_path / "out")
        return read_checkpoint(import_hf(tmp_path / "out", tmp_path / "again")[0])

    [back] = fork_ranks(1, there_and_back)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["orca_recipes"] == {
        "manifest_digest": "blake2b:feed",
        "step": 7,
    }
    assert back.manifest_digest == "blake2b:feed"


def test_an_import_for_a_build_has_its_added_tokens_as_the_mean_of_its_own(
    fork_ranks: Callable[..., list[Any]], tmp_path: Path, build: Path
):
    folder = random_llama(tmp_path / "model", vocab_size=4096)

    def there_and_back(rendezvous: str) -> None:
        import_hf(folder, tmp_path / "run", build=build)
        export_hf(tmp_path / "run" / "step-00000000", tmp_path / "out")

    fork_ranks(1, there_and_back)
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert len(after[name]) == 4098
        assert torch.equal(after[name][:4096], before[name])
        assert torch.allclose(after[name][4096:], before[name].mean(dim=0), atol=1e-6)
    assert len(transformers.AutoTokenizer.from_pretrained(tmp_path / "out")) == 4098


def test_a_build_whose_tokenizer_is_not_the_models_is_refused(
    fork_ranks: Callable[..., list[Any]], tmp_path: Path, build: Path
):
    folder = random_llama(tmp_path / "model", vocab_size=4000)
    with pytest.raises(ModelError, match=r"4,098 tokens is larger than .* 4,000, and token 4,000 is no added token"):
        fork_ranks(1, lambda rendezvous: import_hf(folder, tmp_path / "run", build=build))


def test_a_folder_that_is_no_such_model_is_refused_in_a_sentence(fork_ranks: Callable[..., list[Any]], tmp_path: Path):
    folder = random_llama(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    missing = {name: tensor for name, tensor in weights.items() if name != "model.norm.weight"}
    biased = {**weights, "model.layers.0.self_attn.q_proj.bias": torch.zeros(32)}
    narrow = {**weights, "model.norm.weight": torch.ones(31)}

    def said(tensors: dict[str, torch.Tensor]) -> str:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError) as fault:
            fork_ranks(1, lambda rendezvous: import_hf(folder, tmp_path / "run"))
        return str(fault.value)

    assert "model.norm.weight is missing" in said(missing)
    assert "q_proj.bias is no weight of a LLaMA model as the trainer" in said(biased)
    assert "model.norm.weight is 31 and config.json says 32" in said(narrow)
    (folder / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match="cannot be read"):
        fork_ranks(1, lambda rendezvous: import_hf(folder, tmp_path / "run"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="it holds neither"):
        fork_ranks(1, lambda rendezvous: import_hf(folder, tmp_path / "run"))
    with pytest.raises(ModelError, match="has no config"):
        fork_ranks(1, lambda rendezvous: import_hf(tmp_path, tmp_path / "run"))
    with pytest.raises(BuildError, match="in the way"):
        export_hf(tmp_path / "run", folder)


def test_an_import_touches_no_run_that_is_there(tmp_path: Path):
    (tmp_path / "run" / "step-00000200").mkdir(parents=True)
    with pytest.raises(BuildError, match="holds checkpoints already"):
        import_hf(tmp_path / "model", tmp_path / "run")
