"""The tokenizers of the Hugging Face world: any tokenizer.json, a folder or hub name with one, a SentencePiece model.

Whatever it starts from, what is shipped and encoded with is one tokenizer.json, which transformers opens as it is, so
that inference gives the ids that the student was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from orca_plugins.tokenizers.hf import origin
from orca_plugins.tokenizers.hf.assembly import assemble
from orca_plugins.tokenizers.hf.hf_encoder import HFEncoder
from orca_plugins.tokenizers.hf.sentencepiece_check import sentencepiece_names
from orca_plugins.tokenizers.hf.sentencepiece_model import convert
from orca_plugins.tokenizers.hf.tokenizer_config import (
    OTHERS,
    DeclaredToken,
    Settings,
    config_text,
    guessed_names,
    read_settings,
)
from orca_plugins.tokenizers.hf.tokenizer_json import (
    Definition,
    added_tokens,
    control_tokens,
    dump,
    model_vocabulary,
    parse,
    unknown_token,
    vocabulary_size,
)
from orca_recipes.contract.kinds import Place, SourceFile, Tokenizer, Vocabulary
from orca_recipes.errors import TokenizerError

HubName = Annotated[str, Field(pattern=r"^\w[\w.-]*/[\w.-]+$")]


class HF(Tokenizer):
    """A tokenizer of the Hugging Face world.

    `[tokenizer] model = "org/name"` alone is enough for a chat model: it brings the tokenizer, the end tokens and,
    where the recipe has no `[template]`, the chat template.

        [tokenizer]
        kind = "hf"
        path = "tokenizer"
        add_special_tokens = ["<|im_start|>", "<|im_end|>"]
    """

    kind: Literal["hf"] = "hf"
    path: Annotated[
        Place | None, Field(description="a tokenizer.json, a SentencePiece .model, or a folder that holds one of them")
    ] = None
    hub: Annotated[str | None, Field(description='a name of the Hugging Face hub, "org/name"')] = None
    model: Annotated[
        HubName | Place | None,
        Field(
            union_mode="left_to_right",
            description='a chat model, with its template: a name of the hub, "org/name", or a folder, "./name"',
        ),
    ] = None
    hub_revision: Annotated[str, Field(description="branch, tag or commit of the hub name")] = "main"
    add_special_tokens: Annotated[
        tuple[str, ...], Field(description="control tokens to add at the end of the vocabulary")
    ] = ()
    bos: Annotated[str | None, Field(description="control token that begins a text, if the files name another")] = None
    eos: Annotated[str | None, Field(description="control token that ends a text, if the files name another")] = None
    pad: Annotated[str | None, Field(description="control token that fills rows, if the files name another")] = None

    @model_validator(mode="after")
    def _one_origin(self) -> HF:
        if sum(one is not None for one in (self.path, self.hub, self.model)) != 1:
            raise ValueError("give one of `path`, `hub` and `model`")
        return self

    def files(self) -> Sequence[SourceFile]:
        """List the tokenizer's files, sorted by name. Raises: TokenizerError."""
        path = self.path or (self.model if isinstance(self.model, Path) else None)
        if path is not None:
            return origin.local_files(path)
        return origin.hub_files(str(self.hub or self.model), self.hub_revision)

    def materialize(self, *, files: Sequence[SourceFile], folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json into `folder`, byte for byte the same anywhere.

        Raises: TokenizerError where the files are none of a tokenizer, disagree, or a SentencePiece model gives other
            ids as a tokenizer.json.
        """
        contents = {file.name: _bytes(file) for file in files}
        definition, settings = _read(contents)
        added = [DeclaredToken(text, special=True) for text in self.add_special_tokens]
        whole = assemble(definition, [*settings.declared, *added])
        named = self._named(whole, settings)
        (folder / origin.DEFINITION).write_bytes(dump(whole).encode())
        (folder / origin.CONFIG).write_bytes(config_text(named, settings.chat_template).encode())

    def open(self, *, folder: Path) -> HFEncoder:
        """Load what `materialize` wrote."""
        definition = parse((folder / origin.DEFINITION).read_bytes(), origin.DEFINITION)
        config = json.loads((folder / origin.CONFIG).read_bytes())
        return HFEncoder(definition, _vocabulary(definition, config))

    def _named(self, whole: Definition, settings: Settings) -> dict[str, str]:
        """Return named tokens as shipped, the recipe's choice before the files'."""
        control = control_tokens(whole)
        named = {**settings.named}
        unknown = unknown_token(whole)
        if unknown in control:
            named.setdefault("unk_token", unknown)
        for option, text in (("bos", self.bos), ("eos", self.eos), ("pad", self.pad)):
            if text is None:
                continue
            if text not in control:
                raise TokenizerError(
                    f"tokenizer.{option}: {text} is no control token of the tokenizer; add it by `add_special_tokens`"
                )
            named[f"{option}_token"] = text
        return named


def _read(contents: dict[str, bytes]) -> tuple[Definition, Settings]:
    """Read the definition, and the settings in the files beside it."""
    name = _definition_name(contents)
    data = contents[name]
    settings = read_settings(contents)
    if name.endswith(".json"):
        definition = parse(data, name)
        return definition, settings or Settings(named=guessed_names(control_tokens(definition)))
    definition = convert(data, name)
    own = sentencepiece_names(data, definition, name)
    settings = settings or Settings()
    return definition, Settings({**own, **settings.named}, settings.declared, settings.chat_template)


def _definition_name(contents: dict[str, bytes]) -> str:
    """Choose the file that defines the tokenizer: a folder's, under its usual name, or the only one."""
    for name in (origin.DEFINITION, origin.MODEL):
        if name in contents:
            return name
    (name,) = contents
    if not name.endswith((".json", ".model")):
        raise TokenizerError(f"{name} is no tokenizer: give a tokenizer.json, a .model file or a folder with one")
    return name


def _bytes(file: SourceFile) -> bytes:
    try:
        return file.path.read_bytes()
    except OSError as fault:
        raise TokenizerError(f"{file.path} cannot be read ({fault.strerror})") from None


def _vocabulary(definition: Definition, config: dict[str, str]) -> Vocabulary:
    tokens, control, unknown = added_tokens(definition), control_tokens(definition), unknown_token(definition)
    return Vocabulary(
        size=vocabulary_size(definition),
        control=control,
        other_added={token["content"]: token["id"] for token in tokens if not token["special"]},
        eats_space=frozenset(_eaters(tokens)),
        bos=config.get("bos_token"),
        eos=config.get("eos_token"),
        pad=config.get("pad_token"),
        chat_template=config.get("chat_template"),
        unknown=unknown if unknown in control else None,
        unknown_id=None if unknown is None else {**model_vocabulary(definition), **control}.get(unknown),
        named={name: config[name] for name in OTHERS if name in config},
    )


def _eaters(tokens: list[dict[str, object]]) -> Iterator[str]:
    """Yield the control tokens that match by the text beside them (lstrip, rstrip, single_word)."""
    for token in tokens:
        if token["special"] and (token.get("lstrip") or token.get("rstrip") or token.get("single_word")):
            yield str(token["content"])
