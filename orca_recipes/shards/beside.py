"""What may stand beside a build's own files: its card, and what a hub puts into a download.

No build lists them and none reads them, so their contents prove and disprove nothing.
"""

CARD = ("README.md", "croissant.json")
"""What `orca-recipe card` writes, where it was put beside the files."""

_OF_HUBS = ".gitattributes"
_OF_DOWNLOADS = ".cache/huggingface/"


def is_beside(path: str) -> bool:
    """Tell whether a path within a build's folder is of its card, or of a hub that it was downloaded from."""
    return path in (*CARD, _OF_HUBS) or path.startswith(_OF_DOWNLOADS)
