"""Facts about an example from a manifest's recipe, read without any plugin.

A build is explained from its directory alone, also where the kinds that made it are not installed; so tables of kinds
are taken as they were written, and only the grammar is applied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from orca_recipes.contract.kinds import Kind, Packer, Writer
from orca_recipes.contract.pieces import Offer
from orca_recipes.counted import counted
from orca_recipes.errors import PluginError
from orca_recipes.explain.story import RuleMatch
from orca_recipes.recipe.defaults import filled_in
from orca_recipes.recipe.model import Recipe
from orca_recipes.recipe.rules import Rule, When
from orca_recipes.run.conversations.matching_rule import meets


class WrittenRecipe:
    """A recipe as resolved, with everything filled in that may be left out."""

    def __init__(self, resolved: Mapping[str, Any]) -> None:
        self._table, _ = filled_in(dict(resolved), _NothingOffered())
        # As JSON: the grammar is strict, and pydantic then takes a list for a tuple from JSON alone.
        self._rules = [Rule.model_validate_json(json.dumps(rule)) for rule in self._table["rules"]]
        self._written_rules = len(resolved.get("rules", ()))

    @property
    def seed(self) -> int:
        return int(self._table.get("seed", Recipe.model_fields["seed"].default))

    @property
    def template(self) -> str:
        return told(self._table["template"])

    @property
    def packing(self) -> str:
        overlong = self._table["packing"].get("overlong", Packer.model_fields["overlong"].default)
        row_tokens = self._table["packing"].get("row_tokens", Packer.model_fields["row_tokens"].default)
        return f"a row holds {counted(row_tokens, 'token')}, and overlong = {json.dumps(overlong)}"

    def source(self, collection: str) -> tuple[str, str]:
        """Return a collection's kind and its other options, as text."""
        table = _table(self._table["collections"][collection])
        return str(table["kind"]), _options(table)

    def mixture(self, dataset: str) -> str:
        return str(self._table["datasets"][dataset]["mixture"])

    def take(self, dataset: str, collection: str) -> tuple[str, int | None]:
        """Return a mixture's take of a collection as text, and the number of rows it asks for; None where it names
        none."""
        mixture = self._table["mixtures"][self.mixture(dataset)]
        if "take" not in mixture:
            return _settings({key: mixture[key] for key in ("from", "holdout_of", "rows") if key in mixture}), None
        take = mixture["take"].get(collection, {})
        return "all" if take == {"all": True} else _settings(take), take.get("rows")

    def draws_by_row(self, dataset: str, collection: str) -> bool:
        """Tell whether a take is a prefix of one order of all rows, so a row's rank decides."""
        take = self._table["mixtures"][self.mixture(dataset)].get("take", {}).get(collection, {})
        by_row = take.get("draw", "rows") == "rows" and take.keys().isdisjoint({"per_task", "per_category"})
        return bool(take) and by_row and "tokens" not in self._table["mixtures"][self.mixture(dataset)]

    def strategy_kind(self, name: str) -> str:
        return self._kind("strategies", name)

    def teacher(self, dataset: str) -> tuple[str, str]:
        """Return a dataset's teacher and its kind."""
        name = self._table["datasets"][dataset]["teacher"]
        return name, self._kind("teachers", name)

    def filters(self, dataset: str) -> list[tuple[str, str]]:
        """List a dataset's filters in order: kind, and kind with options."""
        tables = [_table(chosen) for chosen in self._table["datasets"][dataset].get("filters", ())]
        return [(str(table["kind"]).rpartition(":")[2], told(table)) for table in tables]

    def erases(self, dataset: str) -> bool:
        """Tell whether the teacher's system message is kept from the student."""
        return bool(self._table["datasets"][dataset].get("student", {}).get("erase"))

    def student(self, dataset: str) -> str:
        """Describe the part of the prompt that the student sees."""
        if not self.erases(dataset):
            return "what the teacher saw"
        message = self._table["datasets"][dataset]["student"].get("system_message")
        return f"system message {message} in place of the teacher's" if message else "no system message (erased)"

    def system_message_text(self, name: str) -> str | None:
        """Return the text of system message "set/id"; None where the recipe itself does not hold it."""
        chosen, _, key = name.partition("/")
        text = self._table.get("system_messages", {}).get(chosen, {}).get("messages", {}).get(key)
        return text if isinstance(text, str) else None

    def shards(self, tokens: int, example: str, shard: int) -> int | None:
        """Count the shards over which a dataset's examples are dealt; None where the example's shard contradicts that.

        Args:
            tokens: of the dataset. example: an id. shard: the number of the one it stands in.
        """
        shard_tokens = self._table["output"].get("shard_tokens", Writer.model_fields["shard_tokens"].default)
        shards = max(1, -(-tokens // int(shard_tokens)))
        # The low half of an id decides its shard; the high half is shared by repeats.
        return shards if int(example[16:], 16) % shards == shard else None

    def rule(
        self,
        *,
        collection: str,
        task: str | None,
        category: str | None,
        strategy: str | None,
        system_message: str | None,
        why_unknown: str,
    ) -> tuple[RuleMatch, Rule | None]:
        """Find the first rule that matches an example.

        Args:
            task, category: None where they are not known (or there is none, which why_unknown "" says).
            strategy, system_message: as recorded, None where they are not: they tell apart what task and category
                leave open.
        """
        possible = self._possible(collection, task, category, is_all_known=not why_unknown)
        fitting = [number for number in possible if _fits(self._rules[number], strategy, system_message)] or possible
        if len(fitting) != 1:
            return RuleMatch(None, self._written_rules, {}, self._open_question(fitting, why_unknown)), None
        rule = self._rules[fitting[0]]
        if fitting[0] >= self._written_rules:
            return RuleMatch(None, self._written_rules, {}, None), rule
        when = {name: _words(value) for name, value in rule.when.model_dump(exclude_defaults=True).items()}
        return RuleMatch(fitting[0] + 1, self._written_rules, when, None), rule

    def _possible(self, collection: str, task: str | None, category: str | None, *, is_all_known: bool) -> list[int]:
        """List the rules that may be the first to match: all not ruled out, up to a certain match."""
        values = {"task": task, "category": category}
        unknown = ["language", "reasoning", "options", "where"]
        unknown += [] if is_all_known else [name for name, value in values.items() if value is None]
        possible = []
        for number, rule in enumerate(self._rules):
            if not rule.when.may_match_collection(collection) or not meets(_without(rule.when, unknown), values):
                continue
            possible.append(number)
            if rule.when == _without(rule.when, unknown) and not rule.when.counts_tokens:
                break
        return possible

    def _open_question(self, fitting: Sequence[int], why_unknown: str) -> str:
        decides = f"its task and category decide, and {why_unknown}" if why_unknown else "more of the row decides"
        names = [str(number + 1) if number < self._written_rules else "none" for number in fitting]
        return f"{' or '.join(names)} of {self._written_rules}: {decides}"

    def _kind(self, table: str, name: str) -> str:
        """Return the kind of a named table; a name without a table is a kind's own."""
        chosen = self._table.get(table, {}).get(name, name)
        return str(_table(chosen)["kind"])


class _NothingOffered:
    """A catalogue of nothing: names of kinds then stand for themselves."""

    def offers(self, hook: str) -> tuple[Offer, ...]:
        return ()

    def offer(self, hook: str, name: str) -> Offer:
        self._refuse(hook, name)

    def kind(self, hook: str, name: str) -> type[Kind]:
        self._refuse(hook, name)

    def no_such_kind(self, hook: str, name: str, *, tables: Iterable[str] = ()) -> str:
        self._refuse(hook, name)

    def _refuse(self, hook: str, name: str) -> NoReturn:
        raise PluginError(f"explaining a build loads no plugin, so {name} of {hook} cannot be loaded here")


def told(chosen: Any) -> str:
    """Write a kind with its options as people do: length (max_chars = 2000)."""
    table = _table(chosen)
    options = _options(table)
    return f"{table['kind']} ({options})" if options else str(table["kind"])


def _table(chosen: Any) -> Mapping[str, Any]:
    return {"kind": chosen} if isinstance(chosen, str) else chosen


def _options(table: Mapping[str, Any]) -> str:
    return _settings({name: value for name, value in table.items() if name != "kind"})


def _settings(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {_value(value)}" for name, value in table.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {_settings(value)} }}"
    if isinstance(value, list):
        return f"[{', '.join(_value(inner) for inner in value)}]"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}"
    return json.dumps(value, ensure_ascii=False)


def _words(value: Any) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else (str(value).lower(),)


def _without(when: When, names: Sequence[str]) -> When:
    nothing = {name: When.model_fields[name].default for name in names}
    return when.model_copy(update=nothing)


def _fits(rule: Rule, strategy: str | None, system_message: str | None) -> bool:
    if strategy is not None and rule.strategy != strategy:
        return False
    named = {system_message, (system_message or "").partition("/")[0]}
    return not system_message or not named.isdisjoint(rule.system_messages)
