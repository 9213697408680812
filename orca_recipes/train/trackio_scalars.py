"""A run's scalars for Trackio, where it is installed: a database in the run's own folder, which nothing leaves.

    pip install 'orca-recipes[trackio]'
    TRACKIO_DIR=runs/NAME/trackio trackio show

Trackio would send numbers to wherever its variables say; none of them counts here. It cannot take steps back: a run
that goes on writes its database anew, of the log, so that the curve is that of an undisturbed run.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

TRACKIO = "trackio"
"""The folder of a run that holds the database."""

_LOGGED = ("loss", "learning_rate", "gradient_norm", "validation_loss")


def is_installed() -> bool:
    """Tell whether Trackio can be imported."""
    return importlib.util.find_spec("trackio") is not None


class TrackioScalars:
    """Scalars of one run, a step at a time."""

    def __init__(self, run: Path, earlier: Sequence[Mapping[str, Any]]) -> None:
        """Begin the database of a run.

        earlier: the lines of its log up to the step that it goes on after.
        """
        # They could send the run's numbers to a server, which nobody asked for here.
        for name in [name for name in os.environ if name.startswith("TRACKIO_")]:
            del os.environ[name]
        folder = run.absolute() / TRACKIO
        # Trackio cannot take back steps, so a resumed run writes its database anew from the log.
        shutil.rmtree(folder, ignore_errors=True)
        os.environ["TRACKIO_DIR"] = str(folder)
        with redirect_stdout(StringIO()):
            import trackio

            name = run.absolute().name or "run"
            trackio.init(project=name, name="train", embed=False, auto_log_gpu=False, auto_log_cpu=False)
        self._trackio = trackio
        self._step, self._held = 0, dict[str, float]()
        for line in earlier:
            for name in (name for name in _LOGGED if name in line):
                self.add_scalar(name, line[name], line["step"])
            if "seconds" in line:
                self.add_scalar("target_tokens_per_second", line["target_tokens"] / line["seconds"], line["step"])

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Note one number of a step; a step is written when the next one begins."""
        if step != self._step:
            self._write()
        self._step = step
        self._held[name] = float(value)

    def close(self) -> None:
        """Write what is left, and wait until it is on the disk."""
        self._write()
        with redirect_stdout(StringIO()):
            self._trackio.finish()

    def _write(self) -> None:
        if self._held:
            self._trackio.log(self._held, step=self._step)
        self._held = {}
