"""Settings in the files beside a tokenizer.json: named tokens, declared added tokens, the chat template.

Read as transformers reads them: tokenizer_config.json first, then special_tokens_map.json; chat_template.jinja wins
over the template in the configuration. With a tokenizer.json alone, beginning and end of text are guessed from its
control tokens, each only where just one of its well-known names is there.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orca_plugins.tokenizers.hf.origin import ADDED, CONFIG, SPECIAL, TEMPLATE
from orca_recipes.errors import TokenizerError

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
OTHERS = ("unk_token", "sep_token", "cls_token", "mask_token")
"""Named tokens that neither begin, end nor pad a text."""
_LISTS = ("additional_special_tokens", "extra_special_tokens")
_BEGINS = ("<s>", "<|begin_of_text|>")
_ENDS = ("</s>", "<|endoftext|>", "<|end_of_text|>")


@dataclass(frozen=True)
class DeclaredToken:
    """A token that a file beside the tokenizer.json names; id is None where it only names the text."""

    content: str
    special: bool
    id: int | None = None
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


@dataclass(frozen=True)
class Settings:
    """Named tokens ("bos_token", ...) by their texts, tokens to add, and the chat template."""

    named: Mapping[str, str] = field(default_factory=dict)
    declared: tuple[DeclaredToken, ...] = ()
    chat_template: str | None = None


def read_settings(files: Mapping[str, bytes]) -> Settings | None:
    """Read the settings in the companion files, by name; None where there is none of them. Raises: TokenizerError."""
    tables = {name: _table(name, files[name]) for name in (CONFIG, SPECIAL, ADDED) if name in files}
    template = files[TEMPLATE].decode("utf-8", errors="replace") if TEMPLATE in files else None
    if not tables and template is None:
        return None
    config, special = tables.get(CONFIG, {}), tables.get(SPECIAL, {})
    named = {name: text for name in _NAMED if (text := _text(config.get(name)) or _text(special.get(name)))}
    declared = [*_decoder_tokens(config.get("added_tokens_decoder")), *_added(tables.get(ADDED, {}))]
    declared += [DeclaredToken(text, special=True) for text in _listed(config, special)]
    declared += [DeclaredToken(text, special=True) for text in named.values()]
    return Settings(named, tuple(declared), template or _template(config.get("chat_template")))


def guessed_names(control: Iterable[str]) -> dict[str, str]:
    """Guess beginning and end of text for a tokenizer without names for them, if they cannot be mistaken."""
    texts = set(control)
    guesses = {
        "bos_token": [text for text in _BEGINS if text in texts],
        "eos_token": [text for text in _ENDS if text in texts],
    }
    return {name: found[0] for name, found in guesses.items() if len(found) == 1}


def config_text(named: Mapping[str, str], chat_template: str | None) -> str:
    """Write the tokenizer_config.json that is shipped: transformers opens it as a plain fast tokenizer."""
    table: dict[str, Any] = {
        # The class that takes a tokenizer.json as it is, with no model family's own rules.
        "tokenizer_class": "PreTrainedTokenizerFast",
        # Else transformers drops spaces before punctuation when it decodes.
        "clean_up_tokenization_spaces": False,
        **named,
    }
    if chat_template is not None:
        table["chat_template"] = chat_template
    return json.dumps(table, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def _table(name: str, data: bytes) -> dict[str, Any]:
    try:
        table = json.loads(data)
    except ValueError as fault:
        raise TokenizerError(f"{name} is not JSON ({fault}); mend it, or take it away") from None
    if not isinstance(table, dict):
        raise TokenizerError(f"{name} holds no table; mend it, or take it away")
    return table


def _text(value: Any) -> str | None:
    """Return the text of a named token, written as a string or as a table."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) and content else None


def _listed(*tables: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for table in tables:
        for name in _LISTS:
            value = table.get(name) or []
            entries = value.values() if isinstance(value, dict) else value
            found += [text for text in map(_text, entries) if text]
    return list(dict.fromkeys(found))


def _decoder_tokens(table: Any) -> list[DeclaredToken]:
    if not isinstance(table, dict):
        return []
    tokens = [_decoder_token(place, entry) for place, entry in table.items()]
    return sorted((token for token in tokens if token), key=lambda token: token.id or 0)


def _decoder_token(place: str, entry: Any) -> DeclaredToken | None:
    text = _text(entry)
    if text is None or not place.isdecimal():
        return None
    flags = {name: bool(entry.get(name)) for name in ("special", "lstrip", "rstrip", "single_word")}
    return DeclaredToken(text, id=int(place), **flags)


def _added(table: Mapping[str, Any]) -> list[DeclaredToken]:
    """Read added_tokens.json: text to id, as slow tokenizers keep them; whether one is special stands elsewhere."""
    tokens = [DeclaredToken(text, special=False, id=place) for text, place in table.items() if isinstance(place, int)]
    return sorted(tokens, key=lambda token: token.id or 0)


def _template(value: Any) -> str | None:
    """Choose the one template, or the default among named ones."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        template = named.get("default")
        return template if isinstance(template, str) else None
    return None
