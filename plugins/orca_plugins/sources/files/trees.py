"""Trees of messages as conversations: each path from a tree's first message to a last answer is one.

A flat file holds a message a row, which names its parent; a nested one a tree a row. Where paths share answers, each
answer is trained in the first of them, and is context in the others. Questions that nobody answered end no path.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orca_plugins.sources.files.checked_rows import Finish
from orca_plugins.sources.files.columns import Wanted, shown
from orca_plugins.sources.files.json_rows.strict_json import BadRow, Unlike, once
from orca_plugins.sources.files.row_records import Rows
from orca_plugins.sources.files.traces import branches
from orca_recipes.contract.kinds import Reading

UNANSWERED = "tree: a question without an answer"
EMPTY = "traces: no message in a trace, or no trace in a row"
_ROLES = {"prompter": "user", "human": "user"}
_NOT_AN_OBJECT = "a row that is not an object"


@dataclass
class Node:
    """A message of a tree: the row that it stands in and that row's place, and its replies, best first where ranked."""

    place: int
    row: Mapping[str, Any]
    message: dict[str, Any]
    rank: float
    replies: "list[Node]" = field(default_factory=list)
    is_trained: bool = False

    @property
    def is_question(self) -> bool:
        """Tell whether the message is a user's, which ends no conversation."""
        return bool(self.message["role"] == "user")

    @property
    def is_answer(self) -> bool:
        """Tell whether the message is an assistant's, which may be trained."""
        return bool(self.message["role"] == "assistant")


@dataclass
class Conversations:
    """Result of reading trees: place and row of each conversation, with messages at `column`; rows in no tree, and why;
    the counts of unanswered questions and of traces without messages."""

    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    unanswered: int = 0
    empty: int = 0


def read(
    rows: Iterable[tuple[int, Any]], tree: Mapping[str, str], *, wanted: Wanted, finish: Finish, best: bool
) -> Reading:
    """Read the conversations of the trees in a file's rows; the arguments are those of `conversations`."""
    talks = conversations(rows, tree, column=wanted.paths["messages"], best=best)
    found = Rows(wanted)
    for place, row in talks.rows:
        try:
            found.add(place, row)
        except BadRow as reason:
            found.reject(place, str(reason))
    for place, said in talks.rejected:
        found.reject(place, said)
    reading = finish.reading([found.table()])
    passed = {UNANSWERED: talks.unanswered, EMPTY: talks.empty}
    counted = {why: count for why, count in passed.items() if count}
    return replace(reading, passed_over={**reading.passed_over, **counted})


def conversations(
    rows: Iterable[tuple[int, Any]], tree: Mapping[str, str], *, column: str, best: bool
) -> Conversations:
    """Collect the conversations of the trees in some rows.

    Args:
        tree: the keys of a shape (`columns.Shape`). column: the key for a row's conversation. best: only the path of
            each tree whose messages rank first.
    """
    found = Conversations()
    if "nodes" in tree:
        for place, row in branches(rows, tree, column=column, rejected=found.rejected):
            if row is None:
                found.empty += 1
            else:
                found.rows.append((place, row))
        return found
    roots = _nested(rows, tree, found) if "replies" in tree else _flat(rows, tree, found)
    for root in roots:
        _add_paths(root, found, column, best=best)
    # Paths come tree by tree, and rows of a collection come by place.
    found.rows.sort(key=lambda pair: pair[0])
    return found


def _add_paths(root: Node, found: Conversations, column: str, *, best: bool) -> None:
    _drop_unanswered(root, found)
    waiting: list[tuple[Node, ...]] = [(root,)] if root.replies or not root.is_question else []
    found.unanswered += not waiting
    while waiting:
        path = waiting.pop()
        last = path[-1]
        # Reversed, since the last one waiting is taken first: the best reply's path comes first.
        waiting += [(*path, reply) for reply in reversed(last.replies[:1] if best else last.replies)]
        if not last.replies:
            found.rows.append((last.place, {**last.row, column: list(_messages(path))}))


def _drop_unanswered(root: Node, found: Conversations) -> None:
    """Remove the questions that end a path, and questions before them without another reply."""
    for node in reversed([root, *_below(root)]):
        kept = [reply for reply in node.replies if reply.replies or not reply.is_question]
        found.unanswered += len(node.replies) - len(kept)
        node.replies = kept


def _messages(path: Iterable[Node]) -> Iterator[dict[str, Any]]:
    for node in path:
        yield {**node.message, "train": False} if node.is_trained else node.message
        node.is_trained = node.is_answer


