"""Chat templates of public projects, each built from and verified, with transformers as the oracle.

    python -m tests.campaign templates --json F
    python -m tests.campaign templates --templates DIR --json F

Of every example the ids before each trained answer are held against what `apply_chat_template` gives for the messages
before it, and what is trained against what it prints of the answer.
"""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
import polars as pl

from orca_recipes.errors import OrcaError
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.run.build import build
from orca_recipes.shards.records import ALL_TURNS
from orca_recipes.shards.show.show_lines import example_lines
from tests.campaign.dialogues import dialogues
from tests.campaign.template_sources import Gathered, gathered
from tests.run.small import QUICKSTART_TOKENIZER, asked, write_rows
from tests.run.whole_rows import RECIPE, catalogue

_EMPTY = re.compile(r"(<think>|<\|START_THINKING\|>)?\s*(</think>|<\|END_THINKING\|>)\s*\Z")
_VARIABLE = re.compile(r"set variables = \{ (\w+) = (\S+) \}")
_SWITCHES: Sequence[tuple[str, bool | str]] = (
    ("enable_thinking", False),
    ("thinking", False),
    ("reasoning_effort", "no_think"),
)
_OPENED = re.compile(r"<think>\s*\Z")


@dataclass
class Verdict:
    """What became of one template."""

    name: str
    state: str = "refused"
    reason: str | None = None
    rows: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    prompts: int = 0
    prompts_equal: int = 0
    masks_equal: int = 0
    second_opinion: dict[str, int] | None = None
    terminator: str | None = None
    fast_rows: int = 0
    slow_rows: int = 0
    differing: list[str] = field(default_factory=list)


@click.command()
@click.option("--templates", type=click.Path(path_type=Path, exists=True), help="a folder of NAME.jinja [NAME.json]")
@click.option("--only", help="the templates whose names hold this text")
@click.option("--json", "json_to", type=click.Path(path_type=Path), help="write the verdicts here")
def templates(templates: Path | None, only: str | None, json_to: Path | None) -> None:
    """Build and verify from chat templates of public projects."""
    verdicts = []
    for one in gathered(templates):
        if only is None or only in one.name:
            verdicts.append(judged(one))
            click.echo(_line(verdicts[-1]))
            # What rows with thoughts are refused for names the variable that their template wants: once more with it.
            if found := next(filter(None, map(_VARIABLE.search, verdicts[-1].rejected)), None):
                verdicts.append(judged(one, {found[1]: json.loads(found[2])}))
                click.echo(_line(verdicts[-1]))
    built = [verdict for verdict in verdicts if verdict.state == "built"]
    sums = {name: sum(getattr(one, name) for one in built) for name in ("prompts", "prompts_equal", "masks_equal")}
    click.echo(f"{len(built)} of {len(verdicts)} built and verified; {sums}")
    if json_to is not None:
        json_to.write_text(json.dumps({"templates": [asdict(one) for one in verdicts]}, indent=1), encoding="utf-8")


def judged(template: Gathered, variables: Mapping[str, Any] = MappingProxyType({})) -> Verdict:
    """Build a template's tokenizer and dialogues, verify the build, and hold its examples against transformers."""
    verdict = Verdict(" ".join([template.name, *(f"{name}={value}" for name, value in variables.items())]))
    rows = list(dialogues())
    verdict.rows = len(rows)
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        write_tokenizer(folder, template)
        write_rows(folder / "chats.jsonl", rows)
        options = 'date = "2024-07-26"' if "strftime_now" in template.text else ""
        given = ", ".join(f"{name} = {json.dumps(value)}" for name, value in variables.items())
        options += f"\nvariables = {{ {given} }}" if variables else ""
        (folder / "whole.toml").write_text(RECIPE.replace("OPTIONS", options), encoding="utf-8")
        try:
            built, _ = build(asked(folder / "whole.toml", catalogue=catalogue()), Progress())
        except OrcaError as fault:
            verdict.reason = str(fault)
            return verdict
        report = prove(folder / "out", kinds=catalogue(), progress=Progress())
        if not report.is_sound:
            verdict.reason = f"not sound: {report.findings[0].sentence}"
            return verdict
        verdict.state = "built"
        lost: Counter[str] = Counter()
        for stage in built.datasets["main"].stages:
            lost.update(stage.rejected)
        verdict.rejected = dict(lost)
        _compare(Oracle(folder / "out", template, variables), folder / "out", rows, verdict)
        _count_ways(folder / "out", verdict)
    return verdict


