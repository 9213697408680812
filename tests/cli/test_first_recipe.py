"""`orca-recipe init`: from data to a recipe that is sound and builds; and what `check` and `plan` tell of it."""

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orca_recipes.cli.main import main

TOKENIZER = Path(__file__).parents[2] / "recipes" / "quickstart" / "tokenizer.json"
ALPACA = [
    {"instruction": "Translate", "input": "good morning", "output": "bonjour"},
    {"instruction": "Name a colour", "input": "", "output": "red"},
]
TALK = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}
TREE = {"prompt": {"text": "Hi", "role": "prompter", "replies": [{"text": "Hello.", "role": "assistant"}]}}


def orca(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, words)])


def data(folder: Path, rows: list[dict], name: str = "rows.jsonl") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("rows", "shape", "spoken"),
    [
        (ALPACA, "alpaca", ["bonjour", "red"]),
        ([TALK], "sharegpt", ["Hello."]),
        ([TREE], "oasst_tree", ["Hello."]),
        ([{"conversations": ["Hi", "Hello."]}], "lima", ["Hello."]),
        ([{"conversation": [{"input": "Hi", "output": "Hello."}]}], "capybara", ["Hello."]),
        ([{"chat": "USER: Hi ASSISTANT: Hello. <|endoftext|>", "system": ""}], "glaive", ["Hello."]),
    ],
)
def test_what_is_written_is_sound_and_builds(tmp_path: Path, rows: list[dict], shape: str, spoken: list[str]):
    path, recipe, out = data(tmp_path / "in", rows), tmp_path / "my" / "r.toml", tmp_path / "out"
    done = orca("init", path, "-o", recipe, "--tokenizer", TOKENIZER, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told) == {"recipe", "shape", "candidates", "columns", "rows_seen"}
    assert (told["recipe"], told["shape"], told["rows_seen"]) == (str(recipe), shape, len(rows))
    assert told["candidates"][0] == shape
    checked = orca("check", recipe, "--json")
    assert json.loads(checked.stdout)["data"] == []
    built = orca("build", recipe, "--out", out, "--store", tmp_path / "s")
    assert built.exit_code == 0, built.stderr
    shown = [json.loads(line) for line in orca("show", out, "--json").stdout.splitlines()]
    trained = ["".join(part["text"] for part in one["segments"] if part["trained"]) for one in shown]
    assert sorted(trained) == [f"{text}<|im_end|>" for text in spoken]


def test_a_folder_is_looked_at_as_a_file_is(tmp_path: Path):
    folder = data(tmp_path / "in", ALPACA).parent
    assert json.loads(orca("init", folder, "-o", tmp_path / "r.toml", "--json").stdout)["shape"] == "alpaca"
    assert tomllib.loads((tmp_path / "r.toml").read_text())["collections"]["in"]["path"] == "in"


@pytest.mark.parametrize(("name", "mark"), [("rows.csv", ","), ("rows.tsv", "\t")])
def test_a_small_table_is_looked_at_whole_with_texts_of_several_lines(tmp_path: Path, name: str, mark: str):
    said = '"What is\nit?"' if mark == "," else "What is it?"
    (tmp_path / name).write_text(f"question{mark}answer\n{said}{mark}4\n\nAnd that?{mark}five\n")
    done = orca("init", tmp_path / name, "-o", tmp_path / "r.toml", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["shape"], told["rows_seen"]) == ("question_answer", 2)


def test_what_is_left_out_is_told_by_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data(tmp_path, [{"lang": "en", **TREE}], "trees.jsonl")
    data(tmp_path, ALPACA)
    monkeypatch.chdir(tmp_path)
    assert orca("init", "trees.jsonl", "--tokenizer", "some/model").exit_code == 0
    assert tomllib.loads(Path("trees.toml").read_text())["tokenizer"] == {"model": "some/model"}
    assert '# where = { lang = "en" }' in Path("trees.toml").read_text()
    # Columns alone read no tree.
    assert "In place of a shape" not in Path("trees.toml").read_text()
    orca("init", "rows.jsonl")
    assert "# where = { instruction = { null = false } }" in Path("rows.toml").read_text()
    assert "name another with -o" in orca("init", "rows.jsonl").stderr


def test_without_a_tokenizer_the_recipe_says_what_is_missing(tmp_path: Path):
    done = orca("init", data(tmp_path, ALPACA), "-o", tmp_path / "r.toml")
    assert "name its tokenizer there" in done.stdout
    assert "# [tokenizer]" in (tmp_path / "r.toml").read_text()
    assert orca("check", tmp_path / "r.toml").exit_code == 2


