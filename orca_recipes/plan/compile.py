"""Recipe and pins become a plan, byte for byte the same anywhere.

Stages up to tokens are one for each dataset and collection, so that adding a collection reruns only its own; packing
joins them. What a stage does not depend on is not in its fingerprint: paths, engine, workers, host, time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from orca_recipes.contract.kinds import Kind
from orca_recipes.plan.comparisons import add_comparison, add_comparison_of_questions
from orca_recipes.plan.fingerprint import digest_of
from orca_recipes.plan.mixing import add_mixtures, is_kept_apart, questions_stage
from orca_recipes.plan.pins import Pins, SourcePin
from orca_recipes.plan.stages import REVISIONS, Plan, PlanBuilder
from orca_recipes.plan.used_parts import (
    collects,
    compares_questions,
    decisive,
    has_reserve,
    matching_rules,
    prepared_teachers,
    taken_collections,
    used_collections,
)
from orca_recipes.recipe.message_digests import text_digest
from orca_recipes.recipe.model import Dataset, Recipe
from orca_recipes.recipe.rules import Rule


def compile_plan(recipe: Recipe, pins: Pins, *, limit: int | None = None) -> Plan:
    """Compile the stages of a build.

    Args:
        limit: at most this many examples of each collection take the path (for trying a recipe).
    """
    plan = PlanBuilder(pins.plugins)
    student = add_student(plan, recipe, pins.tokenizer)
    for name in used_collections(recipe):
        source = recipe.collections[name]
        plan.add(
            "read",
            name,
            kind=f"sources:{source.kind}",
            decisive={"collection": name, "source": decisive(source), "pin": _pin(pins.collections[name])},
            kinds=(source,),
        )
    for name in prepared_teachers(recipe):
        _compile_teacher(plan, recipe, name)
    add_mixtures(plan, recipe, student, limit, measure=partial(_measure, plan, recipe, student))
    for name in recipe.datasets:
        _compile_dataset(plan, recipe, name, student)
    return plan.plan()


def add_student(plan: PlanBuilder, recipe: Recipe, tokenizer: SourcePin) -> tuple[str, str]:
    """Add the stages of tokenizer and template, which need no example: pinning runs them already."""
    first = plan.add(
        "tokenizer",
        "",
        kind=f"tokenizers:{recipe.tokenizer.kind}",
        decisive={"tokenizer": decisive(recipe.tokenizer), "pin": _pin(tokenizer)},
        kinds=(recipe.tokenizer,),
    )
    second = plan.add(
        "template",
        "",
        kind=f"templates:{recipe.template.kind}",
        decisive={"template": decisive(recipe.template)},
        inputs=(first,),
        kinds=(recipe.template,),
    )
    return first, second


def _compile_teacher(plan: PlanBuilder, recipe: Recipe, name: str) -> None:
    teacher = recipe.teachers[name]
    plan.add(
        "prepare",
        name,
        kind=f"teachers:{teacher.kind}",
        decisive={"teacher": decisive(teacher)},
        kinds=(teacher,),
        inputs=tuple(f"read {collection}" for collection in teacher.collections()),
    )


def _measure(plan: PlanBuilder, recipe: Recipe, student: tuple[str, str], dataset: str, collection: str) -> str:
    """Add the stage that counts the tokens of a dataset's conversations before any is drawn."""
    teacher = recipe.datasets[dataset].teacher
    told = (f"prepare {teacher}",) if teacher in prepared_teachers(recipe) else ()
    return plan.add(
        "measure",
        f"{dataset}/{collection}",
        kind=_converse_kinds(recipe, recipe.datasets[dataset], collection),
        decisive=_converse_decisive(recipe, dataset, collection)
        | _training(recipe.datasets[dataset])
        | {"revisions": [REVISIONS[verb] for verb in ("converse", "tokenize")]},
        inputs=(f"read {collection}", *told, *student),
        kinds=_conversing(recipe, recipe.datasets[dataset], collection),
    )


def course_seed(recipe: Recipe, dataset: str) -> int:
    """Return the seed of a dataset's draws of system messages and answers: the recipe's, unless it draws on its own."""
    if recipe.datasets[dataset].draw == "shared":
        return recipe.seed
    # 60 bits, so that the seed fits into an int64.
    return int(digest_of([recipe.seed, dataset])[:15], 16)


