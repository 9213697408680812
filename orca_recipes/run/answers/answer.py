"""Verb `answer`: the answers that a teacher's traces hold to what was asked, in the order of the requests.

The stage is made of the trace store alone, whether its answers were bought a moment or a year ago; its digest, which
the lock pins, is over what was answered and not over when, where or at what price.
"""

from __future__ import annotations

from functools import partial

from orca_recipes.run.answers.collecting import check_locked, collect_once, rounds_of, unless_gone
from orca_recipes.run.answers.stored_answers import answer_parts
from orca_recipes.run.work.account import keep_account, read_account
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.stage_folder import StageFolder
from orca_recipes.traces.trace_store import TraceStore, default_root


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `answer` of a dataset's collection, after buying the answers that its teacher's requests lack in the
    traces."""
    dataset, _, collection = subject.partition("/")
    name = bench.recipe.datasets[dataset].teacher
    teacher = bench.recipe.teachers[name]
    asked = bench.folder(f"ask {subject}")
    with TraceStore(bench.traces or default_root()) as traces:
        traces.refresh()
        collect_once(bench, name, teacher, traces)
        rounds = rounds_of(bench, dataset, collection)
        while rounds is not None and not rounds.is_last:
            unless_gone(traces, partial(rounds.go_on, traces, teacher.lengths()))
        chosen = None if rounds is None else rounds.chosen
        report = unless_gone(traces, partial(answer_parts, asked, folder, traces, teacher.lengths(), chosen))
        check_locked(bench, subject, report["digest"], traces)
    names = report.pop("parts")
    before = read_account(asked).followed_by("answer", report, [])
    folder.finish([*names, keep_account(folder, before)], report)
