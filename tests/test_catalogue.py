"""Plugins are found once; what they offer is named, and what is wrong with them is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.cli.kind_pages import kind_page
from orca_recipes.contract.hooks import hookimpl
from orca_recipes.contract.kinds import Filter, Teacher
from orca_recipes.contract.pieces import PIECES, piece_of_kind
from orca_recipes.errors import PluginError


class Sieve(Filter):
    kind: Literal["sieve"] = "sieve"

    def reasons(self, **options: Any) -> Any:
        raise AssertionError("the catalogue runs no kind")


class Unfinished(Filter):
    kind: Literal["unfinished"] = "unfinished"


class NoFilter:
    pass


class Collector(Teacher):
    kind: Literal["collector"] = "collector"
    collects: ClassVar[bool] = True

    def sampling(self) -> dict[str, Any]:
        return {}


class Eavesdropper(Teacher):
    """Says that it collects, and answers at once."""

    kind: Literal["eavesdropper"] = "eavesdropper"
    collects: ClassVar[bool] = True

    def answer(self, **options: Any) -> Any:
        raise AssertionError("the catalogue runs no kind")


class Mute(Teacher):
    kind: Literal["mute"] = "mute"


class Prompter(Teacher):
    """Answers by what it prepared."""

    kind: Literal["prompter"] = "prompter"

    def answer_prepared(self, **options: Any) -> Any:
        raise AssertionError("the catalogue runs no kind")


class Kitchen:
    """A plugin; its distribution is called as its class."""

    @hookimpl
    def orca_filters(self) -> dict[str, str]:
        return {
            "sieve": f"{__name__}:Sieve",
            "unfinished": f"{__name__}:Unfinished",
            "no_filter": f"{__name__}:NoFilter",
            "not_there": f"{__name__}:Nowhere",
            "no_module": "no_such_package.sieves:Sieve",
            "misnamed": f"{__name__}:Sieve",
        }


class School:
    @hookimpl
    def orca_teachers(self) -> dict[str, str]:
        teachers = (Collector, Eavesdropper, Mute, Prompter)
        return {teacher.__name__.lower(): f"{__name__}:{teacher.__name__}" for teacher in teachers}


class Cellar:
    @hookimpl
    def orca_filters(self) -> dict[str, str]:
        return {"sieve": f"{__name__}:Sieve"}


Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a stranger's distribution on the path, as pip would: its modules, metadata and entry points."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(
        name: str, points: dict[str, str], *, version: str = "1.0", requires: tuple[str, ...] = (), **modules: str
    ) -> None:
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        lines = "".join(f"{point} = {module}\n" for point, module in points.items())
        (info / "entry_points.txt").write_text(f"[orca_recipes]\n{lines}")
        for module, text in modules.items():
            (tmp_path / f"{module}.py").write_text(text)
            monkeypatch.delitem(sys.modules, module, raising=False)

    return put


def offering(hook: str, **offers: str) -> str:
    """The text of a plugin module."""
    return f"from orca_recipes.contract.hooks import hookimpl\n@hookimpl\ndef {hook}():\n    return {offers!r}\n"


def test_built_in_kinds_come_through_the_entry_points_of_our_own_distribution() -> None:
    offers = Catalogue().offers("orca_packers")
    assert [(offer.name, offer.distribution) for offer in offers] == [
        ("best_fit", "orca-recipes"),
        ("one_per_row", "orca-recipes"),
    ]


def test_every_hook_is_offered_to_by_a_built_in_plugin() -> None:
    catalogue = Catalogue()
    assert catalogue.broken == ()
    assert all(catalogue.offers(piece.hook) for piece in PIECES)


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.word)
def test_every_built_in_kind_can_be_loaded_and_is_what_its_hook_asks_for(piece: Any) -> None:
    catalogue = Catalogue()
    for offer in catalogue.offers(piece.hook):
        assert piece_of_kind(catalogue.kind(piece.hook, offer.name)) == piece


def test_a_kind_is_found_by_its_name() -> None:
    assert Catalogue(plugins=[Kitchen()]).kind("orca_filters", "sieve") is Sieve


def test_a_kind_is_imported_only_when_it_is_asked_for(install: Install) -> None:
    install(
        "lazy", {"a": "lazy_plugin"}, lazy_plugin=offering("orca_filters", lazy="lazy_kinds:Lazy"), lazy_kinds="1/0"
    )
    catalogue = Catalogue()
    assert "lazy" in [offer.name for offer in catalogue.offers("orca_filters")]
    assert "lazy_kinds" not in sys.modules
    with pytest.raises(PluginError, match=r'^filter "lazy" of lazy 1\.0 cannot be imported: ZeroDivisionError: '):
        catalogue.kind("orca_filters", "lazy")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(PluginError, match=r'^there is no packer "bestfit"; did you mean "best_fit"\?$'):
        Catalogue().kind("orca_packers", "bestfit")
    with pytest.raises(PluginError, match=r'^there is no packer "xyz"; there is "best_fit", "one_per_row"$'):
        Catalogue().kind("orca_packers", "xyz")


def test_a_name_that_two_distributions_offer_is_an_error_that_names_both() -> None:
    catalogue = Catalogue(plugins=[Kitchen(), Cellar()])
    with pytest.raises(PluginError) as caught:
        catalogue.kind("orca_filters", "sieve")
    assert str(caught.value) == (
        'filter "sieve" is offered by Cellar and Kitchen; write kind = "Cellar:sieve" or kind = "Kitchen:sieve"'
    )


def test_a_distribution_before_the_name_picks_one() -> None:
    catalogue = Catalogue(plugins=[Kitchen(), Cellar()])
    assert catalogue.offer("orca_filters", "Cellar:sieve").distribution == "Cellar"
    assert catalogue.kind("orca_filters", "Kitchen:sieve") is Sieve
    assert catalogue.offer("orca_packers", "Orca_Recipes:best_fit").distribution == "orca-recipes"
    with pytest.raises(PluginError, match='there is no filter "Celar:sieve"; did you mean "Cellar:sieve"'):
        catalogue.kind("orca_filters", "Celar:sieve")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no_filter", f'filter "no_filter" of Kitchen is no Filter: {__name__}:NoFilter must subclass it'),
        ("unfinished", f'filter "unfinished" of Kitchen is not finished: {__name__}:Unfinished lacks reasons'),
        ("not_there", f'filter "not_there" of Kitchen points to {__name__}:Nowhere, and there is no such class'),
        (
            "misnamed",
            f'filter "misnamed" of Kitchen calls itself "sieve" in {__name__}:Sieve; offer it by that name, or change '
            "its `kind`",
        ),
        (
            "no_module",
            'filter "no_module" of Kitchen points to no_such_package.sieves:Sieve, and there is no such module',
        ),
    ],
)
def test_a_class_that_is_not_what_its_plugin_promises_is_named_with_it(name: str, sentence: str) -> None:
    with pytest.raises(PluginError) as caught:
        Catalogue(plugins=[Kitchen()]).kind("orca_filters", name)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("name", "lacks"), [("collector", "collect"), ("eavesdropper", "sampling, collect"), ("mute", "answer")]
)
def test_a_teacher_that_cannot_do_what_it_says_is_refused_before_it_is_asked(name: str, lacks: str) -> None:
    catalogue = Catalogue(plugins=[School()])
    with pytest.raises(PluginError) as caught:
        kind_page(catalogue, name)
    assert str(caught.value) == (
        f'teacher "{name}" of School is not finished: {__name__}:{name.capitalize()} lacks {lacks}'
    )


def test_a_teacher_may_answer_by_what_it_prepared_alone() -> None:
    assert Catalogue(plugins=[School()]).kind("orca_teachers", "prompter") is Prompter


def test_a_package_that_an_extra_installs_is_asked_for_by_that_extra(install: Install) -> None:
    install(
        "orca-cloud",
        {"engines": "cloud_plugin"},
        requires=("pydantic>=2", "cloudlib; extra == 'test'", 'cloudlib-core[fast]>=2 ; extra == "cloud"'),
        cloud_plugin=offering("orca_engines", cloud="cloud_engine:Cloud"),
        cloud_engine="import cloudlib.jobs\n",
    )
    with pytest.raises(PluginError) as caught:
        Catalogue().kind("orca_engines", "cloud")
    assert str(caught.value) == "engine \"cloud\" needs an extra package: pip install 'orca-cloud[cloud]'"


@pytest.mark.parametrize(
    ("module", "extra"),
    [("openai", "openai"), ("xllamacpp", "local"), ("torch", "train"), ("reasoning_gym", "reasoning-gym")],
)
def test_our_own_extras_are_known(install: Install, monkeypatch: pytest.MonkeyPatch, module: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    install("x", {}, needy=f"import {module}.nested\n")
    ours = ModuleType("ours")
    ours.orca_engines = hookimpl(lambda: {"needy": "needy:Needy"})  # type: ignore[attr-defined]
    ours.__name__ = "orca-recipes"
    with pytest.raises(PluginError) as caught:
        Catalogue(plugins=[ours]).kind("orca_engines", "needy")
    assert str(caught.value) == f"engine \"needy\" needs an extra package: pip install 'orca-recipes[{extra}]'"


def test_a_module_that_no_extra_installs_is_named(install: Install) -> None:
    install(
        "orca-odd",
        {"a": "odd_plugin"},
        odd_plugin=offering("orca_engines", odd="odd_engine:Odd"),
        odd_engine="import oddlib\n",
    )
    with pytest.raises(PluginError) as caught:
        Catalogue().kind("orca_engines", "odd")
    assert str(caught.value) == 'engine "odd" of orca-odd 1.0 needs the Python module "oddlib", which is not installed'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def (:\n", "SyntaxError: "),
        ("raise RuntimeError('no\\nway')\n", "RuntimeError: no way"),
        ("raise SystemExit\n", "SystemExit"),
        (offering("orca_filters").replace("{}", "3"), "orca_filters: TypeError: a hook returns a mapping"),
        (offering("orca_filters").replace("{}", "1/0"), "orca_filters: ZeroDivisionError: "),
        (offering("orca_filters", a="no_colon"), 'orca_filters: ValueError: kind "a" points to "no_colon"'),
        (offering("orca_filters").replace("()", "(recipe)"), "PluginValidationError: "),
    ],
)
def test_a_broken_plugin_is_remembered_and_the_rest_goes_on_working(install: Install, text: str, error: str) -> None:
    install("orca-broken", {"kinds": "broken_plugin"}, version="0.3", broken_plugin=text)
    catalogue = Catalogue()
    (broken,) = catalogue.broken
    assert (broken.distribution, broken.version, broken.entry_point) == ("orca-broken", "0.3", "kinds")
    assert broken.error.startswith(error)
    assert catalogue.offer("orca_packers", "best_fit")


def test_a_recipe_that_may_need_a_broken_plugin_is_told_of_it(install: Install) -> None:
    install("orca-broken", {"kinds": "broken_plugin"}, broken_plugin="raise RuntimeError('no way')\n")
    with pytest.raises(PluginError) as caught:
        Catalogue().kind("orca_packers", "xyz")
    assert str(caught.value).endswith(
        '(a plugin that does not load might offer it: orca-broken 1.0 (entry point "kinds"): RuntimeError: no way)'
    )


def test_a_misspelt_hook_is_told_with_its_distribution_and_the_nearest_and_the_rest_works(install: Install) -> None:
    install("orca-typo", {"a": "typo_plugin"}, typo_plugin=offering("orca_filtres", a="b:C"))
    catalogue = Catalogue()
    assert catalogue.offer("orca_packers", "best_fit")
    with pytest.raises(PluginError) as caught:
        catalogue.kind("orca_filters", "a")
    assert str(caught.value).endswith(
        '(a plugin that does not load might offer it: orca-typo 1.0 (entry point "a"): '
        'it implements the hook "orca_filtres", which there is not; did you mean "orca_filters"?)'
    )


@pytest.mark.parametrize(
    ("contract", "said"), [(7, "pip install --upgrade orca-recipes"), (0, "a newer version of it")]
)
def test_a_plugin_for_another_contract_is_refused_by_name_with_what_to_do(
    install: Install, contract: int, said: str
) -> None:
    text = f"ORCA_CONTRACT = {contract}\n" + offering("orca_filters", other="b:C")
    install("orca-other", {"a": f"other_plugin_{contract}"}, **{f"other_plugin_{contract}": text})
    catalogue = Catalogue()
    (broken,) = catalogue.broken
    assert f"it is written for contract {contract}, and orca-recipes here has contract 1" in broken.error
    assert said in broken.error
    with pytest.raises(PluginError, match=r"orca-other 1\.0"):
        catalogue.kind("orca_filters", "other")


def test_a_plugin_for_this_contract_loads_and_says_so(install: Install) -> None:
    text = "ORCA_CONTRACT = 1\n" + offering("orca_filters", fitting="b:C")
    install("orca-fitting", {"a": "fitting_plugin"}, fitting_plugin=text)
    catalogue = Catalogue()
    assert catalogue.broken == ()
    (loaded,) = [plugin for plugin in catalogue.loaded if plugin.distribution == "orca-fitting"]
    assert loaded.contract == 1


def test_what_a_plugin_prints_as_it_is_imported_does_not_stand_on_stdout(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("orca-loud", {"a": "loud_plugin"}, loud_plugin="print('hello')\n" + offering("orca_filters", loud="b:C"))
    assert Catalogue().offer("orca_filters", "loud")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "hello\n")


def test_two_entry_points_of_one_module_are_one_plugin(install: Install) -> None:
    install("twice", {"a": "twice_plugin", "b": "twice_plugin"}, twice_plugin=offering("orca_filters", twice="a:B"))
    catalogue = Catalogue()
    assert catalogue.broken == ()
    assert catalogue.offer("orca_filters", "twice").distribution == "twice"


def test_the_catalogue_imports_nothing_heavy() -> None:
    program = (
        "import sys; from orca_recipes.catalogue import Catalogue; Catalogue();"
        "print([name for name in ('polars', 'pyarrow', 'awkward', 'torch', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
