"""Verb `converse`: examples become the conversations that the student is trained on.

The first rule that matches gives an example its strategy and its system message; the teacher answers what the
strategy asks; the student is shown what the strategy teaches of it; filters see both. Asking and teaching are apart,
so that answers can be bought between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orca_recipes.contract.frames import (
    answers_schema,
    completed_messages,
    examples_schema,
    messages_type,
    repeated,
    stored_conversations_schema,
)
from orca_recipes.contract.messages import untrained
from orca_recipes.contract.quotes import quoting
from orca_recipes.contract.spelling import quoted
from orca_recipes.counted import counted
from orca_recipes.errors import RuleError
from orca_recipes.run.conversations.alike_rules import alike_rules, examples_of, headed_by_rule
from orca_recipes.run.conversations.beside_answers import answer_columns
from orca_recipes.run.conversations.chats import asked_by_question, brings_system, is_chat, with_history, without_answer
from orca_recipes.run.conversations.course import ConverseTask, Course, asked_schema, batches, selected_examples
from orca_recipes.run.conversations.judging import judged
from orca_recipes.run.conversations.made_before import (
    MADE_OF,
    RETOLD,
    MadeBefore,
    alike_stages,
    let_go,
    made_before,
    made_of,
    retold,
)
from orca_recipes.run.conversations.matching_rule import UNMATCHED, BoundRule, first_matching, keeps_own_answer
from orca_recipes.run.conversations.refused_rows import refused_rows
from orca_recipes.run.conversations.rejections import all_rejections, only, rejections
from orca_recipes.run.conversations.shots import with_shots
from orca_recipes.run.conversations.teaching import taught, taught_schema
from orca_recipes.run.examples.drawn_account import account_of_drawing
from orca_recipes.run.work.account import count_reasons
from orca_recipes.run.work.bench import Bench
from orca_recipes.run.work.blame import of_kind, placed, unsound
from orca_recipes.store.arrow_files import write_frame, write_table
from orca_recipes.store.made_conversations import ASKED, BESIDE, MADE, write_made, write_passed
from orca_recipes.store.narrow_tables import narrow
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl

_NOTHING_TO_ASK = "it lacks what the strategy asks with"
_ASKS_QUESTIONS = "the row's conversation leaves no user's turn to answer, and the strategy asks with a question"
_TASKS_SHOWN = 5
_STAGES_COMPARED = 4
"""Earlier stages whose conversations are compared with those that are made: the newest."""


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `converse` of a dataset's collection."""
    dataset, _, collection = subject.partition("/")
    read, mix = bench.folder(f"read {collection}"), bench.mixed(dataset, collection)
    stage = bench.plan[f"converse {subject}"]
    earlier, of = bench.store.earlier(stage), made_of(bench.plan, stage)
    alike, earlier = alike_stages(earlier, of)[:_STAGES_COMPARED], earlier[:_STAGES_COMPARED]
    # Else `clean` could remove the earlier stages between the look and the taking over.
    bench.store.hold([*alike, *earlier], bench.progress.say)
    tasks = [
        replace(
            task,
            earlier=tuple(stage.path / f"{task.name}{MADE}" for stage in earlier),
            alike=tuple(stage.path for stage in alike),
        )
        for task in batches(bench, folder, dataset, collection)
    ]
    sizes = [int(task.selected.sum()) for task in tasks]
    taken = bench.map_parts(folder, f"converse {dataset}/{collection}", converse_part, tasks, sizes, "examples")
    bench.found[stage.name] += sum(taken)
    before = account_of_drawing(read, mix)
    names = [task.name for task in tasks]
    bench.finish_counted(folder, names, "converse", "conversation", before, {MADE_OF: of})


