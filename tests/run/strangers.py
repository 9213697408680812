"""A stranger's package, installed in each way that packages are: its kinds do what ours do, under other names."""

import importlib
import json
import shutil
import sys
import zipfile
from pathlib import Path

HOOKS = {
    "sources": ("files", "orca_plugins.sources.files.kind:Files"),
    "strategies": ("direct", "orca_plugins.strategies.direct:Direct"),
    "teachers": ("reference", "orca_plugins.teachers.reference:Reference"),
    "filters": ("length", "orca_plugins.filters.length:Length"),
    "templates": ("chatml", "orca_plugins.templates.chatml:ChatML"),
    "tokenizers": ("hf", "orca_plugins.tokenizers.hf.kind:HF"),
    "packers": ("best_fit", "orca_plugins.packers.best_fit:BestFit"),
    "writers": ("megatron", "orca_plugins.writers.megatron:Megatron"),
    "engines": ("local", "orca_plugins.engines.local:Local"),
}
"""Each hook with a kind of ours and its class."""

FORMS = ("wheel", "one module", "namespace", "editable", "editable of several packages", "zip")


def code(version: str) -> str:
    """A module that offers a kind "strange" for every hook. It says its version, so two versions are two texts."""
    lines = [
        f'"""Version {version}."""',
        "from typing import Literal",
        *(f"from {target.replace(':', ' import ')}" for _, target in HOOKS.values()),
        "from orca_recipes.contract.hooks import hookimpl",
    ]
    for hook, (_, target) in HOOKS.items():
        ours = target.partition(":")[2]
        lines += [f"class Strange{ours}({ours}):", '    kind: Literal["strange"] = "strange"']
        lines += ["@hookimpl", f"def orca_{hook}():", f'    return {{"strange": __name__ + ":Strange{ours}"}}']
    return "\n".join(lines) + "\n"


class Stranger:
    """A package "stranger" in a folder that is on the path.

    Args:
        site: where packages are installed. form: one of `FORMS`.
    """

    def __init__(self, site: Path, form: str, *, name: str = "stranger") -> None:
        self.site, self.form, self.name = site, form, name
        self.project = site.parent / f"{name}-project"
        self.module = {"namespace": f"acme.{name}", "editable of several packages": f"{name}_kinds"}.get(form, name)

    @property
    def on_path(self) -> list[Path]:
        if self.form.startswith("editable"):
            return [self.site, self.project / "src"]
        return [self.site / f"{self.name}.zip"] if self.form == "zip" else [self.site]

    def install(self, version: str) -> None:
        """Put a version in place of whatever was installed."""
        self.remove()
        self.site.mkdir(parents=True, exist_ok=True)
        tree = self.project / "src" if self.form.startswith("editable") else self.site
        files = {f"{self.module.replace('.', '/')}.py": code(version)}
        if self.form == "wheel":
            files = {f"{self.name}/__init__.py": code(version), f"{self.name}/words.txt": "of the package\n"}
        if self.form == "editable of several packages":
            files = {
                f"{self.module}/__init__.py": f"from {self.name}_core import *\n" + code(version),
                f"{self.name}_core/__init__.py": "",
                f"{self.name}_core/deep/words.txt": "of the other package\n",
            }
        if self.form == "zip":
            with zipfile.ZipFile(self.site / f"{self.name}.zip", "w") as archive:
                for path, text in {**files, **self._notes(version, files)}.items():
                    archive.writestr(zipfile.ZipInfo(path), text)  # of one time: equal texts are equal archives
        else:
            self._write(tree, files)
            self._write(self.site, self._notes(version, {} if tree != self.site else files))
        self.forget()

    def remove(self) -> None:
        for folder in (self.site / self.name, self.site / f"acme/{self.name}", self.project, self.site / "__pycache__"):
            shutil.rmtree(folder, ignore_errors=True)
        for path in (*self.site.glob(f"**/{self.name}.py"), *self.site.glob(f"{self.name}.zip")):
            path.unlink()
        for notes in self.site.glob(f"{self.name}-*.dist-info"):
            shutil.rmtree(notes)
        self.forget()

    def forget(self) -> None:
        """Let the next import read what is there now."""
        for name in [found for found in sys.modules if found.partition(".")[0].startswith((self.name, "acme"))]:
            del sys.modules[name]
        sys.path_importer_cache.clear()
        importlib.invalidate_caches()

    def _notes(self, version: str, files: dict[str, str]) -> dict[str, str]:
        notes = f"{self.name}-{version}.dist-info"
        told = {
            f"{notes}/METADATA": f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {version}\n",
            f"{notes}/entry_points.txt": f"[orca_recipes]\n{self.name} = {self.module}\n",
        }
        if self.form.startswith("editable"):
            origin = {"url": self.project.as_uri(), "dir_info": {"editable": True}}
            told[f"{notes}/direct_url.json"] = json.dumps(origin)
        # What an installer wrote down once is no proof: these digests are of nothing.
        told[f"{notes}/RECORD"] = "".join(f"{path},sha256=nothing,1\n" for path in [*files, *told])
        return told

    @staticmethod
    def _write(folder: Path, files: dict[str, str]) -> None:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
