"""A jinja sandbox for chat templates that also bounds their cost.

jinja's sandbox keeps a template from reaching the machine, and lets it loop or double a text for ever. Here all that
takes time or room is counted in units, one for a turn of a loop, a call, a filter or an item, and one for each hundred
characters made; a template that spends more than it has is refused. Units are counted rather than seconds measured, so
that a template is refused on every machine or on none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MappingView, Sequence, Set
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

from orca_recipes.errors import TemplateError

if TYPE_CHECKING:
    from jinja2.visitor import NodeTransformer

ALLOWED = 200_000
"""Units of one rendering; each character of the conversation adds one."""

# Copying text is that much cheaper than a step, and counting each character would refuse templates that print long
# conversations.
_CHARACTERS = 100
# A width in a format ("%999999999d") makes a text as long as it says: short ones cost nothing worth counting.
_WIDTHS = re.compile(r"\d{3,}")
# A template computes with places and counts; squaring a number again and again takes all memory within a few steps.
_LONGEST_INTEGER_BITS = 4096
_FORMATS = ("format", "format_map")
"""Methods of texts that read widths in them."""
_KNOWN = 1024
"""Messages whose sizes are kept: those of a conversation are rendered many times."""
_OF_LOOPS = frozenset(("index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0"))
"""Attributes of a loop that are numbers, or say yes or no."""
_DRAWN = ("random", "lipsum")
"""What jinja offers and would print other texts each time."""


class Work:
    """The units that a rendering may still spend."""

    def __init__(self) -> None:
        self.left = ALLOWED
        self._sizes: dict[int, tuple[Any, int]] = {}

    def begin(self, messages: Sequence[Any], variables: Mapping[str, Any]) -> None:
        """Start a rendering of a conversation with a full budget."""
        # A list, and where there are variables a list of the two.
        lists = _CHARACTERS * (1 + len(messages) + (3 if variables else 0))
        told = self._known(variables) if variables else 0
        self.left = ALLOWED + lists + told + sum(map(self._known, messages))

    def _known(self, value: Any) -> int:
        """Return the size of a message or of all variables, counted once for all renderings that hold this very one."""
        found = self._sizes.get(id(value))
        if found is None:
            if len(self._sizes) >= _KNOWN:
                self._sizes.clear()
            # Kept with its value: as long as that lives, nothing else has its id.
            found = self._sizes[id(value)] = (value, size(value, limit=1 << 40))
        return found[1]

    def spend(self, units: int) -> None:
        """Raises: TemplateError where there are not so many left."""
        self.left -= units
        if self.left < 0:
            raise TemplateError(
                "the tokenizer's chat template loops or grows without end (it takes more than "
                f"{ALLOWED:,} steps for one conversation); use the template kind chatml or plain"
            )

    def made(self, value: Any) -> Any:
        """Charge for the text of a value that was made or printed, and return the value."""
        return self.made_in(None, value)

    def made_in(self, _: Any, value: Any) -> Any:
        """Charge as `made` does; jinja hands over its context, so that nothing is done before a template is
        rendered."""
        if isinstance(value, str):  # nearly all are texts, numbers, or say yes or no
            self.left -= 1 + len(value) // _CHARACTERS
        elif isinstance(value, int):
            self.left -= 1
        else:
            self.left -= 1 + size(value, limit=max(self.left, 0) * _CHARACTERS) // _CHARACTERS
        if self.left < 0:
            self.spend(0)
        return value

    def of_call(self, arguments: Iterable[Any]) -> None:
        """Bound the work of a call by its arguments. Two texts may be multiplied with each other, integers may be
        widths."""
        held = []
        for value in arguments:
            if isinstance(value, int):
                self.spend(1 + abs(value) // 10)
                continue
            self.spend(1)
            if value is not None:
                held.append((value, self.left * _CHARACTERS))
        # One alone is multiplied with nothing, and may be all messages, which are long to count.
        if len(held) > 1:
            *_, second, first = sorted(size(value, limit=limit) for value, limit in held)
            self.spend((first * second) // 1000)

    def of_operator(self, operator: str, left: Any, right: Any) -> None:
        """Charge for an operator before it works."""
        if operator == "%" and isinstance(left, str):
            self.of_call([left, *(right if isinstance(right, tuple) else [right]), *_widths(left)])
        elif operator in ("*", "**") and isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() + right.bit_length() if operator == "*" else left.bit_length() * max(right, 0)
            # More than is left: too long an integer is refused before it is made.
            self.spend(self.left + 1 if bits > _LONGEST_INTEGER_BITS else 1)
        elif operator == "*":
            times = max(_integer(left), _integer(right), 1)
            self.spend(times * max(_size_of(left), _size_of(right)) // _CHARACTERS)


def size(value: Any, *, limit: int) -> int:
    """Count the characters of a value with all that it holds, up to about `limit`; an item is worth a hundred."""
    if isinstance(value, str):
        return len(value)
    total, waiting = 0, [value]
    while waiting and total <= limit:
        here = waiting.pop()
        if isinstance(here, str):
            total += len(here)
        elif type(here) is dict or isinstance(here, Mapping):  # to ask whether it is a Mapping takes longer
            total += _CHARACTERS * (1 + len(here))
            waiting += [*here.keys(), *here.values()]
        elif isinstance(here, list | tuple | Set | MappingView):
            total += _CHARACTERS * (1 + len(here))
            waiting += list(cast(Iterable[Any], here))
        elif type(here).__name__ == "Namespace":
            # jinja gives no public way to list the values of its Namespace.
            waiting.append(here._Namespace__attrs)
    return total


@cache
def bounded_environment() -> Any:
    """Make the class of jinja environments with a budget, `environment.work`; see `seal`."""
    from jinja2 import nodes, pass_context
    from jinja2.runtime import Context, LoopContext
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    # Of these jinja asks the type alone whether an attribute is safe.
    told_by_type = (str, dict, list, LoopContext, Namespace)

    of_dicts = frozenset(dir(dict))

    class Bounded(ImmutableSandboxedEnvironment):
        # jinja hands only these operators to `call_binop`.
        intercepted_binops = frozenset(["*", "**", "+", "%"])

        def __init__(self, **settings: Any) -> None:
            self.work = Work()
            self._safe: dict[tuple[type, str], bool] = {}
            # jinja marks what it is given, and a method takes no mark.
            super().__init__(finalize=pass_context(partial(self.work.made_in)), **settings)

        def seal(self) -> None:
            """Count what the filters do, once all are there."""
            for name in _DRAWN:
                self.filters.pop(name, None)
                self.globals.pop(name, None)
            self.filters = {name: pass_context(_counted(self, filter)) for name, filter in self.filters.items()}
            # No template can name a filter with "#", so none can call or replace these.
            self.filters["#made"] = pass_context(partial(self.work.made_in))
            self.filters["#turns"] = pass_context(lambda _, items, weight: _turns(self.work, items, weight))
            self.filters["#joined"] = pass_context(lambda _, *parts: self.work.made("".join(map(str, parts))))

        def call(self, context: Context, called: Any, /, *args: Any, **kwargs: Any) -> Any:
            # jinja's sandbox wraps str.format, with the method itself in __wrapped__.
            method = getattr(called, "__wrapped__", called)
            owner = getattr(method, "__self__", None)
            text = [owner] if isinstance(owner, str) else []
            # "{:>9999999}".format(x) makes more text than its arguments hold. In any other method's text numbers are
            # no widths: contents hold them.
            widths = _widths(owner) if isinstance(owner, str) and method.__name__ in _FORMATS else []
            self.work.of_call([*text, *widths, *args, *kwargs.values()])
            # `loop(items)` of a recursive loop begins a loop of its own.
            if isinstance(called, LoopContext) and args:
                args = (_turns(self.work, args[0], 1), *args[1:])
            return self.work.made(super().call(context, called, *args, **kwargs))

        def getattr(self, obj: Any, attribute: str) -> Any:
            # Nearly all that is asked of messages are their keys, and to look for an attribute first takes longer.
            kind = type(obj)
            if kind is dict and attribute not in of_dicts:
                return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
            if kind is LoopContext and attribute in _OF_LOOPS:
                return getattr(obj, attribute)
            return super().getattr(obj, attribute)

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            kind = type(obj)
            if kind not in told_by_type:
                return super().is_safe_attribute(obj, attr, value)
            known = self._safe.get((kind, attr))
            if known is None:
                known = self._safe[kind, attr] = super().is_safe_attribute(obj, attr, value)
            return known

        def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
            self.work.of_operator(operator, left, right)
            return self.work.made(super().call_binop(context, operator, left, right))

        def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
            tree: nodes.Template = _metered()().visit(super()._parse(source, name, filename))
            return tree

    return Bounded


@cache
def _metered() -> type[NodeTransformer]:
    """Make the visitor that puts counting filters around loops, `~`, comparisons, lists and the like, as no environment
    can intercept them.

    What is held in what is counted when it is put together, so that no value ever holds more than may be spent.
    """
    from jinja2 import nodes
    from jinja2.visitor import NodeTransformer

    def counted(name: str, node: Any, arguments: Sequence[Any] = ()) -> nodes.Filter:
        return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)

    class Metered(NodeTransformer):
        def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
            text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
            self.generic_visit(node)
            node.iter = counted("#turns", node.iter, [nodes.Const(1 + text // _CHARACTERS)])
            return node

        def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
            self.generic_visit(node)
            return counted("#joined", node.nodes[0], node.nodes[1:])

        def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
            self.generic_visit(node)
            node.expr = counted("#made", node.expr)
            for operand in node.ops:
                operand.expr = counted("#made", operand.expr)
            return node

        def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
            self.generic_visit(node)
            return counted("#made", node)

        def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
            self.generic_visit(node)
            return counted("#made", node)

        def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
            self.generic_visit(node)
            # Otherwise it is a target, as in `for a, b in`, and no value.
            return counted("#made", node) if node.ctx == "load" else node

    return Metered


def _counted(environment: Any, filter: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter to count its work; the wrapper gets a context, and passes on the argument that the filter asks
    for."""
    # jinja has no public way to ask which argument a filter wants to be passed.
    from jinja2.utils import _PassArg

    asks = _PassArg.from_obj(filter)
    work = environment.work
    if asks is None:

        def alone(_: Any, *args: Any, **kwargs: Any) -> Any:
            work.of_call([*args, *kwargs.values()])
            return work.made(filter(*args, **kwargs))

        return alone

    def counted(context: Any, *args: Any, **kwargs: Any) -> Any:
        work.of_call([*args, *kwargs.values()])
        given = {_PassArg.context: context, _PassArg.eval_context: context.eval_ctx}
        return work.made(filter(given.get(asks, environment), *args, **kwargs))

    return counted


def _turns(work: Work, items: Any, weight: int) -> Any:
    """Charge for a loop's turns before it begins, or one by one where its length is not known; return its items."""
    if hasattr(items, "__len__"):
        work.spend(weight * len(items))
        return items
    return _paid(work, items, weight)


def _paid(work: Work, items: Iterable[Any], weight: int) -> Iterator[Any]:
    for item in items:
        work.spend(weight)
        yield item


def _integer(value: Any) -> int:
    return abs(value) if isinstance(value, int) else 0


def _widths(text: str) -> list[int]:
    """Return integers in a text that may be a format's widths."""
    # Twelve digits are beyond any budget, and int() refuses texts of more than 4,300.
    return [int(found[:12]) for found in _WIDTHS.findall(text)] if "%" in text or "{" in text else []


def _size_of(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else 1
