"""The origin of a tokenizer's files: a file, a folder, or the Hugging Face hub.

From the hub only the tokenizer's own files are taken. They stay in the hub's cache under their commit, so a run without
network finds what an earlier one has loaded.
"""

from pathlib import Path

from orca_recipes.contract.kinds import SourceFile
from orca_recipes.errors import TokenizerError

DEFINITION, MODEL = "tokenizer.json", "tokenizer.model"
CONFIG, SPECIAL, ADDED, TEMPLATE = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
_COMPANIONS = (CONFIG, SPECIAL, ADDED, TEMPLATE)


def local_files(path: Path) -> list[SourceFile]:
    """List the files of a tokenizer at a path, sorted by name.

    Raises: TokenizerError where there is none.
    """
    if path.is_file():
        return [SourceFile(path.name, path)]
    if not path.is_dir():
        raise TokenizerError(
            f"there is no tokenizer at {path}; give a tokenizer.json, a .model file or a folder with one"
        )
    cuts_text = next((name for name in (DEFINITION, MODEL) if (path / name).is_file()), None)
    if cuts_text is None:
        raise TokenizerError(f"the folder {path} has neither {DEFINITION} nor {MODEL}; give one that has")
    names = [cuts_text, *(name for name in _COMPANIONS if (path / name).is_file())]
    return [SourceFile(name, path / name) for name in sorted(names)]


def hub_files(name: str, revision: str) -> list[SourceFile]:
    """List the files of a tokenizer of the hub, sorted by name, downloading those that are not there yet.

    Raises: TokenizerError where the hub has no such tokenizer, or cannot be reached and nothing is there.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    wanted = [DEFINITION, MODEL, *_COMPANIONS]
    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=wanted)
    except GatedRepoError:
        raise TokenizerError(f"{name} asks for consent: accept its terms on the hub and run `hf auth login`") from None
    except RevisionNotFoundError:
        raise TokenizerError(
            f"{name} has no revision {revision} on the hub; name a branch, tag or commit that it has"
        ) from None
    except RepositoryNotFoundError:
        raise TokenizerError(
            f"the hub has no {name}, or it is private: check the name, or run `hf auth login`"
        ) from None
    except (HfHubHTTPError, OSError, ValueError) as fault:
        first = str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__
        raise TokenizerError(
            f"{name} at {revision} cannot be had from the hub and is not in the cache ({first}); "
            "connect once, or give a `path`"
        ) from None
    return local_files(Path(folder))
