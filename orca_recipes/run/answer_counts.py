"""Origin and cost of a build's answers, for its manifest and the end of a build."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from orca_recipes.counted import counted
from orca_recipes.plan.used_parts import collects, taken_collections
from orca_recipes.run.answers.collecting import Collecting
from orca_recipes.run.answers.converse_answered import summed
from orca_recipes.run.answers.session import Bought
from orca_recipes.run.work.account import read_account
from orca_recipes.shards.manifest import AnswerCounts, Manifest, RejectionCounts, SpentCounts, StrategyCounts

if TYPE_CHECKING:
    from orca_recipes.run.work.bench import Bench


def answer_counts(bench: Bench) -> dict[str, AnswerCounts]:
    """Count the answers of each dataset whose teacher collects."""
    datasets = [name for name in bench.recipe.datasets if collects(bench.recipe, name)]
    return {name: _of_dataset(bench, name) for name in datasets}


def told(manifest: Manifest) -> Iterator[str]:
    """Yield the closing lines of a build on its answers: counts and money by teacher and collection, then by
    strategy."""
    for name, counts in manifest.made.answers.items():
        yield (
            f"{name}: answers of {counts.teacher}: {counts.stored:,} stored, {counts.asked:,} asked, "
            f"{counts.rejected:,} rejected" + (f" ({counts.empty:,} empty)" if counts.empty else "")
        )
        for collection, spent in counts.spent.items():
            usd = "cost unknown (no prices)" if spent.usd is None else f"{float(spent.usd):.2f} USD"
            usd += f", {counted(spent.unpriced, 'answer')} without usage" if spent.unpriced else ""
            tokens = f"{counted(spent.input_tokens, 'token')} in, {spent.output_tokens:,} out"
            yield f"  {counts.teacher} for {collection}: {counted(spent.answers, 'answer')}, {tokens}, {usd}"
        for strategy, earned in counts.strategies.items():
            share = earned.kept / earned.answers if earned.answers else 0.0
            each = (earned.input_tokens + earned.output_tokens) / max(earned.kept, 1)
            kept = f"{share:.1%} of {counted(earned.answers, 'answer')} kept"
            yield f"  strategy {strategy}: {kept}, {counted(round(each), 'token')}, in and out, for each kept"


def _of_dataset(bench: Bench, name: str) -> AnswerCounts:
    collections = taken_collections(bench.recipe, name)
    teacher = bench.recipe.datasets[name].teacher
    priced = bench.recipe.teachers[teacher].money().prices is not None
    accounts = {found: read_account(bench.folder(f"tokenize {name}/{found}")) for found in collections}
    answers = {found: account.reports["answer"] for found, account in accounts.items()}
    bought = {found: bench.shared(Collecting).bought.get(f"{name}/{found}", Bought()) for found in collections}
    asked = sum(each.asked for each in bought.values())
    return AnswerCounts(
        stored=max(sum(report["requests"] for report in answers.values()) - asked, 0),
        asked=asked,
        rejected=sum(report["refused"] for report in answers.values()),
        empty=sum(report.get("empty", 0) for report in answers.values()),
        teacher=teacher,
        digest={found: report["digest"] for found, report in answers.items()},
        spent={found: _spent(each, priced=priced) for found, each in bought.items() if each.answers},
        rejections=tuple(
            RejectionCounts(collection=found, task=task, strategy=strategy, stage=stage, reason=reason, answers=number)
            for found, account in accounts.items()
            for task, strategy, stage, reason, number in account.reports["converse"]["rejections"]
        ),
        strategies=_strategies(account.reports["converse"]["strategies"] for account in accounts.values()),
    )


def _spent(bought: Bought, *, priced: bool) -> SpentCounts:
    return SpentCounts(
        answers=bought.answers,
        input_tokens=bought.input_tokens,
        output_tokens=bought.output_tokens,
        usd=f"{bought.usd:.6f}" if priced else None,
        unpriced=bought.unpriced if priced else 0,
    )


def _strategies(parts: Iterable[Mapping[str, Sequence[int]]]) -> dict[str, StrategyCounts]:
    return {
        name: StrategyCounts(answers=counts[0], kept=counts[1], input_tokens=counts[2], output_tokens=counts[3])
        for name, counts in summed(parts).items()
    }