def converse_part(task: ConverseTask) -> int:
    """Make, filter and store the conversations of one batch; return how many that stay were taken over as
    they had been made."""
    writer = PartWriter(task.folder, task.name)
    before = made_before(task, writer)
    made = _made(task) if before is None else before
    found = judged(made.conversations, task.course)
    digests = made.digests
    if digests and found.conversations is not made.conversations:
        let_go(writer)
        digests = {}
    if not digests:
        stored = found.conversations.select(list(stored_conversations_schema()))
        write_made(writer, narrow(stored.rechunk().to_arrow()), task.earlier)
        write_asked(writer, made.conversations)
    suffixes, told = write_passed(writer, found.rows, made.conversations.height)
    suffixes += [BESIDE] if task.course.compares else []
    lost = all_rejections([made.rejected, *found.rejected])
    write_frame(writer.path(".rejected.arrow"), lost)
    report = {
        "in": made.asked,
        "out": len(found.rows),
        "rejected": count_reasons(lost["reason"]),
        "created": {"expand": made.expanded} if made.expanded else {},
        "echoes": made.echoes,
        **({} if made.told is None else {RETOLD: dict(made.told)}),
        **({"untrained": found.untrained} if found.untrained else {}),
        **told,
    }
    writer.keep([MADE, *suffixes, ".rejected.arrow"], report, digests)
    return 0 if before is None else len(found.rows)


def _made(task: ConverseTask) -> MadeBefore:
    """Make the conversations of a batch, before filters."""
    examples = selected_examples(task)
    conversations, rejected, expanded = conversed(examples, task.course)
    return MadeBefore(
        conversations=conversations,
        rejected=all_rejections(rejected),
        asked=examples.height,
        expanded=expanded,
        echoes=count_echoes(conversations),
        told=retold(conversations),
        digests={},
    )


def write_asked(writer: PartWriter, conversations: pl.DataFrame) -> list[str]:
    """Write what the rows of conversations ask, where these are compared; return the file's suffix."""
    if ASKED[0] not in conversations.columns:
        return []
    write_frame(writer.path(BESIDE), conversations.select(ASKED))
    return [BESIDE]


def keep_part(
    writer: PartWriter,
    taken: int,
    made: pl.DataFrame,
    rejected: Sequence[pl.DataFrame],
    *,
    twins: pl.DataFrame | None = None,
    beside: Sequence[str] = (),
    **facts: Any,
) -> None:
    """Store a part: what was made of so many rows taken in, and what was rejected; facts go into its report.

    Args:
        twins: rejections that name a twin. beside: suffixes of files that the part holds already.
    """
    import polars as pl

    out = all_rejections(rejected)
    if twins is not None:
        # Only comparisons name a twin: other rejections have no such columns.
        out = pl.concat([out, twins], how="diagonal")
    write_table(writer.path(".arrow"), narrow(made.rechunk().to_arrow()))
    write_frame(writer.path(".rejected.arrow"), out)
    report = {"in": taken, "out": made.height, "rejected": count_reasons(out["reason"]), **facts}
    writer.keep([".arrow", ".rejected.arrow", *beside], report)


