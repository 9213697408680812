"""Row counts of a mixture: pure arithmetic, in exact integers.

Shares are decimals and parts of a whole are found by largest remainder, so that counts sum to what was asked and no
rounding differs between machines. What depends on draws (which rows, and how many of each task under `uniform_tasks`)
is elsewhere; here is what can be known from sizes alone, so that `plan` says it offline.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction

from orca_recipes.recipe.mixtures import Mixture, Take

# Decimal, since pow of floats comes from the machine's C library, and its last bit could give a row to another task.
_PRECISE = Context(prec=40)


@dataclass(frozen=True)
class Cut:
    """The repeats of each row in a group's keyed order, from the group's count.

    The longest prefix of total weight `weight` stands `above` times, the row behind it `boundary` times, all further
    ones `below` times. A row weighs 1, or its tokens where tokens are counted.
    """

    weight: int
    above: int
    boundary: int
    below: int


def largest_remainder(total: int, weights: Sequence[Fraction | Decimal | int]) -> list[int]:
    """Part a total in proportion to weights, as integers that sum to it.

    Each gets its quota rounded down, and what is left goes to the largest remainders, of equal ones to the first.
    Args:
        weights: none negative, not all 0 unless total is 0.
    """
    exact = [Fraction(weight) for weight in weights]
    whole = sum(exact)
    if not whole:
        return [0] * len(exact)
    quotas = [total * weight / whole for weight in exact]
    parts = [int(quota) for quota in quotas]
    # Part minus quota is the negative remainder: the largest remainder comes first.
    order = sorted(range(len(parts)), key=lambda place: (parts[place] - quotas[place], place))
    for place in order[: total - sum(parts)]:
        parts[place] += 1
    return parts


def task_rates(sizes: Iterable[int], *, cap: int | None, temperature: Decimal | None) -> list[Fraction]:
    """Compute the mixing rate of each task: min(size, cap) ** (1 / temperature).

    As seqio's `mixing_rate_num_examples` (google/seqio, seqio/utils.py) and FLAN-v2's capped rates have it.
    """
    capped = [size if cap is None else min(size, cap) for size in sizes]
    if temperature is None or temperature == 1:
        return [Fraction(size) for size in capped]
    return [Fraction(_root(size, temperature)) for size in capped]


def proportional_counts(total: int, rates: Sequence[Fraction], capacities: Sequence[int]) -> list[int]:
    """Count by rate where none may exceed its capacity: what a full one cannot take goes to the others, by rate.

    Returns: counts that sum to total, or to all capacities (of tasks with a rate) where that is less.
    """
    counts = [0] * len(rates)
    open_places = [place for place, rate in enumerate(rates) if rate > 0]
    left = total
    while open_places:
        whole = sum(rates[place] for place in open_places)
        full = [place for place in open_places if left * rates[place] > capacities[place] * whole]
        if not full:
            parts = largest_remainder(left, [rates[place] for place in open_places])
            for place, part in zip(open_places, parts, strict=True):
                counts[place] = part
            break
        for place in full:
            counts[place] = capacities[place]
            left -= capacities[place]
        open_places = [place for place in open_places if place not in set(full)]
    return counts


def water_level(capacities: Iterable[int], rows: int) -> Fraction:
    """Compute the mean level up to which `uniform_tasks` draws from tasks: the sum of min(capacity, level) is rows.
    Tasks below it are drawn whole. Where rows are more than there are: the largest capacity."""
    ordered = sorted(capacities)
    left, last = rows, 0
    for place, capacity in enumerate(ordered):
        alive = len(ordered) - place
        if (capacity - last) * alive >= left:
            return last + Fraction(left, alive)
        left -= (capacity - last) * alive
        last = capacity
    return Fraction(last)


def divided_counts(mixture: Mixture, rates: Mapping[str, Fraction]) -> dict[str, int]:
    """Divide the mixture's rows (or tokens) among the collections with a share or a rate.

    Args:
        rates: of the collections without an amount, the sum of the rates of their tasks.
    """
    total = mixture.rows if mixture.rows is not None else mixture.tokens or 0
    shares = {name: Fraction(take.share) for name, take in mixture.take.items() if take.share is not None}
    *parts, rest = largest_remainder(total, [*shares.values(), 1 - sum(shares.values())])
    by_rate = largest_remainder(rest, list(rates.values()))
    return dict(zip(shares, parts, strict=True)) | dict(zip(rates, by_rate, strict=True))


def group_counts(take: Take, sizes: Sequence[int], target: int | None) -> list[int]:
    """Count the rows (or tokens) of each group, repeats included; not for `uniform_tasks`, whose counts are drawn.

    Args:
        sizes: rows of each group, or their tokens where target is in tokens: tasks under per_task and proportional,
            categories under per_category, else one group.
        target: of rows, share and proportional; at most what there is.
    """
    if take.draw == "proportional":
        rates = task_rates(sizes, cap=take.cap, temperature=take.temperature)
        return proportional_counts(target or 0, rates, [size * take.most for size in sizes])
    limit = take.per_task or take.per_category
    if limit is not None:
        return [min(limit * take.repeat, size * take.most) for size in sizes]
    if take.all:
        return [size * take.repeat for size in sizes]
    return [min(target or 0, size * take.most) for size in sizes]


def cut_of(count: int, size: int, repeat: int) -> Cut:
    """Cut a group's keyed order by its count.

    Args:
        count: at most size times however often rows may stand. size: rows or tokens of the group.
        repeat: how often a row stands before the next one does.
    """
    if count >= repeat * size:
        rounds, rest = divmod(count - repeat * size, size) if size else (0, 0)
        return Cut(rest, repeat + rounds + 1, repeat + rounds, repeat + rounds)
    weight, boundary = divmod(count, repeat)
    return Cut(weight, repeat, boundary, 0)


def with_reserve(count: int, reserve: Decimal | None) -> int:
    """Count the rows to draw so that count are left after the filters took theirs, rounded up."""
    # The negative of a negative's floor is the ceiling, in exact fractions.
    return count if reserve is None else count + -int(-(count * Fraction(reserve)) // 1)


def _root(size: int, temperature: Decimal) -> Decimal:
    """Compute size ** (1 / temperature); logarithm and exponential of the decimal module are rounded correctly
    everywhere."""
    if size == 0:
        return Decimal(0)
    return _PRECISE.exp(_PRECISE.divide(_PRECISE.ln(Decimal(size)), temperature))