def test_a_tokenizer_that_brings_a_template_is_taken_with_it(tmp_path: Path):
    folder = tmp_path / "tok"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    orca("init", data(tmp_path, ALPACA), "-o", tmp_path / "r.toml", "--tokenizer", folder)
    recipe = tomllib.loads((tmp_path / "r.toml").read_text())
    assert (recipe["template"], recipe["tokenizer"]["path"]) == ({"kind": "from_tokenizer"}, "tok")


def test_a_recipe_that_is_there_is_not_written_over(tmp_path: Path):
    (tmp_path / "r.toml").write_text("mine")
    done = orca("init", data(tmp_path, ALPACA), "-o", tmp_path / "r.toml")
    assert (done.exit_code, (tmp_path / "r.toml").read_text()) == (2, "mine")
    assert "name another" in done.stderr


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        ([{"a": "b"}], [], "no shape that is known (columns: a)"),
        ([{"query": "a", "response": "b", "prompt": "c"}], [], "fit the shapes"),
        (ALPACA, ["--shape", "alpacca"], 'there is no shape "alpacca"; did you mean "alpaca"'),
        (ALPACA, ["--tokenizer", "nowhere"], "there is no such tokenizer"),
    ],
)
def test_what_cannot_be_told_is_one_sentence_and_nothing_is_written(tmp_path: Path, rows, words, said):
    done = orca("init", data(tmp_path, rows), "-o", tmp_path / "r.toml", *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not (tmp_path / "r.toml").exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "rows.jsonl"]


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_of_several_lists_in_one_object_the_one_that_is_named_is_read(tmp_path: Path, name: str):
    lists = {"train": ALPACA, "test": ALPACA[:1]}
    (tmp_path / name).write_text(json.dumps(lists), encoding="utf-8")
    assert "init: --rows train" in orca("init", tmp_path / name, "-o", tmp_path / "r.toml").stderr
    told = json.loads(orca("init", tmp_path / name, "--rows", "test", "-o", tmp_path / "r.toml", "--json").stdout)
    assert (told["shape"], told["rows_seen"]) == ("alpaca", 1)
    assert tomllib.loads((tmp_path / "r.toml").read_text())["collections"]["rows"]["rows"] == "test"
    hub = orca("init", "some/thing", "--rows", "train", "-o", tmp_path / "s.toml")
    assert "--rows is for files of JSON" in hub.stderr


def test_columns_that_are_named_take_the_place_of_a_shape(tmp_path: Path):
    path = data(tmp_path, [{"q": "Hi", "a": "Hello."}])
    words = ["--column", "question=q", "--column", "answer=a", "--tokenizer", TOKENIZER]
    told = json.loads(orca("init", path, "-o", tmp_path / "r.toml", *words, "--json").stdout)
    assert (told["shape"], told["columns"]) == (None, {"question": "q", "answer": "a"})
    table = tomllib.loads((tmp_path / "r.toml").read_text())["collections"]["rows"]
    assert table["columns"] == {"question": "q", "answer": "a"}
    assert "shape" not in table
    assert json.loads(orca("check", tmp_path / "r.toml", "--json").stdout)["data"] == []
    for wrong, said in {"q": "write OURS=THEIRS", "anser=a": 'did you mean "answer"'}.items():
        assert said in orca("init", path, "-o", tmp_path / "s.toml", "--column", wrong).stderr


def test_rows_with_calls_are_told_of_where_the_template_has_no_place_for_them(tmp_path: Path):
    call = {"function": {"name": "f", "arguments": "{}"}}
    rows = [
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "", "tool_calls": [call]}]}
    ]
    done = orca("init", data(tmp_path, rows), "-o", tmp_path / "r.toml", "--tokenizer", TOKENIZER)
    assert "some of these rows hold calls, which the template chatml does not print" in done.stderr
    folder = tmp_path / "tok"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    for said, is_told in {"{{ messages }}": True, "{{ messages[0].tool_calls }}": False}.items():
        (folder / "chat_template.jinja").write_text(said)
        done = orca("init", tmp_path / "rows.jsonl", "-o", tmp_path / f"{is_told}.toml", "--tokenizer", folder)
        assert ("chat_template.jinja does not print: rows with calls" in done.stderr) is is_told


def test_of_two_shapes_the_one_that_is_named_is_taken(tmp_path: Path):
    path = data(tmp_path, [{"query": "a", "response": "b", "prompt": "c"}])
    told = json.loads(orca("init", path, "-o", tmp_path / "r.toml", "--shape", "query_response", "--json").stdout)
    assert (told["shape"], told["candidates"]) == ("query_response", ["prompt_response", "query_response"])


def test_questions_alone_are_told_of(tmp_path: Path):
    path = data(tmp_path, [{"messages": [{"role": "user", "content": "Hi"}]}])
    assert "none of these rows brings an answer" in orca("init", path, "-o", tmp_path / "r.toml").stderr


