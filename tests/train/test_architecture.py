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
