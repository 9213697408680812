"""The installed kinds, and the plugins that offer them.

Plugins are found once, before a recipe is read; an offer is only a name, and a kind's class is imported when a recipe
chooses it. A plugin that breaks is remembered with its error and the rest goes on working: only a recipe that needs it
is refused.
"""

import importlib
import inspect
import re
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import metadata
from threading import Timer
from time import perf_counter
from types import ModuleType
from typing import Any, Literal

import pluggy

from orca_recipes.contract import VERSION, hooks
from orca_recipes.contract.kinds import Kind
from orca_recipes.contract.pieces import PIECES, Offer, piece_of_hook
from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.errors import PluginError

_PATIENCE_SECONDS = 5.0
"""After so long a plugin that is being imported is named, so that one that hangs is known."""


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that failed to load or to answer a hook, and its error."""

    distribution: str
    version: str
    entry_point: str
    error: str

    def __str__(self) -> str:
        who = f"{self.distribution} {self.version}".rstrip()
        return f"{who} (entry point {quoted(self.entry_point)}): {self.error}"


@dataclass(frozen=True)
class LoadedPlugin:
    """An entry point that was imported, or could not be.

    contract: the version that it says it is written for, None where it says none. seconds: that importing it took.
    """

    distribution: str
    version: str
    entry_point: str
    contract: int | None
    seconds: float


class Catalogue:
    """The kinds that plugins offer, by hook and name.

    Args:
        plugins: further plugin objects (modules, classes' instances), each its own distribution named as it is.

    A plugin that implements a hook that there is not is broken too: what else it offers can be used.
    """

    def __init__(self, plugins: Iterable[object] = ()) -> None:
        self._manager = pluggy.PluginManager(hooks.GROUP)
        self._manager.add_hookspecs(hooks)
        self._broken: list[BrokenPlugin] = []
        self._loaded: list[LoadedPlugin] = []
        self._owners: dict[str, tuple[str, str, str]] = {}
        # The order of installed packages differs between machines, and errors would name another plugin first.
        for owner, point in sorted(_owned(metadata.entry_points(group=hooks.GROUP)), key=_place_of_entry_point):
            self._load(point, owner)
        for plugin in plugins:
            name = getattr(plugin, "__name__", type(plugin).__name__)
            self._register(plugin, distribution=name, version="", entry_point=name)
        self._check_pending()
        self._kinds: dict[tuple[str, str], type[Kind]] = {}
        self._offers = {piece.hook: tuple(sorted(self._ask(piece.hook), key=_order)) for piece in PIECES}

    @property
    def broken(self) -> tuple[BrokenPlugin, ...]:
        """Return the plugins that could not be loaded or asked."""
        return tuple(self._broken)

    @property
    def loaded(self) -> tuple[LoadedPlugin, ...]:
        """Return entry points found, in order, with the import time of each; broken ones too."""
        return tuple(self._loaded)

    def offers(self, hook: str) -> tuple[Offer, ...]:
        """Return all plugins' offers for one hook, sorted by name, then by distribution."""
        return self._offers[hook]

    def offer(self, hook: str, name: str) -> Offer:
        """Find the one offer meant by a recipe's `kind = "name"` or `kind = "distribution:name"`.

        Raises: PluginError where there is none, or where two distributions offer the bare name.
        """
        distribution, _, bare = name.rpartition(":")
        found = [offer for offer in self._offers[hook] if offer.name == bare]
        if distribution:
            found = [offer for offer in found if _normal(offer.distribution) == _normal(distribution)]
        if not found:
            raise PluginError(self.no_such_kind(hook, name))
        if len(found) > 1:
            givers = " and ".join(str(offer) for offer in found)
            choices = " or ".join(f'kind = "{offer.distribution}:{bare}"' for offer in found)
            raise PluginError(f"{piece_of_hook(hook).word} {quoted(bare)} is offered by {givers}; write {choices}")
        return found[0]

    def kind(self, hook: str, name: str) -> type[Kind]:
        """Import the class of a kind, once for all tables of a recipe that choose it.

        Raises: PluginError where no plugin offers it, two do, its class cannot be imported or is not what the hook
            asks for; a package that an extra installs is named with that extra.
        """
        if (hook, name) not in self._kinds:
            offer = self.offer(hook, name)
            self._kinds[hook, name] = _checked(_imported(offer), offer)
        return self._kinds[hook, name]

    def no_such_kind(self, hook: str, name: str, *, tables: Iterable[str] = ()) -> str:
        """Word the error for an unknown kind, with the nearest known name (a recipe's own `tables` count too).

        A broken plugin might have offered the name, so it is mentioned with its error.
        """
        known = [offer.name for offer in self._offers[hook]]
        if ":" in name:
            known = [f"{offer.distribution}:{offer.name}" for offer in self._offers[hook]]
        sentence = f"there is no {piece_of_hook(hook).word} {quoted(name)}{hint(name, [*known, *tables])}"
        might = "; ".join(str(plugin) for plugin in self._broken)
        return f"{sentence} (a plugin that does not load might offer it: {might})" if might else sentence

    def _load(self, point: metadata.EntryPoint, owner: dict[str, str]) -> None:
        begun = perf_counter()
        waiting = Timer(_PATIENCE_SECONDS, _tell_of_waiting, (owner["distribution"], point.value))
        # Daemon: a process that ends does not wait for this timer.
        waiting.daemon = True
        waiting.start()
        try:
            with redirect_stdout(sys.stderr):  # stdout is what the command says, and may be read by a program
                plugin = point.load()
                refuse_other_contract(plugin)
        except KeyboardInterrupt:
            raise
        except BaseException as fault:  # a stranger's import may also exit or panic
            self._broken.append(BrokenPlugin(**owner, error=_said(fault)))
        else:
            self._register(plugin, **owner)
        finally:
            waiting.cancel()
            self._loaded.append(LoadedPlugin(**owner, contract=contract_of(point), seconds=perf_counter() - begun))

    def _register(self, plugin: object, *, distribution: str, version: str, entry_point: str) -> None:
        if self._manager.is_registered(plugin):  # two entry points of one module are one plugin
            return
        name = f"{distribution}:{entry_point}:{len(self._owners)}"
        self._owners[name] = (distribution, version, entry_point)
        try:
            self._manager.register(plugin, name)
        except Exception as fault:
            if self._manager.is_registered(plugin):  # older pluggy leaves it half registered
                self._manager.unregister(plugin)
            self._broken.append(BrokenPlugin(distribution, version, entry_point, _said(fault)))

    def _check_pending(self) -> None:
        """Tell of misspelt hooks: pluggy would never call them, and their kinds would be missing without a word."""
        known = [piece.hook for piece in PIECES]
        for name, caller in sorted(vars(self._manager.hook).items()):
            if not isinstance(caller, pluggy.HookCaller) or caller.has_spec():
                continue
            for impl in caller.get_hookimpls():
                if not impl.optionalhook:
                    said = f"it implements the hook {quoted(name)}, which there is not{hint(name, known)}"
                    self._broken.append(BrokenPlugin(*self._owners[impl.plugin_name], said))

    def _ask(self, hook: str) -> Iterator[Offer]:
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
        for impl in caller.get_hookimpls():
            distribution, version, entry_point = self._owners[impl.plugin_name]
            try:
                offers = _offers_of(impl.function())
            except Exception as fault:
                self._broken.append(BrokenPlugin(distribution, version, entry_point, f"{hook}: {_said(fault)}"))
            else:
                yield from (Offer(hook, name, target, distribution, version) for name, target in offers.items())


def refuse_other_contract(plugin: object) -> None:
    """Hold what a plugin is written for against the contract at hand.

    Raises: PluginError for any but this version and the one before; a plugin that says nothing is taken as it is.
    """
    said = getattr(plugin, "ORCA_CONTRACT", None)
    if said is None:
        return
    if not isinstance(said, int) or isinstance(said, bool):
        raise PluginError(f"ORCA_CONTRACT must be the number of a contract (this is {VERSION}), and is {said!r}")
    if said > VERSION:
        raise PluginError(
            f"it is written for contract {said}, and orca-recipes here has contract {VERSION}: "
            "pip install --upgrade orca-recipes, or install an older version of it"
        )
    if said < max(1, VERSION - 1):
        raise PluginError(
            f"it is written for contract {said}, and orca-recipes here has contract {VERSION}: "
            "install a newer version of it, or an older orca-recipes"
        )


def contract_of(point: metadata.EntryPoint) -> int | None:
    """Return the contract number declared by an entry point's module (ORCA_CONTRACT); None if it declares none or is
    not imported."""
    said = getattr(sys.modules.get(point.module), "ORCA_CONTRACT", None)
    return said if isinstance(said, int) else None


def _tell_of_waiting(distribution: str, value: str) -> None:
    print(f"waiting for the plugin {distribution} to import {value}", file=sys.stderr, flush=True)


def _order(offer: Offer) -> tuple[str, str]:
    return offer.name, offer.distribution


def _place_of_entry_point(owned: tuple[dict[str, str], metadata.EntryPoint]) -> tuple[str, str]:
    owner, point = owned
    return owner["distribution"] if point.dist else "", point.name


def _owned(points: Iterable[metadata.EntryPoint]) -> Iterator[tuple[dict[str, str], metadata.EntryPoint]]:
    """Yield each entry point with who offers it; a distribution's metadata is parsed once, a millisecond each time."""
    known: dict[int, tuple[str, str]] = {}
    for point in points:
        distribution, version = point.value, ""
        if point.dist is not None:
            if id(point.dist) not in known:
                told = point.dist.metadata
                known[id(point.dist)] = told["Name"], told["Version"]
            distribution, version = known[id(point.dist)]
        yield {"distribution": distribution, "version": version, "entry_point": point.name}, point


def _said(fault: BaseException) -> str:
    return f"{type(fault).__name__}: {' '.join(str(fault).split())}".removesuffix(": ")


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _offers_of(answer: Any) -> Mapping[str, str]:
    if not isinstance(answer, Mapping) or not all(isinstance(text, str) for pair in answer.items() for text in pair):
        raise TypeError('a hook returns a mapping of names to "module:Class"')
    for name, target in answer.items():
        if not re.fullmatch(r"[\w.]+:\w+", target):
            raise ValueError(f'kind "{name}" points to "{target}", not to "module:Class"')
        if not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(f'"{name}" cannot be the name of a kind: letters, digits, ".", "_" and "-" can')
    return answer


def _imported(offer: Offer) -> Any:
    module_name, _, class_name = offer.target.partition(":")
    what = f"{piece_of_hook(offer.hook).word} {quoted(offer.name)}"
    try:
        module: ModuleType = importlib.import_module(module_name)
    except ModuleNotFoundError as fault:
        raise PluginError(_missing(what, offer, fault.name or "")) from fault
    except KeyboardInterrupt:
        raise
    except BaseException as fault:
        raise PluginError(f"{what} of {offer} cannot be imported: {_said(fault)}") from fault
    if not hasattr(module, class_name):
        raise PluginError(f"{what} of {offer} points to {offer.target}, and there is no such class")
    return getattr(module, class_name)


def _missing(what: str, offer: Offer, module: str) -> str:
    own = offer.target.partition(":")[0]
    if f"{own}.".startswith(f"{module}."):
        return f"{what} of {offer} points to {offer.target}, and there is no such module"
    extra = _extra_that_installs(module.partition(".")[0], offer.distribution)
    if extra is not None:
        return f"{what} needs an extra package: pip install '{offer.distribution}[{extra}]'"
    return f'{what} of {offer} needs the Python module "{module}", which is not installed'


def _extra_that_installs(module: str, distribution: str) -> str | None:
    """Find the distribution's extra that installs a module, by the requirement names in its metadata.

    A package's name begins with its module's ("megatron-core" brings megatron). Of several extras the one named as the
    module is told; the extra for tests is the last resort, because it repeats what the others install.
    """
    try:
        requirements = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return None
    extras = []
    for requirement in requirements:
        found = re.match(r"([\w.-]+).*;.*\bextra\s*==\s*['\"]([\w.-]+)['\"]", requirement)
        if found and f"{_normal(found[1])}-".startswith(f"{_normal(module)}-"):
            extras.append(found[2])
    # The extra `test` installs everything: true, and no advice.
    return min(extras, key=lambda extra: (extra == "test", extra != module), default=None)


def _checked(found: Any, offer: Offer) -> type[Kind]:
    piece = piece_of_hook(offer.hook)
    what = f"{piece.word} {quoted(offer.name)} of {offer}"
    if not (inspect.isclass(found) and issubclass(found, piece.contract)):
        raise PluginError(f"{what} is no {piece.contract.__name__}: {offer.target} must subclass it")
    left = found.methods_missing()
    if left:
        raise PluginError(f"{what} is not finished: {offer.target} lacks {', '.join(left)}")
    names = _names_it_takes(found)
    if names and offer.name not in names:
        told = " or ".join(quoted(name) for name in names)
        raise PluginError(f"{what} calls itself {told} in {offer.target}; offer it by that name, or change its `kind`")
    return found


def _names_it_takes(kind: type[Kind]) -> tuple[str, ...]:
    annotation = kind.model_fields["kind"].annotation
    return typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()
