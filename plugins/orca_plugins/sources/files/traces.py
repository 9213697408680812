"""Traces of verifiers: messages as a graph, in which each names the one before it. Each path from a first message to a
last one is a branch, and each branch a row, with the trace's own columns beside (`reward`, `stop_condition`, `branch`).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orca_plugins.sources.files.json_rows.strict_json import BadRow, Digits, Unlike, as_json, once
from orca_plugins.sources.files.turns.message_keys import ASSISTANT

Row = dict[str, Any]


def branches(
    rows: Iterable[tuple[int, Any]], graph: Mapping[str, str], *, column: str, rejected: list[tuple[int, str]]
) -> Iterator[tuple[int, Row | None]]:
    """Place and row of each branch, its messages at `column`; None for a trace without messages, or a row without
    traces.

    Args:
        graph: the keys of a shape: nodes, and of a node parent, message and sampled; traces, where a row holds several;
            rewards. rejected: takes the rows that cannot be read, and why.
    """
    for place, row in rows:
        try:
            yield from [(place, branch) for branch in _of_row(row, graph, column)]
        except BadRow as reason:
            rejected.append((place, str(reason)))


def _of_row(row: Any, graph: Mapping[str, str], column: str) -> Iterator[Row | None]:
    if isinstance(row, BadRow):
        raise row
    if not isinstance(row, dict):
        raise BadRow("a row that is not an object")
    once(row, "traces")
    if "traces" not in graph:
        yield from _of_trace(row, graph, column)
        return
    traces = row.get(graph["traces"])
    if not isinstance(traces, list):
        raise BadRow(f"traces: {graph['traces']} is no list")
    beside = {key: value for key, value in row.items() if key != graph["traces"]}
    if not traces:
        yield None
    for trace in traces:
        if not isinstance(trace, dict):
            raise BadRow("traces: a trace that is not an object")
        yield from _of_trace({**beside, **once(trace, "traces")}, graph, column)


def _of_trace(trace: Row, graph: Mapping[str, str], column: str) -> Iterator[Row | None]:
    nodes = once(trace, "traces").get(graph["nodes"])
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise BadRow(f"traces: {graph['nodes']} is no list of objects")
    if not nodes:
        yield None
    parents = [_parent(node.get(graph["parent"]), place) for place, node in enumerate(nodes)]
    reward = _reward(trace.get(graph["rewards"]))
    beside = {**trace, **({} if reward is None else {"reward": as_json(reward)})}
    trained: set[int] = set()
    leaves = [place for place in range(len(nodes)) if place not in {*parents}]
    for number, leaf in enumerate(leaves):
        messages = [_message(nodes[at], graph, at in trained) for at in _path(leaf, parents)]
        trained |= {*_path(leaf, parents)}
        answers = [at for at, message in enumerate(messages) if message.get("role") == ASSISTANT]
        if not answers:
            raise BadRow("traces: a branch without an answer")
        yield {**beside, "branch": as_json(number), column: messages[: answers[-1] + 1]}


def _path(leaf: int, parents: list[int | None]) -> list[int]:
    path: list[int] = []
    at: int | None = leaf
    while at is not None:
        path.append(at)
        at = parents[at]
    return path[::-1]


def _parent(value: Any, place: int) -> int | None:
    """Return the place of a node's parent, None for a first node; only an earlier node is allowed, so that no path is a
    circle."""
    if value is None:
        return None
    if not isinstance(value, Digits) or not 0 <= int(value) < place:
        raise BadRow(f"traces: the parent of node {place} is no earlier node")
    return int(value)


def _message(node: Row, graph: Mapping[str, str], is_trained: bool) -> Row:
    """Return a node's message; an answer not sampled in this run, or trained by an earlier branch, is not trained."""
    message = once(once(node, "traces").get(graph["message"]), "traces")
    if not isinstance(message, dict):
        raise BadRow("traces: a node without a message")
    is_context = is_trained or node.get(graph["sampled"]) is False
    return {**message, "train": False} if is_context and message.get("role") == ASSISTANT else message


def _reward(value: Any) -> float | None:
    """Sum all rewards, each times its weight, as verifiers itself does; None where there are none."""
    if not isinstance(value, dict):
        return None
    scores = [reward for reward in value.values() if isinstance(reward, dict)]
    return sum((_number(reward.get("score"), 0.0) * _number(reward.get("weight"), 1.0) for reward in scores), 0.0)


def _number(value: Any, unset: float) -> float:
    if isinstance(value, Digits):
        return float(value)
    return float(value.spelling) if isinstance(value, Unlike) and value.is_number else unset
