"""Anchors of a build: what somebody keeps apart from its directory, so that a forged build is found.

A directory alone proves that it agrees with itself. Whoever can rewrite all of it can make it agree again; a lock, a
digest that was noted, or a signature tells that it is not what was built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orca_recipes.errors import LockError, OrcaError
from orca_recipes.prove.signing import is_signed
from orca_recipes.shards.checks.verify_report import DATA_UNKNOWABLE, UNKNOWABLE, Finding, Report
from orca_recipes.shards.manifest import NAME, Manifest, contents_digest, read_manifest

_HOW_IT_WAS_MADE = tuple(name for name in UNKNOWABLE if name.startswith("made."))


@dataclass(frozen=True)
class Anchors:
    """What a user kept apart from a build, to hold it against: a lock, a digest, a signature.

    Attributes:
        lock: the path of a lock and its outcomes. digest: the build's own, or that of its data.
        signature, key: a signature file of `orca-recipe sign`, and the public key of who signed.
    """

    lock: tuple[Path, Mapping[str, Any]] | None = None
    digest: str | None = None
    signature: Path | None = None
    key: Path | None = None


def anchored(directory: Path, report: Report, anchors: Anchors) -> Report:
    """Add to a report what anchors tell: findings where the build is not theirs, and what is unknowable no more.

    Raises: LockError for an anchor that holds nothing to compare, PluginError where ssh-keygen is missing.
    """
    if anchors == Anchors():
        return report
    try:
        manifest = read_manifest(directory)
    except OrcaError:
        return report  # the report says already that there is no sound manifest
    findings: list[Finding] = []
    unknowable = set(report.unknowable)
    if anchors.lock is not None:
        unknowable &= _held_by_lock(*anchors.lock, manifest, findings)
    if anchors.digest is not None:
        unknowable &= _held_by_digest(anchors.digest, manifest, findings)
    if anchors.signature is not None and anchors.key is not None:
        if is_signed(directory / NAME, signature=anchors.signature, key=anchors.key):
            unknowable = set()
        else:
            findings.append(Finding(NAME, f"{anchors.signature} is no signature of it by the key in {anchors.key}"))
    if findings:
        unknowable = set(report.unknowable)
    kept = tuple(name for name in UNKNOWABLE if name in unknowable)
    return replace(report, findings=(*findings, *report.findings), unknowable=kept)


def _held_by_lock(path: Path, outcomes: Mapping[str, Any], manifest: Manifest, findings: list[Finding]) -> set[str]:
    """Compare with a lock; return what stays unknowable where they agree."""
    if "manifest" not in outcomes:
        raise LockError(
            f"{path}: its recipe was not built since it was locked, so it holds no digest to compare with; "
            "name the lock that `orca-recipe build` wrote"
        )
    if outcomes["manifest"] == manifest.digest:
        return set(_HOW_IT_WAS_MADE)
    if outcomes.get("contents") == contents_digest(manifest):
        told = "its contents are the lock's, its recipe's words or --set are others than were locked"
    else:
        pairs = (
            ("its digest", manifest.digest, outcomes["manifest"]),
            ("the digest of its data", manifest.data_digest, outcomes.get("data", manifest.data_digest)),
        )
        told = "; ".join(f"{what} is {here}, in the lock {there}" for what, here, there in pairs if here != there)
    findings.append(Finding(NAME, f"it is not the build of the lock {path}: {told}"))
    return set()


def _held_by_digest(digest: str, manifest: Manifest, findings: list[Finding]) -> set[str]:
    """Compare with a digest that was noted; return what stays unknowable where they agree."""
    if digest == manifest.digest:
        return set(_HOW_IT_WAS_MADE)
    if digest == manifest.data_digest:
        return set(UNKNOWABLE) - set(DATA_UNKNOWABLE)
    findings.append(
        Finding(NAME, f"its digest is {manifest.digest}, that of its data {manifest.data_digest}: none is {digest}")
    )
    return set()
