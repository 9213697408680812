"""datatrove's tokenizer pipeline: tokens alone, without mask and without rows.

Its best settings here: two tasks in two processes, a file each, no shuffling, ChatML joined as a plain string. Run by
the bench with the peers' interpreter: `python datatrove_tokens.py CORPUS TOKENIZER OUT ROW_TOKENS`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer

TASKS = 2


def adapted(reader: Any, data: dict[str, Any], path: str, at: int | str) -> dict[str, Any]:
    """A conversation as the text that a template would render."""
    turns = (f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in data["messages"])
    return {"text": "".join(turns), "id": f"{path}/{at}", "metadata": {}}


def main() -> None:
    corpus, folder, out, _ = sys.argv[1:]
    halves = _split(Path(corpus), Path(out) / "halves")
    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(str(halves), adapter=adapted),
            DocumentTokenizer(
                f"{out}/tokens", tokenizer_name_or_path=f"{folder}/tokenizer.json", shuffle_documents=False
            ),
        ],
        tasks=TASKS,
        workers=TASKS,
        logging_dir=f"{out}/logs",
    ).run()
    width = (
        2
        if len(json.loads(Path(folder, "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]) < 2**16
        else 4
    )
    size = sum(path.stat().st_size for path in Path(out, "tokens").rglob("*.ds"))
    print(json.dumps({"tokens": size // width, "rows": 0, "trained": 0}))


def _split(corpus: Path, folder: Path) -> Path:
    """A file for each task: datatrove deals out files, not parts of them."""
    folder.mkdir(parents=True)
    files = [(folder / f"{task}.jsonl").open("wb") for task in range(TASKS)]
    with corpus.open("rb") as lines:
        for number, line in enumerate(lines):
            files[number % TASKS].write(line)
    for file in files:
        file.close()
    return folder


if __name__ == "__main__":
    main()
