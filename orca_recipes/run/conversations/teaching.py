"""Training conversations, as the strategy teaches question and answer, with the prompt erased or whole.

Erasing sets the student's system message before the strategy teaches, so that a strategy never sees what it must not
repeat; that question and answer were left as they were is checked here, on every example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orca_recipes.contract.frames import completed, completed_messages, conversations_schema, examples_schema, repeated
from orca_recipes.contract.kinds import Strategy
from orca_recipes.contract.messages import ends_with_answer, last_answer, untrained, without_last_answer
from orca_recipes.contract.spelling import quoted
from orca_recipes.counted import counted
from orca_recipes.errors import PluginError
from orca_recipes.run.conversations.beside_answers import with_beside
from orca_recipes.run.conversations.chats import asked_by_question, with_history
from orca_recipes.run.conversations.matching_rule import BoundRule, keeps_own_answer
from orca_recipes.run.conversations.system_messages import drawn_texts
from orca_recipes.run.conversations.views import teacher_view, without_system
from orca_recipes.run.examples.row_texts import brought_systems, users_words
from orca_recipes.run.segments.less_training import less_trained
from orca_recipes.run.work.blame import of_kind, unsound
from orca_recipes.store.made_conversations import ASKED

if TYPE_CHECKING:
    import polars as pl

    from orca_recipes.run.conversations.course import Course


def taught(asked: pl.DataFrame, answers: pl.DataFrame, rule: BoundRule, course: Course) -> pl.DataFrame:
    """Make the conversations of one rule's examples: columns of `frames.CONVERSATIONS`.

    Args:
        asked: what `converse.ask` returned. answers: what `answer_columns` returns, in the same order, none rejected.
    Raises: PluginError where a strategy erases more than the prompt.
    """
    import polars as pl

    answer = answers["answer"]
    own = asked["answer"] if rule.strategy.keeps_own_words else asked["answer"].clear(asked.height)
    given = pl.select(pl.coalesce(own, answer)).to_series()
    examples, history = asked_by_question(asked.select(list(examples_schema())), rule)
    history = history if course.trains_history else untrained(history)
    messages = _as_taught(examples["messages"], given, rule, course)
    examples = examples.with_columns(messages.alias("messages"))
    system = repeated(None, pl.String, asked.height)
    if course.erase:
        system = drawn_texts(examples, course.student_messages, seed=course.seed, purpose="student system message")
        seen = examples.with_columns(system.alias("system"), without_system(examples["messages"]).alias("messages"))
        messages = plain = with_history(_taught_by(rule.strategy, seen, answer, whole=False), history)
        _refuse_altered(plain, examples, answer, rule)
    else:
        messages = plain = with_history(_taught_by(rule.strategy, examples, answer, whole=True), history)
        if course.teacher.reads_requests:
            plain = with_history(_taught_by(rule.strategy, examples, answer, whole=False), history)
    messages = with_beside(messages, answers, rule)
    view = teacher_view(asked["request"], plain, system)
    if rule.train_on is not None:
        messages = less_trained(messages, rule.train_on)
    conversations = asked.with_columns(
        pl.lit(rule.strategy_name).alias("strategy"),
        pl.col("message_id").alias("system_message"),
        _teacher(asked, course).alias("teacher"),
        (answers["finish_reason"] == "length").fill_null(False).alias("cut"),
        messages.alias("messages"),
        pl.lit(None if rule.train_on is None else rule.train_on.parts().told(), dtype=pl.String).alias("train_on"),
        pl.lit(view.told if course.erase else None, dtype=pl.String).alias("teacher_view"),
        _answer(given, asked["messages"]).alias("answer"),
        answers["finish_reason"],
        view.instruction.alias("instruction"),
    )
    if course.compares:
        conversations = conversations.hstack(_asked(asked))
    return completed(conversations, taught_schema(course))


def _taught_by(strategy: Strategy, examples: pl.DataFrame, answers: pl.Series, *, whole: bool) -> pl.Series:
    """Ask a strategy for what the student sees. Raises: PluginError where that is not a conversation an example."""
    with of_kind(strategy):
        made = (strategy.teach_whole if whole else strategy.teach)(examples=examples, answers=answers)
        if len(made) != examples.height:
            told = f"{counted(len(made), 'conversation')} of {counted(examples.height, 'example')}"
            raise unsound(strategy, f"teaches {told}")
        return completed_messages(made)


def taught_schema(course: Course) -> dict[str, Any]:
    """Return the columns that `taught` makes: `frames.CONVERSATIONS`, and ASKED where conversations are compared."""
    import polars as pl

    return {**conversations_schema(), **(dict.fromkeys(ASKED, pl.String) if course.compares else {})}


def _asked(asked: pl.DataFrame) -> pl.DataFrame:
    """Compute the columns ASKED: what each row asks before a strategy adds to it, and the system message it brings."""
    import polars as pl

    question = pl.coalesce(pl.lit(users_words(asked["messages"])), "question")
    system = pl.when(pl.col("message_id") == "").then(pl.lit(brought_systems(asked)))
    return asked.select(question.alias(ASKED[0]), system.alias(ASKED[1]))


def _as_taught(messages: pl.Series, given: pl.Series, rule: BoundRule, course: Course) -> pl.Series:
    """Return brought conversations as the strategy teaches them.

    One that gets an answer ends before it, and that answer alone is trained, unless the recipe trains all of them.

    Args:
        given: String [examples], the answer that each is to end with, null for none.
    """
    import polars as pl

    if messages.null_count() == len(messages):
        return messages
    gets = messages.is_not_null() & given.is_not_null()
    if course.teacher.gives_own_words or (rule.strategy.keeps_own_words and not rule.replace):
        gets &= ~ends_with_answer(messages)
    if not gets.any():
        return messages
    history = without_last_answer(messages)
    history = history if course.trains_history else untrained(history)
    return pl.select(pl.when(gets).then(history).otherwise(messages)).to_series()


def _teacher(asked: pl.DataFrame, course: Course) -> pl.Series:
    """Name the teacher of each answer; an empty text where a row keeps an answer that is not the teacher's."""
    import polars as pl

    names = repeated(course.teacher_name, pl.String, asked.height)
    if course.teacher.gives_own_words:
        return names
    own = keeps_own_answer(asked, course.rules)
    return pl.select(pl.when(own).then(pl.lit("")).otherwise(names)).to_series()


