"""The ten pieces that plugins offer kinds of, each line one symmetry: word, hook, class, table.

A recipe chooses nine of them; an exporter is chosen where a build is exported.

Everything that goes from a recipe's table to a class, or back, goes through this table; nothing else lists them.
"""

from dataclasses import dataclass

from orca_recipes.contract import kinds
from orca_recipes.contract.exporter import Exporter
from orca_recipes.contract.kinds import Kind


@dataclass(frozen=True)
class Piece:
    """One line of the table: `word` is how messages call a kind of it, `table` how people write it."""

    word: str
    hook: str
    contract: type[Kind]
    table: str

    @property
    def is_of_recipe(self) -> bool:
        """Tell whether a recipe chooses the piece in a table of its own."""
        return self.table.startswith("[")


@dataclass(frozen=True)
class Offer:
    """One kind that one distribution offers: `target` is its "module:Class"."""

    hook: str
    name: str
    target: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".rstrip()


PIECES = (
    Piece("source", "orca_sources", kinds.Source, "[collections.NAME]"),
    Piece("strategy", "orca_strategies", kinds.Strategy, "[strategies.NAME]"),
    Piece("teacher", "orca_teachers", kinds.Teacher, "[teachers.NAME]"),
    Piece("filter", "orca_filters", kinds.Filter, "[[datasets.NAME.filters]]"),
    Piece("template", "orca_templates", kinds.Template, "[template]"),
    Piece("tokenizer", "orca_tokenizers", kinds.Tokenizer, "[tokenizer]"),
    Piece("packer", "orca_packers", kinds.Packer, "[packing]"),
    Piece("writer", "orca_writers", kinds.Writer, "[output]"),
    Piece("engine", "orca_engines", kinds.Engine, "[engine]"),
    Piece("exporter", "orca_exporters", Exporter, "orca-recipe export --to NAME"),
)


def piece_of_hook(hook: str) -> Piece:
    """Find the piece offered by a hook. Raises: KeyError where no hook has that name."""
    return {piece.hook: piece for piece in PIECES}[hook]


def piece_of_kind(kind: type[Kind]) -> Piece:
    """Find the piece of a kind's class, or of the contract's class itself. Raises: KeyError for a class that is no
    piece."""
    for piece in PIECES:
        if issubclass(kind, piece.contract):
            return piece
    raise KeyError(kind.__name__)
