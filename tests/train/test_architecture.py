"""Which models the trainer takes, and why it takes no other."""

from typing import Any

import pytest

from orca_recipes.errors import ModelError
from orca_recipes.train.hf.configuration import architecture_from_hf, architecture_to_hf
from orca_recipes.train.model.architecture import Architecture, named_architecture

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 32_001,
    "max_position_embeddings": 2048,
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"]}, "GPTNeoXForCausalLM"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ({"attention_bias": True}, "no biases in the attention"),
        ({"mlp_bias": True}, "no biases in feed-forward layers"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu': the trainer has no activation but silu in this family"),
        ({"sliding_window": 64}, "sliding_window = 64: the trainer has no windows"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5: the trainer turns each head whole"),
        (
            {"rope_scaling": {"type": "spiral", "factor": 2.0}},
            "scaled by 'spiral', and the trainer knows llama3, linear",
        ),
        ({"rope_parameters": {"rope_type": "linear"}}, "scaled by linear without factor"),
        ({"quantization_config": {"bits": 4}}, "no quantized weights"),
        ({"dtype": "float8_e4m3fn"}, "float8_e4m3fn"),
        ({"num_key_value_heads": 3}, "do not share evenly"),
        ({"hidden_size": "wide"}, "no configuration of a LLaMA model"),
        ({"num_hidden_layers": 0}, "layers is 0"),
    ],
)
def test_what_is_not_of_the_family_is_refused_by_name(changes: dict[str, Any], said: str):
    with pytest.raises(ModelError, match=f"config.json: .*{said}"):
        architecture_from_hf({**LLAMA, **changes}, "config.json")


QWEN2 = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
GEMMA3 = {"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"]}
PHI3 = {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({**QWEN2, "attention_dropout": 0.1}, "attention_dropout = 0.1: the trainer has no dropout: choose a Qwen2"),
        ({**GEMMA3, "final_logit_softcapping": 30.0}, "= 30.0: the trainer caps no logits: choose a Gemma 3 model"),
        ({**GEMMA3, "hidden_activation": "relu"}, "the trainer has no activation but gelu_pytorch_tanh"),
        ({**GEMMA3, "use_bidirectional_attention": True}, "the trainer has no attention to what comes later"),
        (
            {**GEMMA3, "rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
            "the trainer stretches no RoPE of layers with a window",
        ),
        ({**PHI3, "embd_pdrop": 0.1}, "embd_pdrop = 0.1: the trainer has no dropout"),
        (
            {
                **PHI3,
                "partial_rotary_factor": 0.5,
                "rope_scaling": {"type": "su", "short_factor": [1], "long_factor": [2]},
            }
            | {"original_max_position_embeddings": 1024},
            "partial_rotary_factor = 0.5: the trainer scales no part of a head",
        ),
        ({"model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"]}, "GptOssForCausalLM"),
        ({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]}, "ConditionalGeneration"),
    ],
)
def test_what_a_family_has_elsewhere_and_not_here_is_refused_by_name(changes: dict[str, Any], said: str):
    with pytest.raises(ModelError, match=f"config.json: .*{said}"):
        architecture_from_hf({**LLAMA, **changes}, "config.json")


def test_windows_and_layers_without_positions_are_read_in_every_spelling():
    listed = architecture_from_hf({**LLAMA, **GEMMA3, "sliding_window_pattern": 2, "sliding_window": 8}, "old")
    assert (listed.window, listed.windowed_layers, listed.window_rope_base) == (8, (0,), 10_000.0)
    off = architecture_from_hf({**LLAMA, **QWEN2, "sliding_window": 8, "max_window_layers": 1}, "off")
    assert off.window is None
    on = {"sliding_window": 8, "max_window_layers": 1, "use_sliding_window": True}
    assert architecture_from_hf({**LLAMA, **QWEN2, **on}, "on").windowed_layers == (1,)
    smollm3 = {"model_type": "smollm3", "architectures": ["SmolLM3ForCausalLM"], "no_rope_layer_interval": 2}
    assert architecture_from_hf({**LLAMA, **smollm3}, "interval").unplaced_layers == (1,)


def test_examples_may_be_no_longer_than_the_positions_before_long_rope():
    scaling = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    made = architecture_from_hf(
        {**LLAMA, **PHI3, "rope_scaling": scaling, "original_max_position_embeddings": 1024}, "here"
    )
    assert (made.max_positions, made.longest_example) == (2048, 1024)


def test_a_checkpoint_of_a_family_that_is_not_known_is_refused():
    told = architecture_from_hf(LLAMA, "here").as_json()
    with pytest.raises(ModelError, match="knows no family of models 'mamba': it knows llama, mistral"):
        Architecture.from_json({**told, "family": "mamba"})


def test_a_configuration_says_the_same_in_old_and_new_spelling():
    scaling = {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    old = {**LLAMA, "rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **scaling}, "torch_dtype": "bfloat16"}
    new = {
        **LLAMA,
        "rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", **scaling},
        "dtype": "bfloat16",
    }
    assert architecture_from_hf(old, "old") == architecture_from_hf(new, "new")


def test_an_architecture_survives_config_json_and_checkpoint_json():
    made = architecture_from_hf({**LLAMA, "rope_theta": 1e6, "head_dim": 32, "tie_word_embeddings": True}, "here")
    assert architecture_from_hf(architecture_to_hf(made), "there") == made
    assert Architecture.from_json(made.as_json()) == made


def test_named_models_are_those_of_the_list():
    assert named_architecture("tiny").with_vocabulary(4096).parameters < 1_000_000
    assert 1e9 < named_architecture("1b").with_vocabulary(128_256).parameters < 1.3e9
    with pytest.raises(ModelError, match="'huge': choose tiny, small, 1b"):
        named_architecture("huge")


def test_the_padded_vocabulary_is_one_size_that_usual_layouts_divide():
    assert architecture_from_hf(LLAMA, "here").padded_vocabulary_size == 32_128


def test_a_trained_embedding_grows_for_added_tokens_only():
    made = architecture_from_hf(LLAMA, "here")
    assert made.with_vocabulary(32_003, added={32_001, 32_002}).vocabulary_size == 32_003
    assert made.with_vocabulary(32_000).vocabulary_size == 32_001
    with pytest.raises(ModelError, match="token 32,001 is no added token"):
        made.with_vocabulary(32_003, added={32_002})
