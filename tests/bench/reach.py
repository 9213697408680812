"""The figures that are to be reached against those of one run: reached or not, and by how much.

Where a figure is about both tokenizers or several corpora, the worst one counts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.competition import PeerTrial
from tests.bench.measure import Cost
from tests.bench.table import table
from tests.bench.trials import Trial

_CPU_RATE = {"sentencepiece": 14.0, "byte-level": 20.0}
_TIMES_A_PEER = {"trl": 30.0, "datatrove": 15.0}


@dataclass(frozen=True)
class Figure:
    """One line of the table; measured is None where this run did not measure it."""

    what: str
    wanted: str
    measured: float | None
    unit: str
    reached: bool | None
    note: str = ""


def reach(trials: Sequence[Trial], peers: Sequence[PeerTrial], starts: Mapping[str, Cost]) -> str:
    """The table of what is wanted."""
    imports = starts["imports of a build"].cpu_seconds
    figures = [
        *(_cold(trials, student) for student in _CPU_RATE),
        *(_against(trials, peers, peer, student) for peer in _TIMES_A_PEER for student in _CPU_RATE),
        *(_two_workers(trials, student) for student in _CPU_RATE),
        _worst("nothing changed, wall", trials, "again", lambda trial: trial.cost.wall_seconds, 1.0, "s"),
        *(_row_tokens(trials, student, imports) for student in _CPU_RATE),
        _worst("largest process", trials, "cold", lambda trial: trial.cost.largest_bytes / 2**30, 2.0, "GiB"),
        _help(starts),
    ]
    rows = [
        (
            figure.what,
            figure.wanted,
            "-" if figure.measured is None else f"{figure.measured:.2f} {figure.unit}",
            {None: "not measured", True: "reached", False: "NOT reached"}[figure.reached],
            figure.note,
        )
        for figure in figures
    ]
    return table("Reach", ("what", "wanted", "measured", "", ""), rows)


def _one(trials: Sequence[Trial], part: str, student: str, workers: int) -> Trial | None:
    return next(
        (
            trial
            for trial in trials
            if (trial.part, trial.student, trial.workers, trial.layout) == (part, student, workers, "jsonl")
        ),
        None,
    )


def _cold(trials: Sequence[Trial], student: str) -> Figure:
    """Verified shards: the build's CPU seconds and those of `verify`."""
    wanted = _CPU_RATE[student]
    what = f"cold and verified, {student}, one worker"
    cold, verify = (_one(trials, part, student, 1) for part in ("cold", "verify"))
    if cold is None or verify is None:
        return Figure(what, f"at least {wanted:g}", None, "", None)
    rate = cold.corpus.megabytes / (cold.cost.cpu_seconds + verify.cost.cpu_seconds)
    return Figure(
        what, f"at least {wanted:g}", rate, "MB/CPU s", rate >= wanted, f"the build alone {cold.cpu_rate:.1f}"
    )


def _against(trials: Sequence[Trial], peers: Sequence[PeerTrial], name: str, student: str) -> Figure:
    wanted = _TIMES_A_PEER[name]
    what = f"against {name}, {student}, wall, two workers"
    ours = _one(trials, "cold", student, 2)
    peer = next((trial for trial in peers if (trial.peer.name, trial.student) == (name, student)), None)
    if ours is None or peer is None:
        return Figure(what, f"at least {wanted:g}", None, "", None)
    times = ours.rate / peer.rate
    note = f"by CPU {ours.cpu_rate / peer.cpu_rate:.1f} times"
    return Figure(what, f"at least {wanted:g}", times, "times", times >= wanted, note)


def _two_workers(trials: Sequence[Trial], student: str) -> Figure:
    what, wanted = f"two workers against one, {student}, wall", 1.7
    one, two = (_one(trials, "cold", student, workers) for workers in (1, 2))
    if one is None or two is None:
        return Figure(what, f"at least {wanted:g}", None, "", None)
    times = one.cost.wall_seconds / two.cost.wall_seconds
    return Figure(what, f"at least {wanted:g}", times, "times", times >= wanted)


def _row_tokens(trials: Sequence[Trial], student: str, imports: float) -> Figure:
    what, wanted = f"another row_tokens, {student}, CPU after imports", 10.0
    cold, other = (_one(trials, part, student, 1) for part in ("cold", "row_tokens"))
    if cold is None or other is None:
        return Figure(what, "under 10 %", None, "", None)
    share = 100 * (other.cost.cpu_seconds - imports) / (cold.cost.cpu_seconds - imports)
    note = f"on {cold.corpus.megabytes:,.0f} MB; wanted on 1,000"
    return Figure(what, "under 10 %", share, "%", share < wanted, note)


def _worst(
    what: str, trials: Sequence[Trial], part: str, of: Callable[[Trial], float], most: float, unit: str
) -> Figure:
    found = [trial for trial in trials if trial.part == part]
    if not found:
        return Figure(what, f"under {most:g} {unit}", None, "", None)
    worst = max(found, key=of)
    note = f"{worst.student}, {worst.layout}, workers {worst.workers}"
    return Figure(what, f"under {most:g} {unit}", of(worst), unit, of(worst) < most, note)


def _help(starts: Mapping[str, Cost]) -> Figure:
    over = starts["orca-recipe --help"].wall_seconds - starts["python -c pass"].wall_seconds
    return Figure("--help over a bare interpreter", "at most 0.2 s", over, "s", over <= 0.2)
