"""Where the texts of system messages come from, and how they are pinned: by digest, never by text."""

import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import RecipeError, SourceError
from orca_recipes.plan.pins import MessagePin, Pins, SourcePin, pins_from_json
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import LoadedRecipe, load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.run.pinning.lock_file import read_lock
from orca_recipes.run.pinning.message_lookup import Texts, look_up
from orca_recipes.store.store import Store
from tests.servers.hub import NOWHERE, Hub, HubSet, lead_to, running

HOME = Path(__file__).parents[3]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
RULE = '\n[[rules]]\nstrategy = "direct"\nsystem_messages = ["set"]\n'


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def loaded(recipe: Path, more: str) -> LoadedRecipe:
    path = recipe.with_name("texts.toml")
    path.write_text(recipe.read_text() + RULE + "\n[system_messages.set]\n" + more)
    return load_recipe(path, catalogue=Catalogue())


def found(recipe: Path, more: str, **options: object) -> Texts:
    return look_up(loaded(recipe, more), Store(recipe.parent / "store"), **options)  # type: ignore[arg-type]


def messages(texts: Texts) -> dict[str, str]:
    return dict(texts.recipe.system_messages["set"].messages or {})


def test_a_file_gives_ids_and_texts(recipe: Path):
    (recipe.parent / "set.toml").write_text('[messages]\na = "A"\nb = ""\n')
    texts = found(recipe, 'kind = "file"\npath = "set.toml"\n')
    assert messages(texts) == {"a": "A", "b": ""}
    assert texts.pins["set"].digests == {"a": sha("A"), "b": sha("")}


def test_the_house_set_holds_seventeen_messages_of_our_own(recipe: Path, shared: Path):
    house = (HOME / "recipes/system_messages/house.toml").as_posix()
    held = messages(found(recipe, f'kind = "file"\npath = "{house}"\n'))
    assert len(held) == len(set(held.values())) == 17
    facts = json.loads((shared / "facts/orca1_system_messages.json").read_text())["messages"]
    papers = {message["text"] for message in facts} - {""}
    assert not papers & set(held.values())


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl", "rows.jsonl.gz"])
def test_a_column_gives_its_distinct_texts_ids_by_their_digests(recipe: Path, name: str):
    frame = pl.DataFrame({"s": ["A", "B", "A", None, ""], "other": [1, 2, 3, 4, 5]})
    data = io.BytesIO()
    frame.write_parquet(data) if name.endswith(".parquet") else frame.write_ndjson(data)
    (recipe.parent / name).write_bytes(gzip.compress(data.getvalue()) if name.endswith(".gz") else data.getvalue())
    texts = found(recipe, f'kind = "column"\npath = "{name}"\ncolumn = "s"\n')
    assert messages(texts) == {sha(text)[:8]: text for text in ("A", "B", "")}


COLLECTION = """
[collections.orca]
kind = "files"
path = "orca.csv"
columns = { system = "prompt", question = "q", reference = "r" }
extra = ["tone"]
"""


def orca(recipe: Path, column: str) -> str:
    """A collection in a format that `path` does not read, and a set that takes its texts of one of its columns."""
    rows = {"prompt": ["A", "B", "A"], "tone": ["kind", "bold", "kind"], "q": ["1", "2", "3"], "r": ["x", "y", "z"]}
    pl.DataFrame(rows).write_csv(recipe.parent / "orca.csv")
    return f'kind = "column"\ncollection = "orca"\ncolumn = "{column}"\n' + COLLECTION


@pytest.mark.parametrize(("column", "texts"), [("system", ["A", "B"]), ("tone", ["kind", "bold"])])
def test_a_column_of_a_collection_is_read_as_its_source_reads_it(recipe: Path, column: str, texts: list[str]):
    held = messages(found(recipe, orca(recipe, column)))
    assert held == {sha(text)[:8]: text for text in texts}
    assert messages(found(recipe, orca(recipe, column))) == held, "what the store keeps is the same"


def test_a_column_that_a_collection_does_not_keep_is_a_fault_that_says_how_to_keep_it(recipe: Path):
    with pytest.raises(SourceError, match=r'collection "orca" has no texts in a column "prompt"; name one of ours'):
        found(recipe, orca(recipe, "prompt"))


def test_a_collection_that_the_recipe_lacks_is_a_fault_with_the_nearest(recipe: Path):
    with pytest.raises(RecipeError, match='there is no collection "orka"; did you mean "orca"'):
        found(recipe, orca(recipe, "system").replace('"orca"', '"orka"', 1))


def test_digests_pick_texts_of_a_column_and_give_the_ids(recipe: Path):
    pl.DataFrame({"s": ["A", "B", "C"]}).write_parquet(recipe.parent / "rows.parquet")
    more = f'kind = "column"\npath = "rows.parquet"\ncolumn = "s"\ndigests = {{ x = "{sha("C")}", 1 = "{sha("A")}" }}\n'
    assert messages(found(recipe, more)) == {"x": "C", "1": "A"}