def _line(one: Verdict) -> str:
    if one.state == "refused":
        return f"{one.name}: refused: {(one.reason or '')[:200]}"
    counts = f"{one.prompts_equal} of {one.prompts} prompts, {one.masks_equal} masks"
    return f"{one.name}: {counts}, {sum(one.rejected.values())} of {one.rows} rows rejected, ends {one.terminator}"


def write_tokenizer(folder: Path, template: Gathered) -> None:
    """A tokenizer with the control tokens that a template prints."""
    (folder / "tokenizer").mkdir()
    table = json.loads(QUICKSTART_TOKENIZER.read_text(encoding="utf-8"))
    known = {token["content"] for token in table["added_tokens"]}
    size = max([*table["model"]["vocab"].values(), *(token["id"] for token in table["added_tokens"])]) + 1
    named = [text for text in (template.bos, template.eos) if text is not None]
    for text in dict.fromkeys([*template.control, *named]):
        if text not in known and text not in table["model"]["vocab"]:
            flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            table["added_tokens"].append({"id": size, "content": text, "special": True, **flags})
            size += 1
    (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps(table), encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": template.eos, "chat_template": template.text}
    config |= {"bos_token": template.bos} if template.bos is not None else {}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


class Oracle:
    """transformers, with the template as its project wrote it; with its clock pinned where it has one."""

    def __init__(self, build: Path, template: Gathered, variables: Mapping[str, Any] = MappingProxyType({})) -> None:
        from transformers import PreTrainedTokenizerFast

        self.variables = variables
        load: Any = PreTrainedTokenizerFast
        names = {"eos_token": template.eos, **({"bos_token": template.bos} if template.bos is not None else {})}
        self.tokenizer = load(tokenizer_file=str(build / "tokenizer" / "tokenizer.json"), **names)
        pinned = (build / "tokenizer" / "chat_template.jinja").read_text(encoding="utf-8")
        self.tokenizer.chat_template = pinned if "strftime_now" in template.text else template.text
        keys = ("reasoning_content", "thinking", "reasoning")
        self.control = set(self.tokenizer.all_special_tokens) | set(template.control)
        self._wanted = self._wants()
        self._key = next((key for key in keys if re.search(rf"""[.'"]{key}\b""", template.text)), None)

    def text(self, row: Mapping[str, Any], stop: int, *, asked: bool, **variables: Any) -> str:
        """What inference is given of the messages before `stop`, "" where the template refuses them."""
        told = [self._told(message) for message in row["messages"][:stop]]
        return self._rendered(told, row.get("tools"), asked=asked, **variables)

    def _rendered(self, told: Sequence[Mapping[str, Any]], tools: Any, *, asked: bool, **variables: Any) -> str:
        given = {**self.variables, **variables}
        try:
            text = self.tokenizer.apply_chat_template(
                told, tools=tools, add_generation_prompt=asked, tokenize=False, **given
            )
        except Exception:  # whatever a template's expressions raise
            return ""
        return str(text)

    def _wants(self) -> dict[str, bool]:
        """Whether a template wants contents as parts, the arguments of calls as JSON text, and thoughts in contents.

        One that cuts thoughts out of contents is given none: servers part them from what is said.
        """
        dialogue = [{"role": "user", "content": "asked"}, {"role": "assistant", "content": "answered"}]
        call = next(row for row in dialogues() if any("tool_calls" in message for message in row["messages"]))
        told = self._rendered(call["messages"][:2], call["tools"], asked=False)
        thought = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nanswered"}
        parts = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in dialogue]
        thinks = {
            "role": "assistant",
            "content": "answered",
            "reasoning_content": "hm",
            "thinking": "hm",
            "reasoning": "hm",
        }
        bare = self._rendered(
            [*call["messages"][:1], {**call["messages"][1], "content": None}], call["tools"], asked=False
        )
        raw = self._rendered([dialogue[0], thought], None, asked=False)
        return {
            "null": "Oslo" in bare and ("Oslo" not in told or len(bare) < len(told)),
            "moved": raw.count("</think>") > 1 and "hm" in self._rendered([dialogue[0], thinks], None, asked=False),
            "parts": "answered" not in self._rendered(dialogue, None, asked=False)
            and "answered" in self._rendered(parts, None, asked=False),
            "inline": "hm" in raw,
            "text": "Oslo" not in told or "'city'" in told,
        }

    def marked(self, row: Mapping[str, Any], stop: int) -> tuple[list[int], list[int]] | None:
        """The ids of the messages before `stop`, and those of the last answer that the template marks as such."""
        if "{% generation" not in self.tokenizer.chat_template and "{%- generation" not in self.tokenizer.chat_template:
            return None
        told = [self._told(message) for message in row["messages"][:stop]]
        found = self.tokenizer.apply_chat_template(
            told, tools=row.get("tools"), return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask = list(found["input_ids"]), list(found["assistant_masks"])
        end = len(mask) - mask[::-1].index(1) if 1 in mask else 0
        start = end
        while start and mask[start - 1]:
            start -= 1
        return ids, ids[start:end]

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _told(self, message: Mapping[str, Any]) -> dict[str, Any]:
        told = dict(message)
        if self._wanted["moved"] and (told.get("content") or "").startswith("<think>"):
            thought, _, said = told["content"].partition("</think>")
            told |= {"reasoning_content": thought.removeprefix("<think>").strip("\n"), "content": said.lstrip("\n")}
        if self._wanted["null"] and "tool_calls" in told and not told["content"]:
            told["content"] = None
        if self._wanted["text"] and "tool_calls" in told:
            told["tool_calls"] = [
                {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
                for call in told["tool_calls"]
            ]
        if self._wanted["parts"]:
            told["content"] = [{"type": "text", "text": told["content"]}] if told["content"] else []
        if "reasoning_content" in told:
            thought = told.pop("reasoning_content")
            if self._key is None and self._wanted["inline"]:
                told["content"] = f"<think>\n{thought}\n</think>\n\n{told['content'] or ''}"
            elif self._key is not None:
                told[self._key] = thought
        return told


def _compare(oracle: Oracle, directory: Path, rows: Sequence[Mapping[str, Any]], verdict: Verdict) -> None:
    ends: Counter[str] = Counter()
    for example in example_lines(directory):
        row = rows[example["place"] - 1]
        ids: list[int] = []
        answers = [place for place, message in enumerate(row["messages"]) if message["role"] == "assistant"]
        last = len(answers) if example["turn"] == ALL_TURNS else example["turn"]
        spans = [segment for segment in example["segments"] if segment["trained"]]
        turn, text = last - len(spans), ""
        for segment in example["segments"]:
            if segment["trained"]:
                verdict.prompts += 1
                place = answers[turn]
                is_equal = _is_prompt(oracle, row, place, ids, text)
                verdict.prompts_equal += is_equal
                mask = _is_answer(oracle, row, place, text, segment["text"])
                verdict.masks_equal += mask
                if not (is_equal and mask):
                    verdict.differing.append(f"row {example['place']}, turn {turn + 1}: {segment['text'][:200]!r}")
                if (opinion := _second_opinion(oracle, row, place, segment["tokens"])) is not None:
                    verdict.second_opinion = verdict.second_opinion or {}
                    verdict.second_opinion[opinion] = verdict.second_opinion.get(opinion, 0) + 1
                ends[re.sub(r"^.*?((<[^<>]*>|\[[^\[\]]*\])?)$", r"\1", segment["text"], flags=re.DOTALL)] += 1
                turn += 1
            ids += segment["tokens"]
            text += segment["text"]
    verdict.terminator = ends.most_common(1)[0][0] if ends else None


def _count_ways(directory: Path, verdict: Verdict) -> None:
    """How many rows the table of joints rendered, and how many the template itself: their records keep what it had."""
    table = pl.read_parquet(directory / "main" / "00000.records.parquet")
    if "given" not in table.columns:
        table = table.with_columns(given=pl.lit(None, dtype=pl.String))
    ways = table.group_by("line").agg(pl.col("given").is_null().all())
    verdict.fast_rows = int(ways["given"].sum())
    verdict.slow_rows = ways.height - verdict.fast_rows


def _second_opinion(oracle: Oracle, row: Mapping[str, Any], place: int, trained: Sequence[int]) -> str | None:
    """How the project's own marks of answers, where its template has some, differ from what is trained of one."""
    told = oracle.marked(row, place + 1)
    if told is None:
        return None
    _, wanted = told
    if wanted == list(trained):
        return "equal"
    theirs, ours = (oracle.tokenizer.decode(list(one)).strip() for one in (wanted, trained))
    if theirs == ours:
        return "white space behind the end, too"
    if theirs.endswith(ours):
        return "the end of the prompt, too"
    if theirs.startswith(ours) and not _words(theirs.removeprefix(ours), oracle):
        return "the end of the conversation, too"
    before, found, after = ours.partition(theirs)
    if found and len(_words(before + after, oracle)) <= 1:
        return "not the end or the header beside it"
    _, closed, said = ours.rpartition("</think>")
    return "not the thought, which it leaves out of history" if closed and theirs.endswith(said.strip()) else "other"


def _is_prompt(oracle: Oracle, row: Mapping[str, Any], place: int, ids: Sequence[int], text: str) -> bool:
    """Whether ids are those of a prompt: as asked for, or with its thought closed, as servers send it."""
    asked = oracle.text(row, place, asked=True)
    if list(ids) == oracle.ids(asked):
        return True
    switched = [oracle.text(row, place, asked=True, **{name: off}) for name, off in _SWITCHES]
    if list(ids) in map(oracle.ids, switched):
        return not row["messages"][place].get("reasoning_content")
    closed = _EMPTY.search(text)
    if closed is None:
        return False
    is_beyond = text.startswith(asked) or _OPENED.sub("", asked) == text[: closed.start()]
    return is_beyond and list(ids) == oracle.ids(text)


def _is_answer(oracle: Oracle, row: Mapping[str, Any], place: int, prompt: str, answer: str) -> bool:
    """Whether an answer is what the template prints beyond its prompt, with an end."""
    whole = oracle.text(row, place + 1, asked=False)
    switched = [oracle.text(row, place + 1, asked=False, **{name: off}) for name, off in _SWITCHES]
    end = max((token for token in oracle.control if answer.endswith(token)), key=len, default=None)
    if end is None:
        return False
    if any(text.startswith(prompt + answer) for text in (whole, *switched)):
        return True
    body = answer.removesuffix(end)
    if whole.rstrip() == (prompt + body).rstrip():
        return True
    # Which thoughts stand before the last question is the prompt's to decide.
    question = (row["messages"][place - 1].get("content") or "").strip() if place else ""
    if question and prompt.rpartition(question)[2] + answer == whole.rpartition(question)[2].rstrip():
        return True
    # Some templates drop what was thought, or the system message, as soon as an answer follows: without them it is as
    # inference has it.
    for without in ((), ("system",)):
        told = [message for message in row["messages"][:place] if message["role"] not in without]
        less = {**row, "messages": [*map(_without_thought, told), *row["messages"][place:]]}
        prompt_of_less = oracle.text(less, len(told), asked=True)
        if prompt_of_less and oracle.text(less, len(told) + 1, asked=False).startswith(prompt_of_less + answer):
            return True
    message = row["messages"][place]
    thought, opened = message.get("reasoning_content") or "", _OPENED.search(prompt)
    if "</think>" in (message.get("content") or "") and opened:
        thought = message["content"].split("</think>")[0].split("<think>")[-1].strip("\n")
    if opened and thought and answer.startswith(thought):
        _, _, said = answer.partition("</think>")
        return whole.startswith(prompt[: opened.start()]) and said.strip() in whole
    # The prompt ends in words of its own, which no history has: the answer stands right behind what both begin with.
    before, found, after = whole.rpartition(body.rstrip())
    # Or history has the prompt's words with other white space between them.
    if found and not after.replace(end, "").strip() and "".join(before.split()) == "".join(prompt.split()):
        return True
    begun = re.sub(r"(<think>)?\s*</think>\n*\Z", "", before)
    is_last = not after.replace(end, "").strip() or not oracle.control.isdisjoint(_controls(after, oracle))
    return bool(found) and is_last and (prompt.startswith(before.rstrip()) or prompt.startswith(begun))


def _without_thought(message: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: value for key, value in message.items() if key != "reasoning_content"}
    if message["role"] == "assistant" and "</think>" in (message.get("content") or ""):
        told["content"] = message["content"].split("</think>")[-1].strip()
    return told


def _words(text: str, oracle: Oracle) -> list[str]:
    for token in oracle.control:
        text = text.replace(token, " ")
    return text.split()


def _controls(text: str, oracle: Oracle) -> set[str]:
    return {token for token in oracle.control if text.lstrip().startswith(token)}
