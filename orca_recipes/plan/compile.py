"""Recipe and pins become a plan, byte for byte the same anywhere.

Stages up to tokens are one for each dataset and collection, so that adding a collection reruns only its own; packing
joins them. What a stage does not depend on is not in its fingerprint: paths, engine, workers, host, time.
"""

from collections.abc import Mapping
from typing import Any

from orca_recipes.contract.kinds import Kind
from orca_recipes.plan.pins import Pins, SourcePin
from orca_recipes.plan.stages import Plan, PlanBuilder
from orca_recipes.recipe.model import Dataset, Recipe, Rule


def compile_plan(recipe: Recipe, pins: Pins, *, limit: int | None = None) -> Plan:
    """The stages of a build.

    Args:
        limit: at most this many examples of each collection take the path (for trying a recipe).
    """
    plan = PlanBuilder()
    student = add_student(plan, recipe, pins.tokenizer)
    for name in used_collections(recipe):
        source = recipe.collections[name]
        plan.add(
            "read",
            name,
            kind=f"sources:{source.kind}",
            decisive={"collection": name, "source": decisive(source), "pin": _pin(pins.collections[name])},
        )
    for name in recipe.datasets:
        _compile_dataset(plan, recipe, name, student, limit)
    return plan.plan()


def add_student(plan: PlanBuilder, recipe: Recipe, tokenizer: SourcePin) -> tuple[str, str]:
    """The stages that need no example, the tokenizer and the template: pinning runs them already."""
    first = plan.add(
        "tokenizer",
        "",
        kind=f"tokenizers:{recipe.tokenizer.kind}",
        decisive={"tokenizer": decisive(recipe.tokenizer), "pin": _pin(tokenizer)},
    )
    second = plan.add(
        "template",
        "",
        kind=f"templates:{recipe.template.kind}",
        decisive={"template": decisive(recipe.template)},
        inputs=(first,),
    )
    return first, second


def used_collections(recipe: Recipe) -> tuple[str, ...]:
    """The collections that some dataset draws from, in recipe order."""
    taken = {name for dataset in recipe.datasets.values() for name in recipe.mixtures[dataset.mixture].take}
    return tuple(name for name in recipe.collections if name in taken)


def taken_collections(recipe: Recipe, dataset: str) -> tuple[str, ...]:
    """The collections of one dataset, in recipe order."""
    take = recipe.mixtures[recipe.datasets[dataset].mixture].take
    return tuple(name for name in recipe.collections if name in take)


def used_kinds(recipe: Recipe) -> dict[str, Kind]:
    """Every kind whose revision decides bytes, by "hook:name"."""
    found: dict[str, Kind] = {}
    for name in used_collections(recipe):
        found[f"sources:{recipe.collections[name].kind}"] = recipe.collections[name]
    for rule in recipe.rules:
        strategy = recipe.strategies[rule.strategy]
        found[f"strategies:{strategy.kind}"] = strategy
    for dataset in recipe.datasets.values():
        teacher = recipe.teachers[dataset.teacher]
        found[f"teachers:{teacher.kind}"] = teacher
        found.update({f"filters:{kind.kind}": kind for kind in dataset.filters})
    found[f"tokenizers:{recipe.tokenizer.kind}"] = recipe.tokenizer
    found[f"templates:{recipe.template.kind}"] = recipe.template
    found[f"packers:{recipe.packing.kind}"] = recipe.packing
    found[f"writers:{recipe.output.kind}"] = recipe.output
    return found


def decisive(kind: Kind) -> dict[str, Any]:
    """What of a kind decides its output: package, options without places, revision."""
    package = type(kind).__module__.partition(".")[0]
    return {"package": package, "revision": type(kind).revision, **kind.identity()}


def matching_rules(recipe: Recipe, collection: str) -> tuple[Rule, ...]:
    """The rules that can match examples of a collection, in order."""
    return tuple(rule for rule in recipe.rules if rule.when.may_match_collection(collection))


def _compile_dataset(plan: PlanBuilder, recipe: Recipe, name: str, student: tuple[str, str], limit: int | None) -> None:
    dataset = recipe.datasets[name]
    mixture = recipe.mixtures[dataset.mixture]
    tokens = []
    for collection in taken_collections(recipe, name):
        subject = f"{name}/{collection}"
        take: dict[str, Any] = {"take": mixture.take[collection].model_dump(mode="json"), "limit": limit}
        if mixture.take[collection].rows is not None or limit is not None:
            take["seed"] = recipe.seed
        mix = plan.add("mix", subject, kind="", decisive=take, inputs=(f"read {collection}",))
        converse = plan.add(
            "converse",
            subject,
            kind=_converse_kinds(recipe, dataset, collection),
            decisive=_converse_decisive(recipe, dataset, collection),
            inputs=(f"read {collection}", mix),
        )
        tokens.append(
            plan.add(
                "tokenize",
                subject,
                kind="",
                decisive={},
                inputs=(converse, *student),
            )
        )
    pack = plan.add(
        "pack",
        name,
        kind=f"packers:{recipe.packing.kind}",
        decisive={"packing": decisive(recipe.packing), "shard_tokens": recipe.output.shard_tokens, "seed": recipe.seed},
        inputs=tuple(tokens),
    )
    plan.add(
        "write",
        name,
        kind=f"writers:{recipe.output.kind}",
        decisive={"output": decisive(recipe.output)},
        inputs=(pack,),
    )


def _converse_decisive(recipe: Recipe, dataset: Dataset, collection: str) -> dict[str, Any]:
    return {
        "rules": [_rule(recipe, rule) for rule in matching_rules(recipe, collection)],
        "teacher": {"name": dataset.teacher, **decisive(recipe.teachers[dataset.teacher])},
        "filters": [decisive(kind) for kind in dataset.filters],
        "student": _student(recipe, dataset),
        "seed": recipe.seed,
    }


def _converse_kinds(recipe: Recipe, dataset: Dataset, collection: str) -> str:
    strategies = {f"strategies:{recipe.strategies[rule.strategy].kind}" for rule in matching_rules(recipe, collection)}
    teacher = f"teachers:{recipe.teachers[dataset.teacher].kind}"
    return " ".join([*sorted(strategies), teacher, *(f"filters:{kind.kind}" for kind in dataset.filters)])


def _rule(recipe: Recipe, rule: Rule) -> dict[str, Any]:
    return {
        "when": rule.when.model_dump(mode="json"),
        "strategy": {"name": rule.strategy, **decisive(recipe.strategies[rule.strategy])},
        "system_messages": recipe.system_message_texts(rule.system_messages),
        "replace": rule.replace,
    }


def _student(recipe: Recipe, dataset: Dataset) -> Mapping[str, Any]:
    message = dataset.student.system_message
    texts = recipe.system_message_texts([message] if message is not None else [])
    return {"erase": dataset.student.erase, "system_message": texts}


def _pin(pin: SourcePin) -> dict[str, Any]:
    return {"files": [[file.name, file.digest] for file in pin.files], "versions": dict(pin.versions)}