def recipe_of(folder: Path, options: str, name: str = "rows.jsonl") -> Path:
    path = folder / "r.toml"
    path.write_text(
        f'name = "r"\n[collections.c]\nkind = "files"\npath = "{name}"\n{options}\n'
        f'[tokenizer]\nkind = "hf"\npath = "{TOKENIZER.as_posix()}"\n[template]\nkind = "chatml"\n'
    )
    return path


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (ALPACA, 'columns = { question = "instruction", answer = "output" }', "and the recipe does not read input"),
        ([TALK], "", 'shape = "sharegpt" reads them, or columns = { messages = "conversations"'),
        ([TALK], 'columns = { messages = "talk" }', 'no column "talk"; the file has: conversations'),
        (
            [{"messages": [{"role": "alien", "content": "a"}]}],
            "",
            'rows.jsonl: its only row cannot be read: messages: the role "alien"',
        ),
    ],
)
def test_check_tells_what_first_rows_seem_to_be(tmp_path: Path, rows, options, said):
    data(tmp_path, rows)
    done = orca("check", recipe_of(tmp_path, options))
    assert done.exit_code == 0
    assert said in done.stderr
    assert "r.toml:2: collections.c" in done.stderr


def test_check_tells_of_files_whose_names_do_not_say_that_they_are_compressed(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(b"\x1f\x8b\x08\x00" + bytes(20))
    assert "rows.jsonl: is gzip: name it rows.jsonl.gz" in orca("check", recipe_of(tmp_path, "")).stderr


def test_a_recipe_is_sound_without_its_data(tmp_path: Path):
    done = orca("check", recipe_of(tmp_path, ""))
    assert done.exit_code == 0
    assert "no such file or folder" in done.stderr


def test_plan_and_lock_say_which_shape_was_recognised(tmp_path: Path):
    data(tmp_path, ALPACA)
    recipe, store = recipe_of(tmp_path, 'shape = "auto"'), tmp_path / "s"
    assert "collections.c: read as alpaca" in orca("plan", recipe, "--store", store).stdout
    assert json.loads(orca("plan", recipe, "--store", store, "--json").stdout)["shapes"] == {"c": "alpaca"}
    orca("lock", recipe, "--store", store)
    lock = tomllib.loads((tmp_path / "r.lock").read_text())
    assert lock["pins"]["collections"]["c"]["versions"] == {"shape": "alpaca"}


def test_kinds_lists_shapes_with_an_example_of_each():
    page = orca("kinds", "files").stdout
    assert "alpaca: instruction, input (may be empty) and output" in page
    assert '{"instruction": "Translate to French"' in page
    (told,) = json.loads(orca("kinds", "files", "--json").stdout)["kinds"]
    assert set(told["shapes"]["dolly"]) == {"about", "example"}


def test_some_questions_without_an_answer_and_columns_that_nothing_reads_are_told(tmp_path: Path):
    path = data(tmp_path, [{**ALPACA[0], "output": ""}, {**ALPACA[1], "colour": "red"}])
    done = orca("init", path, "-o", tmp_path / "r.toml")
    assert "1 of these rows bring no answer; a teacher must give it, or they are lost" in done.stderr
    assert "columns that nothing reads: colour" in done.stdout
    assert "# Nothing reads: colour\n" in (tmp_path / "r.toml").read_text()


def test_a_table_without_a_header_is_read_by_the_numbers_of_its_columns(tmp_path: Path):
    (tmp_path / "rows.tsv").write_text("2+2?\t4\n3+3?\t6\n")
    fails = orca("init", tmp_path / "rows.tsv", "-o", tmp_path / "r.toml")
    assert "without a header columns are numbered: --column question=1 --column answer=2" in fails.stderr
    done = orca(
        "init", tmp_path / "rows.tsv", "-o", tmp_path / "r.toml", "--column", "question=1", "--column", "answer=2"
    )
    assert (done.exit_code, done.stderr) == (0, "")
    assert tomllib.loads((tmp_path / "r.toml").read_text())["collections"]["rows"]["header"] is False
    assert "warning" not in orca("check", tmp_path / "r.toml").stderr.replace("warning: no tokenizer", "")


@pytest.mark.parametrize("start", ["", "\ufeff", ","], ids=["plain", "excel", "pandas"])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_short_table_is_known_by_its_columns(tmp_path: Path, start: str, rows: int):
    index = "0," if start == "," else ""
    text = f"{start}question,answer\n" + f"{index}2+2?,4\n" * rows
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    told = json.loads(orca("init", tmp_path / "rows.csv", "-o", tmp_path / "r.toml", "--json").stdout)
    assert (told["shape"], told["rows_seen"]) == ("question_answer", rows)
    assert "Nothing reads" not in (tmp_path / "r.toml").read_text()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.jsonl", "", "no row can be read at its beginning; it is empty, damaged, or holds no rows"),
        ("rows.json", '[{"a": ', "no row can be read at its beginning; it is empty, damaged, or holds no rows"),
        (
            "rows.csv",
            "question,answer\n",
            "no row can be read at its beginning; it is empty, damaged, or holds no row below",
        ),
        ("rows.toml", 'name = "r"', "this is a recipe, not data; orca-recipe check"),
        ("rows.txt", "a", "the name does not say the format; end it with one of .jsonl"),
        (
            "task.json",
            '{\n"Definition": "Add.", "Positive Examples": [{"input": "1"}], "Instances": [{"input": "2"}]}',
            'it is a task of Natural Instructions, which collections of kind = "niv2" read',
        ),
    ],
)
def test_what_is_no_data_is_told_in_a_sentence(tmp_path: Path, name: str, content: str, said: str):
    (tmp_path / name).write_text(content)
    done = orca("init", tmp_path / name, "-o", tmp_path / "out.toml")
    assert done.exit_code != 0
    assert said in str(done.stderr or done.exception)