def ask(examples: pl.DataFrame, course: Course) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Make the requests to the teacher, rule by rule.

    Args:
        examples: columns of `frames.EXAMPLES`.
    Returns: the examples that are asked, with the columns rule (place in the course), message_id (the system message
        drawn, "" for none) and request (`frames.MESSAGES`, null where nobody looks at it), and `system` as drawn; and
        the rejections. Where a rule expands, there are more examples than came in.
    Raises: RuleError where no rule is for an example.
    """
    import polars as pl

    rule_of = first_matching(examples, [rule.when for rule in course.rules], course.counter)
    if (rule_of == UNMATCHED).any():
        raise _unmatched(examples.filter(pl.Series(rule_of == UNMATCHED)), course)
    asked, rejected = [], []
    for numbers in alike_rules(course.rules):
        rule = course.rules[numbers.start]
        group = examples_of(examples, rule_of, numbers)
        # A strategy of a plugin may not know an empty frame, and most batches meet few of the rules.
        if group.height:
            stage = f"strategy {rule.strategy_name}"
            refused = refused_rows(group, rule)
            rejected.append(rejections(group, refused, stage))
            able = only(group, refused.is_null())
            if not able.height:
                continue
            made = _asked(able, rule, course)
            rejected.append(rejections(made, made["lacks"], stage))
            asked.append(only(made, made["lacks"].is_null()).drop("lacks"))
    return _stacked(asked, asked_schema()), rejected


def teach(asked: pl.DataFrame, answers: pl.DataFrame, course: Course) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Make conversations of answers.

    Args:
        asked: what `ask` returned.
        answers: columns of `frames.ANSWERS`, in the same order, with those of `frames.BESIDE_ANSWER` that are there.
    Returns: columns of `frames.CONVERSATIONS`, and the rejections.
    Raises: PluginError where a strategy erases more than the prompt.
    """
    answers = answer_columns(answers, course.teacher.left_out())
    reasons = answers["reason"]
    rejected = [rejections(asked, reasons, f"teacher {course.teacher_name}")]
    answered = reasons.is_null()
    # Strategies see answered rows alone, so that none has to think of a null.
    asked, answers = only(asked, answered), only(answers, answered)
    made = []
    for numbers in alike_rules(course.rules):
        rule = course.rules[numbers.start]
        of_rules = asked["rule"].is_between(numbers.start, numbers.stop, closed="left")
        if of_rules.any():
            mine, given = only(asked, of_rules), only(answers, of_rules)
            unanswered = without_answer(mine, given["answer"], rule)
            rejected.append(rejections(mine, unanswered, f"teacher {course.teacher_name}"))
            there = unanswered.is_null()
            made.append(taught(only(mine, there), only(given, there), rule, course))
    return _stacked(made, taught_schema(course)), rejected


def conversed(examples: pl.DataFrame, course: Course) -> tuple[pl.DataFrame, list[pl.DataFrame], int]:
    """Make the conversations of examples whose teacher answers at once, before filters. Return also the rejections, and
    how many more examples were asked than came in."""
    asked, refused = ask(examples, course)
    expanded = asked.height + sum(frame.height for frame in refused) - examples.height
    answers = _answers(asked, course)
    conversations, unanswered = teach(asked, answers, course)
    return conversations, refused + unanswered, expanded


def count_echoes(conversations: pl.DataFrame) -> int:
    """Count the answers that quote the teacher's instructions."""
    return int(quoting(conversations["answer"], conversations["instruction"]).sum())


def _answers(asked: pl.DataFrame, course: Course) -> pl.DataFrame:
    """Get the teacher's answers; null for rows that keep their own answer, unless the teacher gives those itself."""
    import polars as pl

    examples, requests = asked.select(list(examples_schema())), asked["request"]
    with of_kind(course.teacher):
        if course.prepared is None:
            answers = course.teacher.answer(examples=examples, requests=requests, seed=course.seed)
        else:
            answers = course.teacher.answer_prepared(
                folder=course.prepared, examples=examples, requests=requests, seed=course.seed
            )
        if answers.height != examples.height or not {*answers_schema()} <= {*answers.columns}:
            told = f"{counted(answers.height, 'row')} of {', '.join(answers.columns) or 'no column'}"
            raise unsound(course.teacher, f"answers {counted(examples.height, 'example')} by {told}")
    own = keeps_own_answer(asked, course.rules)
    if course.teacher.gives_own_words or not own.any():
        return answers
    return answers.with_columns(pl.when(pl.lit(~own)).then(name).alias(name) for name in answers.columns)