def add_answers(
    plan: PlanBuilder, recipe: Recipe, name: str, collection: str, inputs: tuple[str, ...]
) -> tuple[str, ...]:
    """Add the stages of a teacher that collects answers; they know neither filters nor the student's view.

    Except where a dataset asks for the best of several answers: there filters decide which further ones are used.
    Returns: the inputs of `converse`.
    """
    dataset, subject = recipe.datasets[name], f"{name}/{collection}"
    teacher = recipe.teachers[dataset.teacher]
    rules = matching_rules(recipe, collection)
    strategies = {f"strategies:{recipe.strategies[rule.strategy].kind}" for rule in rules}
    ask = plan.add(
        "ask",
        subject,
        kind=" ".join(sorted(strategies)),
        decisive={
            "rules": [rule_decisive(recipe, rule) for rule in rules],
            "sampling": dict(teacher.sampling()),
            "samples": dataset.best_of,
            "seed": course_seed(recipe, name),
        },
        inputs=inputs,
        kinds=_strategies(recipe, collection),
    )
    answer = plan.add(
        "answer",
        subject,
        kind=f"teachers:{teacher.kind}",
        decisive={"teacher": decisive(teacher)}
        | ({"judges": _converse_decisive(recipe, name, collection)} if dataset.best_of > 1 else {}),
        inputs=(ask,),
        kinds=_conversing(recipe, dataset, collection) if dataset.best_of > 1 else (teacher,),
    )
    return ask, answer


def _compile_dataset(plan: PlanBuilder, recipe: Recipe, name: str, student: tuple[str, str]) -> None:
    dataset = recipe.datasets[name]
    early = (add_comparison_of_questions(plan, recipe, name),) if compares_questions(recipe, name) else ()
    courses: dict[tuple[Any, ...], _Course] = {}
    converse = partial(_converse, plan, recipe, name, student, early, courses)
    tokenized = {**_training(dataset), **_fitting(recipe)}
    collections = taken_collections(recipe, name)
    compare = add_comparison(plan, recipe, name, tuple(map(converse, collections))) if dataset.comparisons else None
    tokens = []
    for collection in collections:
        subject = f"{name}/{collection}"
        conversations = converse(collection)
        if compare is not None:
            conversations = plan.add("sift", subject, kind="", decisive={}, inputs=(conversations, compare))
        if has_reserve(recipe, name, collection):
            mix = f"mix {dataset.mixture}/{collection}"
            conversations = plan.add("keep", subject, kind="", decisive={}, inputs=(mix, conversations))
        tokens.append(
            plan.add(
                "tokenize",
                subject,
                kind="",
                decisive=tokenized,
                inputs=(conversations, *student),
            )
        )
    pack = plan.add(
        "pack",
        name,
        kind=f"packers:{recipe.packing.kind}",
        decisive={**_packing(recipe), "shard_tokens": recipe.output.shard_tokens, "seed": recipe.seed},
        inputs=tuple(tokens),
        kinds=(recipe.packing,),
    )
    plan.add(
        "write",
        name,
        kind=f"writers:{recipe.output.kind}",
        decisive={"output": decisive(recipe.output)},
        inputs=(pack,),
        kinds=(recipe.output,),
    )


@dataclass(frozen=True)
class _Course:
    """What makes a dataset's conversations of a collection; most of thousands of collections share one.

    kind, decisive, kinds: of the stage. counts_with: the stage whose tokenizer counts questions, if a rule asks for
    that.
    """

    kind: str
    decisive: Mapping[str, Any]
    kinds: tuple[Kind, ...]
    counts_with: tuple[str, ...]


def _course(recipe: Recipe, name: str, student: tuple[str, str], collection: str) -> _Course:
    dataset = recipe.datasets[name]
    return _Course(
        _converse_kinds(recipe, dataset, collection),
        {
            **_converse_decisive(recipe, name, collection),
            **({"compared": "what rows ask"} if dataset.comparisons else {}),
        },
        _conversing(recipe, dataset, collection),
        _counts_with(recipe, collection, student),
    )


def _converse(
    plan: PlanBuilder,
    recipe: Recipe,
    name: str,
    student: tuple[str, str],
    early: tuple[str, ...],
    courses: dict[tuple[Any, ...], _Course],
    collection: str,
) -> str:
    """Add the stage of a collection's conversations, after the stages that buy its answers, if any.

    Args:
        early: the stage that compares questions, where one does.
        courses: those of collections before, by what tells collections apart.
    """
    dataset = recipe.datasets[name]
    mix = f"mix {dataset.mixture}/{collection}"
    told: tuple[str, ...] = (questions_stage(plan, collection),) if is_kept_apart(recipe, name) else ()
    told += (f"prepare {dataset.teacher}",) if dataset.teacher in prepared_teachers(recipe) else ()
    key = (recipe.collections[collection].trains_history(), *map(id, matching_rules(recipe, collection)))
    if key not in courses:
        courses[key] = _course(recipe, name, student, collection)
    course = courses[key]
    inputs = (f"read {collection}", mix, *told, *course.counts_with)
    if collects(recipe, name):
        inputs = add_answers(plan, recipe, name, collection, (*inputs, *early))
    return plan.add(
        "converse",
        f"{name}/{collection}",
        kind=course.kind,
        decisive=course.decisive,
        inputs=inputs,
        kinds=course.kinds,
    )


