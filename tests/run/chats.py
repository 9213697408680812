"""The smallest recipe over chats: one collection, the quickstart's tokenizer, ChatML."""

from collections.abc import Iterable
from pathlib import Path

from orca_recipes.catalogue import Catalogue
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.store.store import Store

QUICKSTART_TOKENIZER = Path(__file__).parents[2] / "recipes" / "quickstart" / "tokenizer.json"
RECIPE = """\
name = "chats"
seed = 1

[collections.chats]
kind = "files"
path = "chats.jsonl"
task = "chat"
columns = {{ messages = "messages" }}

[tokenizer]
kind = "hf"
path = "{tokenizer}"

[template]
kind = "chatml"
"""


def recipe_of(folder: Path, lines: Iterable[str]) -> Path:
    """A recipe over these lines of JSON, in a folder that is made where there is none."""
    folder.mkdir(exist_ok=True)
    (folder / "chats.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    path = folder / "chats.toml"
    path.write_text(RECIPE.format(tokenizer=QUICKSTART_TOKENIZER.as_posix()), encoding="utf-8")
    return path


def built(recipe: Path, *, store: Path, out: Path) -> None:
    """Build a recipe with one worker."""
    loaded = load_recipe(recipe, catalogue=Catalogue(), profile=None, overrides=())
    build(Asked(loaded, Store(store), out, workers=1), Progress())