def _flat(rows: Iterable[tuple[int, Any]], tree: Mapping[str, str], found: Conversations) -> list[Node]:
    """Link messages that are rows into trees, and return the first message of each."""
    nodes: dict[str, Node] = {}
    parents: dict[str, str | None] = {}
    for place, row in rows:
        try:
            name, parent, node = _named(place, row, tree)
            if name in nodes:
                raise BadRow(f"tree: an earlier row has the same {tree['id']}")
        except BadRow as reason:
            found.rejected.append((place, str(reason)))
        else:
            nodes[name], parents[name] = node, parent
    for name, parent in parents.items():
        if parent in nodes:
            nodes[parent].replies.append(nodes[name])
    roots = [nodes[name] for name, parent in parents.items() if parent is None]
    for name, parent in parents.items():
        if parent is not None and parent not in nodes:
            found.rejected.append((nodes[name].place, f'tree: its parent "{shown(parent)}" is not in the file'))
            hanging = "tree: it hangs on a row whose parent is not in the file"
            found.rejected += [(node.place, hanging) for node in _below(nodes[name])]
    _reject_circles(nodes, roots, found)
    for node in nodes.values():
        node.replies.sort(key=lambda reply: reply.rank)
    return roots


def _reject_circles(nodes: Mapping[str, Node], roots: Iterable[Node], found: Conversations) -> None:
    known = {place for place, _ in found.rejected} | {node.place for root in roots for node in (root, *_below(root))}
    circles = [node.place for node in nodes.values() if node.place not in known]
    found.rejected += [(place, "tree: its parents lead in a circle") for place in circles]


def _below(node: Node) -> Iterator[Node]:
    """Yield all messages below one, each after its parent; in a circle each comes once."""
    waiting, met = list(node.replies), {id(node)}
    while waiting:
        one = waiting.pop()
        if id(one) not in met:
            met.add(id(one))
            waiting += one.replies
            yield one


def _named(place: int, row: Any, tree: Mapping[str, str]) -> tuple[str, str | None, Node]:
    if isinstance(row, BadRow):
        raise row
    if not isinstance(row, dict):
        raise BadRow(_NOT_AN_OBJECT)
    name, parent = _id(row, tree["id"]), _id(row, tree["parent"])
    if name is None:
        raise BadRow(f"tree: the row has no {tree['id']}")
    return name, parent, _node(place, row, row, tree)


def _id(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise BadRow(f"tree: {key} is no text")
    return value or None


def _nested(rows: Iterable[tuple[int, Any]], tree: Mapping[str, str], found: Conversations) -> Iterator[Node]:
    """Yield the first message of each row's tree."""
    for place, row in rows:
        try:
            if isinstance(row, BadRow):
                raise row
            root = once(row, "tree").get(tree["root"]) if isinstance(row, dict) else None
            yield _grown(root, place, row, tree)
        except BadRow as reason:
            found.rejected.append((place, str(reason)))


def _grown(value: Any, place: int, row: Mapping[str, Any], tree: Mapping[str, str]) -> Node:
    """Build a message and all replies below it; recursion is safe, since brackets of a row nest at most NESTING
    deep."""
    node, key = _node(place, row, value, tree), tree["replies"]
    replies = value.get(key)
    if replies is not None and not isinstance(replies, list):
        raise BadRow(f"tree: {key} is no list")
    node.replies = sorted((_grown(reply, place, row, tree) for reply in replies or ()), key=lambda reply: reply.rank)
    return node


def _node(place: int, row: Mapping[str, Any], value: Any, tree: Mapping[str, str]) -> Node:
    if not isinstance(value, dict):
        raise BadRow("tree: a message that is not an object")
    once(value, "tree")
    role = value.get(tree["role"])
    message = {"role": _ROLES.get(role, role) if isinstance(role, str) else role, "content": value.get(tree["text"])}
    return Node(place, row, message, _rank(value.get(tree["rank"]), tree["rank"]))


def _rank(value: Any, key: str) -> float:
    """Convert a rank, a number or a text that spells one; a message without one sorts after the ranked ones.

    Raises: BadRow for anything else, which would put a ranked message behind all others.
    """
    if value is None or value == "":
        return math.inf
    spelt = value.spelling if isinstance(value, Unlike) else value
    try:
        number = float(spelt) if isinstance(spelt, str) else None
    except ValueError:
        number = None
    if number is None or math.isinf(number):
        raise BadRow(f"tree: {key} is no number")
    # What pandas wrote for a missing value.
    return math.inf if math.isnan(number) else number
