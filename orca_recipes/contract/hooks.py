"""The hooks by which plugins offer kinds.

A plugin is any module or object registered under the entry-point group `orca_recipes`, built-in or a stranger's alike.
Each hook returns offers: a kind's name to "module:Class". An offer is a name, not a class, so that `--help` and `check`
import only what a recipe chooses. Hooks are called once, before a recipe is read, and the offers of all plugins joined.
Two plugins may offer one name; a recipe then says `kind = "distribution:name"`.
"""

from collections.abc import Mapping

import pluggy

GROUP = "orca_recipes"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)

Offers = Mapping[str, str]


@hookspec
def orca_sources() -> Offers:
    """Offer kinds of source, which read or generate examples (`[collections.NAME]`): name to "module:Class"."""
    return {}


@hookspec
def orca_strategies() -> Offers:
    """Offer kinds of strategy, how the teacher is asked and what the student sees (`[strategies.NAME]`)."""
    return {}


@hookspec
def orca_teachers() -> Offers:
    """Offer kinds of teacher, which answer (`[teachers.NAME]`)."""
    return {}


@hookspec
def orca_filters() -> Offers:
    """Offer kinds of filter, which keep or reject conversations (`filters` of `[datasets.NAME]`)."""
    return {}


@hookspec
def orca_templates() -> Offers:
    """Offer kinds of chat template (`[template]`)."""
    return {}


@hookspec
def orca_tokenizers() -> Offers:
    """Offer kinds of tokenizer (`[tokenizer]`)."""
    return {}


@hookspec
def orca_packers() -> Offers:
    """Offer kinds of packer, which place examples in rows (`[packing]`)."""
    return {}


@hookspec
def orca_writers() -> Offers:
    """Offer kinds of writer, which write shards (`[output]`)."""
    return {}


@hookspec
def orca_engines() -> Offers:
    """Offer kinds of engine, which run the parts of stages (`[engine]`)."""
    return {}


@hookspec
def orca_exporters() -> Offers:
    """Offer kinds of exporter, which write a build as a trainer reads it (`orca-recipe export --to NAME`)."""
    return {}
