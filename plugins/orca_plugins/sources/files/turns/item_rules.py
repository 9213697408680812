"""Rules of a shape for the items of a trajectory: the message that each becomes, its role, and the paths to its
content.

Rules are data in `shapes.toml`; the first that fits an item makes its message. `items_as_messages` follows them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Asked = str | bool | tuple[str, ...]
"""What a value of an item must be: a text, one of several, or to be there (true) or not (false), where one that is
false is not."""


@dataclass(frozen=True)
class CallRule:
    """Paths to the tool calls of an item.

    of: path to the call or the list of calls; empty: the item itself. id, name, arguments: paths in a call. named: the
    fixed name of all such calls, in place of a path. given: arguments gathered one by one, each from its path.
    """

    of: str = ""
    id: str = "id"
    name: str = "name"
    arguments: str = "arguments"
    named: str | None = None
    given: Mapping[str, str] = field(default_factory=dict)

    def paths(self) -> tuple[str, ...]:
        """List the paths read in a call."""
        return (self.id, *(() if self.named else (self.name,)), *(self.given.values() or (self.arguments,)))


@dataclass(frozen=True)
class ReplyRule:
    """Paths to the tool replies that lie in the same item as their calls.

    of: path to the list. id, content: paths in a reply. without_id: the role of a reply that answers no call.
    """

    of: str
    id: str = "id"
    content: str = "content"
    without_id: str = "user"


@dataclass(frozen=True)
class ItemRule:
    """A condition on items, and the message that a matching item becomes.

    when: paths, each with the value asked for there. at: the only place in the list where such an item may be. role:
    None leaves the item out. refused: why such an item rejects its row. content: paths to texts, joined by a blank
    line, each once; a single path may also lead to parts of text or, as_json, to any value, whose JSON is the text.
    reasoning, name, reply_to (the call that a tool's message answers): paths. train: path to whether the message is
    trained; untrained: path to whether it is not; context: it is never trained. once: path to a value of which only the
    first item becomes a message. joins: path to a value; an item's calls join the message just before it if that was
    made of the same value. reads: paths that are read in another way, or repeat others. whole: path to an object of
    which every key is to be read.
    """

    when: Mapping[str, Asked]
    role: str | None = None
    refused: str | None = None
    at: int | None = None
    content: tuple[str, ...] = ()
    as_json: bool = False
    reasoning: str | None = None
    name: str | None = None
    reply_to: str | None = None
    train: str | None = None
    context: bool = False
    untrained: str | None = None
    once: str | None = None
    joins: str | None = None
    calls: CallRule | None = None
    replies: ReplyRule | None = None
    reads: tuple[str, ...] = ()
    whole: str | None = None

    def read_keys(self) -> set[str]:
        """Collect the top-level keys of an item that the rule reads."""
        return {path.partition(".")[0] for path in self._paths()}

    def read_within(self, path: str) -> set[str]:
        """Collect the keys that the rule reads of an object in the item."""
        return {inner.removeprefix(f"{path}.").partition(".")[0] for inner in self._paths() if inner.startswith(path)}

    def _paths(self) -> list[str]:
        paths = [self.reasoning, self.name, self.reply_to, self.train, self.untrained, self.once, self.joins]
        of_calls = self.calls.paths() if self.calls is not None and not self.calls.of else ()
        held = [one.of for one in (self.calls, self.replies) if one is not None]
        return [*self.when, *self.content, *self.reads, *of_calls, *held, *(path for path in paths if path)]


def rules(tables: Sequence[Mapping[str, Any]]) -> tuple[ItemRule, ...]:
    """Parse the tables of a shape into rules."""
    return tuple(_rule(dict(table)) for table in tables)


def _rule(table: dict[str, Any]) -> ItemRule:
    content = table.pop("content", ())
    calls, replies, reads = (table.pop(name, None) for name in ("calls", "replies", "reads"))
    when = {path: tuple(asked) if isinstance(asked, list) else asked for path, asked in table.pop("when").items()}
    return ItemRule(
        when=when,
        content=(content,) if isinstance(content, str) else tuple(content),
        calls=None if calls is None else CallRule(**calls),
        replies=None if replies is None else ReplyRule(**replies),
        reads=tuple(reads or ()),
        **table,
    )