def test_files_in_the_folders_below_are_told_of(tmp_path: Path):
    (tmp_path / "in").mkdir()
    data(tmp_path / "in" / "a", ALPACA)
    done = orca("init", tmp_path / "in", "-o", tmp_path / "r.toml")
    assert "a pattern names those in the folders below it" in str(done.stderr or done.exception)
    assert "**" in str(done.stderr or done.exception)


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ([{"query": "a", "response": "b", "prompt": "c"}], 'shape = "auto"', 'fit the shapes "prompt_response" and'),
        ([{"colour": "a"}], 'shape = "auto"', "its first rows have no shape that is known (columns: colour)"),
        ([{"messages": [{"role": "alien", "content": "a"}]}], 'shape = "auto"', "its only row cannot be read"),
    ],
)
def test_check_tells_of_a_layout_that_a_build_could_not_tell(tmp_path: Path, rows, options, said):
    data(tmp_path, rows)
    assert said in orca("check", recipe_of(tmp_path, options)).stderr


def test_check_suggests_no_layout_that_reads_what_the_recipe_reads_already(tmp_path: Path):
    data(tmp_path, [{"question": "a", "answer": "b", "lang": 5}])
    done = orca("check", recipe_of(tmp_path, 'where = { lang = "en" }'))
    assert 'where: "lang" is not text' in done.stderr
    assert "look like" not in done.stderr


def test_splits_of_a_data_set_are_told_and_can_be_chosen(tmp_path: Path):
    rows, clone = [{"question": "2+2?", "answer": "4"}], tmp_path / "clone"
    clone.mkdir()
    for name in ("main", "other"):
        for split in ("train", "test"):
            data(clone / name, rows, f"{split}.jsonl")
    told = "".join(
        f"- config_name: {name}\n  data_files:\n"
        + "".join(f"  - split: {split}\n    path: {name}/{split}.jsonl\n" for split in ("train", "test"))
        for name in ("main", "other")
    )
    (clone / "README.md").write_text(f"---\nconfigs:\n{told}---\n")
    which = orca("init", clone, "-o", tmp_path / "r.toml")
    assert which.exit_code == 2
    assert "set config to one of main, other" in which.stderr
    done = orca("init", clone, "-o", tmp_path / "r.toml", "--config", "main")
    assert f"{clone}: it has splits train, test; the recipe reads train\n" in done.stdout
    assert tomllib.loads((tmp_path / "r.toml").read_text())["collections"]["clone"]["config"] == "main"
    tested = orca("init", clone, "-o", tmp_path / "t.toml", "--config", "main", "--split", "test")
    assert "the recipe reads test" in tested.stdout
    assert tomllib.loads((tmp_path / "t.toml").read_text())["collections"]["clone"]["split"] == "test"


def test_a_set_to_test_with_that_would_be_trained_on_is_told(tmp_path: Path):
    rows = [{"question": "2+2?", "answer": "4"}]
    for name in ("train-0.jsonl", "test-0.jsonl", "more.jsonl"):
        data(tmp_path / "in", rows, name)
    done = orca("init", tmp_path / "in", "-o", tmp_path / "r.toml")
    said = "iles named as sets to test with are read, too: test-0.jsonl; a pattern in path leaves them out"
    assert f"f{said}" in done.stdout
    assert f"# F{said}" in (tmp_path / "r.toml").read_text()
    assert "to test" not in orca("init", tmp_path / "in" / "test*", "-o", tmp_path / "s.toml").stdout
