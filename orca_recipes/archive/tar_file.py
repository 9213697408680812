"""The one file: a plain tar whose first member is a manifest of all others; the same content is the same bytes.

What comes from elsewhere is not trusted: only plain files that the manifest lists are taken out, each held against its
size and digest, and none at a path that leads out of the folder.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from orca_recipes.errors import BuildError
from orca_recipes.shards.digests import file_digest
from orca_recipes.store.disk_faults import writing

FORMAT = 1
MANIFEST = "manifest.json"
TREE = "tree"
# It is read whole into memory, and an archive may come from anybody: a member that says it is larger is no manifest.
_MOST_MANIFEST_BYTES = 1 << 28


def write_archive(out: Path, manifest: Mapping[str, Any], contents: Mapping[str, Path | bytes]) -> None:
    """Write the archive aside and rename it.

    Args:
        contents: path in the tree to a file, or to bytes.
    """
    aside = out.with_name(f".{out.name}.new")
    try:
        with writing(out.parent, f"the archive {out}"):
            out.parent.mkdir(parents=True, exist_ok=True)
            with tarfile.open(aside, "w", format=tarfile.PAX_FORMAT) as tar:
                _add(tar, MANIFEST, (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())
                for path, content in sorted(contents.items()):
                    _add(tar, f"{TREE}/{path}", content)
            aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)


def _add(tar: tarfile.TarFile, name: str, content: Path | bytes) -> None:
    member = tarfile.TarInfo(name)
    # A TarInfo made by hand has no time, owner or mode of a machine: equal content is equal bytes.
    member.mode = 0o644
    if isinstance(content, bytes):
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
        return
    member.size = content.stat().st_size
    with content.open("rb") as file:
        tar.addfile(member, file)


def unpack(archive: Path, folder: Path) -> dict[str, Any]:
    """Take the files of an archive out into a folder; return its manifest.

    Raises: BuildError where it is no archive of ours, of a newer format, or was edited.
    """
    try:
        # "r:" reads plain tars alone: a compressed one may unpack to far more than it weighs.
        with tarfile.open(archive, "r:") as tar:
            manifest = _manifest(archive, tar)
            _take_out(archive, tar, {str(file["path"]): file for file in manifest["files"]}, folder)
    except FileNotFoundError as fault:
        raise BuildError(
            f"{archive}: there is no such archive; name the .tar that `orca-recipe archive` wrote"
        ) from fault
    except (tarfile.TarError, EOFError, KeyError, TypeError, AttributeError) as fault:
        raise BuildError(f"{archive}: it is no archive of orca-recipe, or was cut ({fault}); fetch it again") from fault
    return manifest


def _manifest(archive: Path, tar: tarfile.TarFile) -> dict[str, Any]:
    first = tar.next()
    file = tar.extractfile(first) if first is not None and first.isreg() and first.name == MANIFEST else None
    if first is None or file is None or first.size > _MOST_MANIFEST_BYTES:
        raise BuildError(f"{archive}: it is no archive of orca-recipe: its first member is no {MANIFEST}")
    try:
        manifest = json.loads(file.read())
    except (ValueError, RecursionError) as fault:
        raise BuildError(f"{archive}: its {MANIFEST} is not JSON; fetch it again") from fault
    if manifest["format"] != FORMAT:
        made = manifest["environment"]["packages"]["orca-recipes"]
        raise BuildError(
            f"{archive}: it has format {manifest['format']}, and this program reads format {FORMAT}: "
            f"pip install 'orca-recipes>={made}'"
        )
    for name in (*(file["path"] for file in manifest["files"]), manifest["recipe"]):
        if not _is_inside(name):
            raise BuildError(f"{archive}: {name!r} leads out of the archive; it was not made by orca-recipe")
    return dict(manifest)


def _is_inside(name: Any) -> bool:
    if not isinstance(name, str) or "\\" in name or "\0" in name:
        return False
    parts = name.split("/")
    return not PurePosixPath(name).is_absolute() and not {"", ".", ".."} & set(parts)


def _take_out(archive: Path, tar: tarfile.TarFile, files: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    left = dict(files)
    while (member := tar.next()) is not None:
        name = member.name.removeprefix(f"{TREE}/")
        listed = left.pop(name, None)
        held = tar.extractfile(member) if member.isreg() and member.name.startswith(f"{TREE}/") else None
        if listed is None or held is None or member.size != listed["bytes"]:
            raise BuildError(f"{archive}: it was edited: {member.name!r} is not what its manifest lists")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with held, path.open("xb") as file:
            shutil.copyfileobj(held, file)
        if file_digest(path) != listed["digest"]:
            raise BuildError(f"{archive}: it was edited: {name} has another digest than its manifest lists")
    if left:
        raise BuildError(f"{archive}: it was edited: it lacks {', '.join(sorted(left)[:3])}")