def conversations_stage(recipe: Recipe, dataset: str, collection: str) -> str:
    """Name the stage whose conversations are tokenized."""
    verb = "sift" if recipe.datasets[dataset].comparisons else "converse"
    return f"{'keep' if has_reserve(recipe, dataset, collection) else verb} {dataset}/{collection}"


def _converse_decisive(recipe: Recipe, name: str, collection: str) -> dict[str, Any]:
    dataset = recipe.datasets[name]
    return {
        "rules": [rule_decisive(recipe, rule) for rule in matching_rules(recipe, collection)],
        "teacher": {"name": dataset.teacher, **decisive(recipe.teachers[dataset.teacher])},
        "filters": [decisive(kind) for kind in dataset.own_filters],
        "student": _student(recipe, dataset),
        "seed": course_seed(recipe, name),
        **({"trains_history": True} if recipe.collections[collection].trains_history() else {}),
        **_seen_by_filters(dataset),
    }


def _seen_by_filters(dataset: Dataset) -> dict[str, Any]:
    """Return the options of a dataset that decide which answers its filters see as trained."""
    if dataset.train_on is None or not dataset.own_filters or not dataset.train_on.chooses_turns:
        return {}
    return {"filters_see": dataset.train_on.decisive()}


def _training(dataset: Dataset) -> dict[str, Any]:
    """Return the options of a dataset that decide its trained tokens, and the conversations it trains at all."""
    return {
        **({} if dataset.unknown == "reject" else {"unknown": dataset.unknown}),
        **({} if dataset.train_on is None else {"train_on": dataset.train_on.decisive()}),
    }


def _packing(recipe: Recipe) -> dict[str, Any]:
    """Return the facts of the packer, with the revision of the cut to whole turns where the recipe asks for it."""
    told = {"packing": decisive(recipe.packing)}
    return {**told, "turns_revision": 2} if recipe.packing.overlong == "drop_turns" else told


def _fitting(recipe: Recipe) -> dict[str, Any]:
    """Return the packing options that decide examples before packing, if overlong ones are made to fit a row."""
    if recipe.packing.overlong not in ("drop_history", "window"):
        return {}
    told = {"overlong": recipe.packing.overlong, "row_tokens": recipe.packing.row_tokens}
    return {**told, "revision": 2} if recipe.packing.overlong == "drop_history" else told


def _strategies(recipe: Recipe, collection: str) -> tuple[Kind, ...]:
    return tuple(recipe.strategies[rule.strategy] for rule in matching_rules(recipe, collection))


def _conversing(recipe: Recipe, dataset: Dataset, collection: str) -> tuple[Kind, ...]:
    return (*_strategies(recipe, collection), recipe.teachers[dataset.teacher], *dataset.own_filters)


def _converse_kinds(recipe: Recipe, dataset: Dataset, collection: str) -> str:
    strategies = {f"strategies:{recipe.strategies[rule.strategy].kind}" for rule in matching_rules(recipe, collection)}
    teacher = f"teachers:{recipe.teachers[dataset.teacher].kind}"
    return " ".join([*sorted(strategies), teacher, *(f"filters:{kind.kind}" for kind in dataset.own_filters)])


def rule_decisive(recipe: Recipe, rule: Rule) -> dict[str, Any]:
    """Return the parts of a rule that decide conversations."""
    strategy = recipe.strategies[rule.strategy]
    return {
        "when": rule.when.model_dump(mode="json"),
        "strategy": {"name": rule.strategy, **decisive(strategy)},
        "system_messages": _messages(recipe, rule.system_messages),
        "expand": rule.expand,
        "replace": rule.replace,
        **({} if rule.train_on is None else {"train_on": rule.train_on.decisive()}),
        **({"shots": "never of its own question"} if strategy.shots()[1] else {}),
        **({"heads": "conversations too"} if strategy.asks_conversations and rule.system_messages else {}),
    }


def _student(recipe: Recipe, dataset: Dataset) -> Mapping[str, Any]:
    message = dataset.student.system_message
    return {"erase": dataset.student.erase, "system_message": _messages(recipe, [message] if message else [])}


def _messages(recipe: Recipe, names: Sequence[str]) -> dict[str, Any]:
    """Name to digest and weight: a plan holds no text that the recipe does not hold itself."""
    texts, weights = recipe.system_message_texts(names), recipe.system_message_weights(names)
    return {name: [text_digest(text), weight] for (name, text), weight in zip(texts.items(), weights, strict=True)}


def _counts_with(recipe: Recipe, collection: str, student: tuple[str, str]) -> tuple[str, ...]:
    """Return the tokenizer's stage where a rule counts the tokens of questions, else none."""
    return student[:1] if any(rule.when.counts_tokens for rule in matching_rules(recipe, collection)) else ()


def _pin(pin: SourcePin) -> dict[str, Any]:
    return {"files": [[file.name, file.digest] for file in pin.files], "versions": dict(pin.versions)}
