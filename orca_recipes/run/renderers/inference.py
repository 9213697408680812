"""Inference's view of a conversation: tokenizer and chat template as shipped, run by the libraries that inference runs.

Nothing of ours is between a conversation and these ids, so they are what ours are held against.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from orca_recipes.contract.kinds import Vocabulary
from orca_recipes.contract.templates.chat_template import ChatTemplate, Message
from orca_recipes.errors import TokenizerError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Inference:
    """A `tokenizer.json` and a chat template."""

    def __init__(self, tokenizer: Path, template: str, vocabulary: Vocabulary) -> None:
        """Raises: TokenizerError where the file cannot be loaded, TemplateError where the text is no jinja."""
        self.template = ChatTemplate(template, vocabulary.told(), None)
        self._tokenizer = _load(tokenizer, _stamp(tokenizer))

    def prompt(self, messages: Sequence[Message]) -> str:
        """Render the prompt before an answer. Raises: as `ChatTemplate.render`."""
        return self.template.render(messages, generation_prompt=True)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts in which the texts of control tokens are control tokens."""
        # encode_batch_fast leaves out offsets, which nobody needs here.
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [list(encoding.ids) for encoding in encodings]


def _stamp(path: Path) -> tuple[int, ...]:
    """Return a file's device, inode, size and time, which differ once the file is made again; empty if there is no
    file."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=2)
def _load(path: Path, stamp: tuple[int, ...]) -> Tokenizer:
    """Load it once a process for the trial of a template and for all that is rendered with it."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as fault:  # the library raises bare Exceptions
        raise TokenizerError(f"{path} cannot be loaded by the tokenizers library: {fault}") from None
