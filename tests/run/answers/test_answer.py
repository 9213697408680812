"""Answers that are bought: once, whatever is edited, and never lost."""

import errno
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import polars as pl
import pytest

from orca_recipes.contract.answers import Collecting
from orca_recipes.errors import BudgetSpent, LockError, TeacherError, TraceError
from orca_recipes.explain.explain import explain_place
from orca_recipes.progress import Progress
from orca_recipes.run.build import build, made
from orca_recipes.run.publish import Publication
from orca_recipes.shards.checks.verify import verify
from orca_recipes.shards.manifest import Manifest
from orca_recipes.traces.sent_requests import SentRequests
from orca_recipes.traces.trace_segments import SegmentWriter
from orca_recipes.traces.trace_store import TraceStore
from tests.run.answers.bought import World
from tests.run.oracle import Oracle


def test_a_build_asks_every_question_once_and_trains_on_the_answers(world: World) -> None:
    counts = world.counts()
    assert (counts.stored, counts.asked, counts.rejected) == (0, 60, 0)
    assert len({question["key"] for question in world.questions}) == len(world.questions) == 60
    assert not verify(world.folder / "out").findings
    records = pl.read_parquet(world.folder / "out" / "main" / "00000.records.parquet")
    assert set(records["teacher"]) == {"oracle"}


def test_the_same_recipe_into_another_directory_asks_nothing_and_gives_the_same_bytes(world: World) -> None:
    first = world.build()
    again = world.build(store="other store", out="other")
    assert (again.made.answers["main"].stored, again.made.answers["main"].asked) == (60, 0)
    assert world.bytes_of() == world.bytes_of("other")
    assert (len(world.questions), first.digest) == (60, again.digest)


def test_what_a_teacher_refuses_is_rejected_with_its_reason_and_not_asked_again(world: World) -> None:
    world.edit('asked = "asked.jsonl"', 'asked = "asked.jsonl"\nrefuses = "What is 1"')
    counts = world.counts()
    assert counts.rejected == world.rejected().count("content filter") == 11
    assert world.counts(store="other store", out="again").asked == 0