def _answer(given: pl.Series, messages: pl.Series) -> pl.Series:
    """Take the answer shown to filters: the given one, else the last one in the conversation."""
    import polars as pl

    if messages.null_count() == len(messages) or not (given.is_null() & messages.is_not_null()).any():
        return given
    return pl.select(pl.coalesce(given, last_answer(messages))).to_series()


def _refuse_altered(messages: pl.Series, examples: pl.DataFrame, answers: pl.Series, rule: BoundRule) -> None:
    """Refuse strategies that alter question or answer: erasing takes away what was asked beside, and nothing of
    them."""
    import polars as pl

    said = pl.element().struct
    last = {
        role: messages.list.eval(said.field("content").filter(said.field("role") == role)).list.last()
        for role in ("user", "assistant")
    }
    alone = examples["messages"].is_null()
    for role, allowed in (("user", [examples["question"]]), ("assistant", [answers, examples["answer"]])):
        kept = [(last[role] == text).fill_null(value=False) for text in allowed]
        if not (~alone | kept[0] | kept[-1]).all():
            what = "question" if role == "user" else "answer"
            raise PluginError(
                f"strategies.{rule.strategy_name}: kind {quoted(rule.strategy.kind)} changes the {what}, and erasing a "
                "prompt must not; tell its author, or do without erase = true"
            )