def _asked(examples: pl.DataFrame, rule: BoundRule, course: Course) -> pl.DataFrame:
    """Give the examples of rules that are alike their system message and request; column `lacks` holds why some cannot
    be asked.

    Args:
        examples: what `examples_of` returns, perhaps less. rule: one of the rules.
    """
    import polars as pl

    if rule.replace:
        examples = examples.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in ("system", "answer"))
    examples, open_to_words = _open_to_words(examples, rule)
    examples = headed_by_rule(examples, course.rules, seed=course.seed, open_to_words=open_to_words)
    wanted = rule.strategy.shots()
    questions = (asked_by_question(examples, rule)[0] if wanted[1] else examples)["question"]
    examples = with_shots(examples, questions, wanted, course.shots, seed=course.seed)
    able = examples["lacks"].is_null()
    # Rows that bring a whole conversation fail for another reason than rows that lack a column, and are told so.
    talks = examples["messages"].is_not_null() & examples["question"].is_null()
    requests = repeated(None, messages_type(), examples.height)
    if course.teacher.reads_requests or course.erase:
        requests = _requests(examples, able, rule)
        able &= requests.is_not_null()
    elif not rule.strategy.asks_conversations and talks.any():
        able &= ~talks | _requests(examples, able & talks, rule).is_not_null()
    lacks = pl.when(pl.lit(talks)).then(pl.lit(_ASKS_QUESTIONS)).otherwise(pl.lit(_NOTHING_TO_ASK))
    return examples.select(
        *examples_schema(),
        "message_id",
        "rule",
        requests.alias("request"),
        pl.when(able).then(None).otherwise(pl.coalesce("lacks", lacks)).alias("lacks"),
    )


def _open_to_words(examples: pl.DataFrame, rule: BoundRule) -> tuple[pl.DataFrame, pl.Series]:
    """Return the examples, and those of their conversations that take a system message of the rule: the ones that bring
    none; if the rule replaces, all, without the one they bring."""
    import polars as pl

    brought, asks = brings_system(examples), rule.strategy.asks_conversations
    chats = examples["messages"].is_not_null() if asks else is_chat(examples, rule)
    if asks and rule.replace and rule.messages and brought.any():
        bare = pl.when(pl.lit(brought)).then(pl.col("messages").list.slice(1)).otherwise("messages")
        examples = examples.with_columns(bare.alias("messages"))
    return examples, chats & (rule.replace | ~brought)


def _requests(examples: pl.DataFrame, able: pl.Series, rule: BoundRule) -> pl.Series:
    """Make the strategy's requests, null for examples not to be asked."""
    import polars as pl

    if able.all():
        return _asked_of(examples, rule)
    asked = _asked_of(examples.filter(able), rule)
    # Requests are made of those that can be asked alone, and put back to their places: the others stay null.
    places = pl.select(pl.when(able).then(able.cum_sum() - 1)).to_series()
    return asked.gather(places)


def _asked_of(examples: pl.DataFrame, rule: BoundRule) -> pl.Series:
    asked, history = asked_by_question(examples.select(list(examples_schema())), rule)
    with placed(f"strategies.{rule.strategy_name}"), of_kind(rule.strategy):
        told = completed_messages(rule.strategy.ask(examples=asked))
        if len(told) != asked.height:
            raise unsound(rule.strategy, f"asks {counted(len(told), 'request')} for {counted(asked.height, 'example')}")
        return with_history(told, untrained(history))


def _unmatched(examples: pl.DataFrame, course: Course) -> RuleError:
    tasks = examples["task"].unique().sort()
    named = ", ".join(quoted(task) for task in tasks[:_TASKS_SHOWN]) + (" ..." if len(tasks) > _TASKS_SHOWN else "")
    return RuleError(
        f"rules: none is for some examples of collection {quoted(course.collection)}, of tasks {named}; add a rule for "
        'them, or one without `when` at the end, as in  [[rules]] strategy = "direct"  (`orca-recipe plan` counts them)'
    )


def _stacked(frames: Sequence[pl.DataFrame], schema: dict[str, Any]) -> pl.DataFrame:
    """Stack frames of a schema one under the other; a single one, as nearly always, stays as it is."""
    import polars as pl

    return frames[0] if len(frames) == 1 else pl.concat([pl.DataFrame(schema=schema), *frames])