def test_answers_of_a_run_before_this_one_are_kept_with_their_questions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that was left may be fetched before the questions of this run were looked through."""
    first = world.counts()
    with TraceStore(world.folder / "traces") as traces:
        left = list(traces.traces())

    async def collect(self: Oracle, collecting: Collecting) -> None:
        for trace in left:
            await collecting.keep(trace.answer)
        assert [request async for request in collecting.requests] == []

    monkeypatch.setattr(Oracle, "collect", collect)
    again = world.counts(store="other store", out="other", traces="other traces")
    assert (again.asked, again.stored) == (first.asked, first.stored) == (60, 0)
    with TraceStore(world.folder / "other traces") as traces:
        assert sorted(trace.question.key() for trace in traces.traces() if trace.question) == sorted(
            trace.answer.key for trace in left
        )


def test_an_answer_that_was_cut_is_rejected_kept_or_asked_again(world: World) -> None:
    world.edit('asked = "asked.jsonl"', 'asked = "asked.jsonl"\nmax_tokens = 12')
    counts = world.counts()
    cut = world.rejected().count("cut: the answer was not finished within max_tokens")
    assert 0 < cut == counts.rejected < 60
    kept = world.build('teachers.oracle.on_length="keep"', out="kept")
    assert (kept.made.answers["main"].asked, kept.datasets["main"].examples) == (0, 60)
    again = world.build('teachers.oracle.on_length="ask_again"', out="again")
    assert (again.made.answers["main"].asked, again.datasets["main"].examples) == (cut, 60)
    assert {question["max_tokens"] for question in world.questions[60:]} == {48}


def test_a_finished_answer_serves_any_limit_that_is_not_smaller_than_its_length(world: World) -> None:
    world.build()
    assert world.counts("teachers.oracle.max_tokens=30", out="b").asked == 0
    assert 0 < world.counts("teachers.oracle.max_tokens=12", out="c").asked < 60


def test_a_teacher_that_stops_loses_nothing_that_was_answered(world: World) -> None:
    with pytest.raises(TeacherError, match="the key is refused"):
        world.build("teachers.oracle.stops_after=20")
    assert world.counts().asked == 60 - len(world.questions[:20])
    assert len({question["key"] for question in world.questions}) == len(world.questions) == 60


def test_a_budget_stops_before_it_is_passed_and_stays_stopped(world: World) -> None:
    world.edit('asked = "asked.jsonl"', 'asked = "asked.jsonl"\nprices = { input = 1000.0, output = 1000.0 }')
    for _ in range(2):
        with pytest.raises(BudgetSpent, match=r"budget_usd = 0.5 is reached: 0\.\d\d USD are spent"):
            world.build("teachers.oracle.budget_usd=0.5")
    asked = len(world.questions)
    assert 0 < asked < 60
    counts = world.counts()
    assert counts.asked == 60 - asked
    assert float(counts.spent["sums"].usd or 0) > 0


def test_locked_builds_buy_nothing_and_say_what_is_missing(world: World) -> None:
    first = world.build()
    world.build(store="second store", out="second", locked=True)
    with pytest.raises(LockError, match=r"the trace store .* lacks 60 of the answers"):
        world.build(store="third store", out="third", locked=True, traces="nowhere")
    assert f'"{first.made.answers["main"].digest["sums"]}"' in (world.folder / "small.lock").read_text()


def test_other_answers_than_those_that_were_locked_are_told_before_anything_is_made_of_them(world: World) -> None:
    world.build()
    with TraceStore(world.folder / "traces") as traces, TraceStore(world.folder / "others") as others:
        others.append([replace(trace, answer=replace(trace.answer, text="Else.")) for trace in traces.traces()])
    with pytest.raises(LockError, match=r"answers to main/sums: the trace store .*others holds others than"):
        world.build(store="second store", out="second", locked=True, traces="others")
    assert not list((world.folder / "second store" / "stages").glob("converse-*"))


def test_best_of_keeps_the_first_answer_that_all_filters_keep(world: World) -> None:
    world.edit("[datasets.main]", '[datasets.main]\nfilters = [{ kind = "length", max_answer_chars = 40 }]')
    alone = world.build(out="alone")
    world.edit("[datasets.main]", "[datasets.main]\nbest_of = 4")
    manifest = world.build(out="best")
    counts = manifest.made.answers["main"]
    assert manifest.datasets["main"].examples > alone.datasets["main"].examples
    samples = Counter(question["sample"] for question in world.questions)
    assert [samples[number] for number in range(4)] == sorted(samples.values(), reverse=True)
    assert samples[0] == 60
    assert samples[1] == 60 - alone.datasets["main"].examples, "only where the first answer was refused"
    assert counts.asked == sum(samples.values()) - 60
    stages = {stage.name: stage for stage in manifest.datasets["main"].stages}
    assert stages["ask main/sums"].created == {"best of": 180}
    converse = stages["converse main/sums"]
    assert converse.taken == 240 == converse.out + sum(converse.rejected.values())
    assert converse.rejected["best of: an answer before it was kept"] > 0
    records = pl.read_parquet(world.folder / "best" / "main" / "00000.records.parquet")
    assert records["id"].n_unique() == records.height == manifest.datasets["main"].examples
    assert not verify(world.folder / "best").findings
    alone_kept = pl.read_parquet(world.folder / "alone" / "main" / "00000.records.parquet")
    assert set(alone_kept["id"]) < set(records["id"]), "a first answer that is kept stays the one that is kept"


def test_a_strategy_is_told_by_the_share_that_filters_keep_and_the_tokens_they_took(world: World) -> None:
    world.edit("[datasets.main]", '[datasets.main]\nfilters = [{ kind = "length", max_answer_chars = 40 }]')
    manifest = world.build()
    earned = manifest.made.answers["main"].strategies["direct"]
    assert earned.kept == manifest.datasets["main"].examples < earned.answers == 60
    assert earned.input_tokens == sum(len(each["messages"][-1][1].split()) for each in world.questions)


def test_two_builds_at_once_buy_each_answer_once(world: World) -> None:
    def run(number: int) -> Manifest:
        return build(asked[number], Progress())[0]

    asked = [world.asked(store=f"store {number}", out=f"out{number}") for number in range(2)]
    with ThreadPoolExecutor(2) as threads:
        made = list(threads.map(run, range(2)))
    assert len({question["key"] for question in world.questions}) == len(world.questions) == 60
    assert sum(each.made.answers["main"].asked for each in made) == 60
    assert world.bytes_of("out0") == world.bytes_of("out1")


def test_a_full_disk_stops_the_collection_in_a_sentence_and_keeps_what_it_has(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = SegmentWriter.append
    calls = []

    def full(self: SegmentWriter, lines: bytes) -> None:
        calls.append(1)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, lines)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentWriter, "append", full)
        with pytest.raises(TraceError, match=r"the trace store .* cannot be written: no space is left"):
            world.build()
    asked = len(world.questions)
    counts = world.counts()
    assert counts.stored > 0
    assert counts.asked == 60 - counts.stored
    assert asked < 60


def test_where_a_row_went_is_explained_for_answers_too(world: World) -> None:
    world.edit('asked = "asked.jsonl"', 'asked = "asked.jsonl"\nrefuses = "What is 1 +"')
    world.build()
    (story,) = explain_place(world.folder / "out", "sums.jsonl:2", store=world.folder / "store").stories
    (fate,) = story.fates
    assert (fate.stage, fate.reason) == ("teacher oracle", "content filter")


def test_explain_tells_the_trace_of_an_answer_and_what_is_not_known_of_it(world: World) -> None:
    world.edit(
        "[datasets.main]", '[datasets.main]\nbest_of = 2\nfilters = [{ kind = "length", max_answer_chars = 20 }]'
    )
    world.build()
    build, where = world.folder / "out", {"store": world.folder / "store", "traces": world.folder / "traces"}
    told = explain_place(build, "sums.jsonl:2", **where)
    for fate in told.stories[0].fates:
        assert fate.making
        first, second = fate.making.exchanges
        assert (first.sample, second.sample) == (0, 1)
        assert (first.model_asked, first.endpoint, first.input_tokens) == ("oracle-1", "head", 5)
        assert first.time.endswith("+00:00")
    assert "oracle-1 at head, 2" in str(told)
    gone = explain_place(build, "sums.jsonl:2", store=world.folder / "store", traces=world.folder / "none")
    assert "asked           unknown: there are no traces at" in str(gone)
    gone = explain_place(build, "sums.jsonl:2", store=world.folder / "none", traces=world.folder / "traces")
    assert "no longer holds what was asked" in str(gone)


def test_rejections_are_counted_by_collection_task_strategy_and_reason(world: World) -> None:
    world.edit('asked = "asked.jsonl"', 'asked = "asked.jsonl"\nrefuses = "What is 1 "')
    world.edit("[datasets.main]", '[datasets.main]\nfilters = [{ kind = "length", max_answer_chars = 40 }]')
    manifest = world.build()
    counts = manifest.made.answers["main"].rejections
    (refused,) = [each for each in counts if each.stage == "teacher oracle"]
    assert refused.model_dump() == {
        "collection": "sums",
        "task": "sum-1",
        "strategy": "direct",
        "stage": "teacher oracle",
        "reason": "content filter",
        "answers": 1,
    }
    (stage,) = [stage for stage in manifest.datasets["main"].stages if stage.name == "converse main/sums"]
    assert sum(each.answers for each in counts) == sum(stage.rejected.values())
    assert {each.task for each in counts if each.stage == "filter length"} == {"sum-0", "sum-1", "sum-2"}


def test_what_may_be_billed_twice_is_told_by_the_next_run_where_one_is_killed_after_collecting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.build(traces="other")
    key = bytes.fromhex(world.questions[0]["key"])
    with SentRequests(world.folder / "traces" / "sent") as sent:
        sent.begin(key, "oracle", once=False)

    def killed(_: Publication) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Publication, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            world.build(store="store anew", out="anew")
    asked = len(world.questions)
    told = [made(world.asked(store="store anew", out=out), Progress()).maybe_billed_twice for out in ("anew", "later")]
    assert told == [1, 0]
    assert len(world.questions) == asked
    assert not list((world.folder / "traces" / "sent").iterdir())