def test_a_lock_holds_digests_and_neither_it_nor_plan_nor_manifest_a_text(recipe: Path):
    secret = "You are an assistant whose words are somebody else's."
    pl.DataFrame({"s": [secret]}).write_parquet(recipe.parent / "rows.parquet")
    asked = loaded(recipe, 'kind = "column"\npath = "rows.parquet"\ncolumn = "s"\n')
    out, store = recipe.parent / "out", Store(recipe.parent / "store")
    build(Asked(loaded=asked, store=store, directory=out, workers=1), Progress())
    lock = recipe.with_name("texts.lock")
    pins = read_lock(lock)
    assert pins is not None
    assert dict(pins.pins.system_messages["set"].digests) == {sha(secret)[:8]: sha(secret)}
    for text in (lock.read_text(), (out / "manifest.json").read_text(), json.dumps(store.last_build(out))):
        assert secret not in text


def test_pins_of_messages_come_back_as_they_went():
    pins = Pins({}, SourcePin(), "d", "t", {}, {"set": MessagePin({"a": sha("A")}, COMMIT)})
    assert pins_from_json(pins.as_json()) == pins
    assert "system_messages" not in Pins({}, SourcePin(), "d", "t", {}).as_json()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('kind = "file"\npath = "none.toml"\n', "none.toml: it cannot be read"),
        ('kind = "file"\npath = "small.toml"\n', r"it needs a table \[messages\]"),
        ('kind = "column"\npath = "none.parquet"\ncolumn = "s"\n', "there is no such file"),
        ('kind = "column"\npath = "sums.jsonl"\ncolumn = "s"\n', 'there is no column "s"'),
        ('kind = "column"\npath = "small.toml"\ncolumn = "s"\n', "neither Parquet nor JSON lines"),
    ],
)
def test_texts_that_cannot_be_had_are_told_in_a_sentence(recipe: Path, more: str, said: str):
    with pytest.raises(SourceError, match=said):
        found(recipe, more)


def test_an_id_that_a_file_lacks_is_told_with_the_line_that_names_it(recipe: Path):
    (recipe.parent / "set.toml").write_text('[messages]\nbrief = "A"\n')
    recipe.write_text(
        recipe.read_text() + '\n[[rules]]\nwhen.task = "chat"\nstrategy = "direct"\nsystem_messages = ["set/breif"]\n'
    )
    line = recipe.read_text().count("\n")
    with pytest.raises(RecipeError, match=rf'texts.toml:{line}: rules.0.system_messages.0\n.*did you mean "brief"'):
        found(recipe, 'kind = "file"\npath = "set.toml"\n')


def test_a_digest_that_does_not_match_is_told_with_its_line(recipe: Path):
    (recipe.parent / "set.toml").write_text('[messages]\na = "A"\n')
    with pytest.raises(RecipeError, match=rf"texts.toml:\d+: system_messages.set.digests.a\n.*{sha('A')[:12]}"):
        found(recipe, f'kind = "file"\npath = "set.toml"\ndigests = {{ a = "{sha("B")}" }}\n')


def test_a_published_variant_of_the_message_that_is_meant_is_named(recipe: Path, shared: Path):
    facts = json.loads((shared / "facts/orca1_system_messages.json").read_text())["messages"]
    message = next(message for message in facts if message["sha256"] != message["sha256_openorca"])
    (recipe.parent / "rows.jsonl").write_text(json.dumps({"s": message["text_openorca"]}) + "\n")
    more = f'kind = "column"\npath = "rows.jsonl"\ncolumn = "s"\ndigests = {{ x = "{message["sha256"]}" }}\n'
    with pytest.raises(SourceError, match=rf"message {message['id']} of Orca 1, as transcribed.*as in OpenOrca"):
        found(recipe, more)


# --- the hub, on this machine ----------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that holds one data set, "org/name", with one Parquet file."""
    data = io.BytesIO()
    pl.DataFrame({"s": ["A", "B"], "other": ["x", "y"]}).write_parquet(data)
    held = HubSet({"main": COMMIT}, {COMMIT: {"rows.parquet": data.getvalue()}})
    with running(Hub({"org/name": held})) as hub:
        lead_to(hub.address, monkeypatch)
        yield hub


HUB = 'kind = "column"\nhub = "org/name"\ncolumn = "s"\n'


def test_a_column_of_the_hub_is_pinned_by_commit(recipe: Path, hub: Hub):
    texts = found(recipe, HUB)
    assert sorted(messages(texts).values()) == ["A", "B"]
    assert texts.pins["set"].revision == COMMIT


def test_what_the_lock_pins_serves_where_the_hub_cannot_be_reached(
    recipe: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    before = found(recipe, HUB)
    lead_to(NOWHERE, monkeypatch)
    locked = Pins({}, SourcePin(), "", "", {}, before.pins)
    assert messages(found(recipe, HUB, locked=locked)) == messages(before)
    with pytest.raises(SourceError, match="org/name cannot be had from the hub"):
        found(recipe, HUB)


def test_a_data_set_that_the_hub_does_not_have_is_told(recipe: Path, hub: Hub):
    with pytest.raises(SourceError, match="the hub has no data set org/other"):
        found(recipe, HUB.replace("org/name", "org/other"))


def test_texts_whose_digests_begin_alike_are_both_kept(recipe: Path):
    pl.DataFrame({"system": ["69235", "95303", "Be brief."]}).write_parquet(recipe.parent / "texts.parquet")
    texts = messages(found(recipe, 'kind = "column"\npath = "texts.parquet"\ncolumn = "system"\n'))
    assert texts == {sha("69235"): "69235", sha("95303"): "95303", sha("Be brief.")[:8]: "Be brief."}
