"""A template is tried before a build: training must see what inference sees, or it is refused with the case."""

import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import pytest

from orca_plugins.templates.chatml import ChatML
from orca_plugins.templates.from_tokenizer.kind import FromTokenizer
from orca_plugins.templates.plain import Plain
from orca_plugins.templates.turns import Turn
from orca_plugins.tokenizers.hf.hf_encoder import HFEncoder
from orca_plugins.tokenizers.hf.kind import HF
from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.hooks import hookimpl
from orca_recipes.contract.kinds import Template, Vocabulary
from orca_recipes.contract.markup import Joint, Markup
from orca_recipes.errors import LockError, TemplateError
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build, lock_recipe
from orca_recipes.run.pinning.template_trial import conform
from orca_recipes.run.pinning.trial_conversations import conversations
from orca_recipes.store.store import Store

HOME = Path(__file__).parents[3]
QUICKSTART_TOKENIZER = HOME / "recipes" / "quickstart" / "tokenizer.json"
CHAT_TEMPLATES = HOME / "tests" / "plugins" / "chat_templates"
OWN_TOKENS = {
    "llama3": ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
    "llama2": ("<s>", "</s>"),
    "qwen25": (None, "<|im_end|>", "<|im_start|>"),
    "gemma": ("<bos>", "<end_of_turn>", "<start_of_turn>"),
    "zephyr": (None, "</s>", "<|user|>", "<|assistant|>", "<|system|>"),
}


class Opened:
    """A tokenizer as shipped."""

    def __init__(self, folder: Path, kind: HF) -> None:
        folder.mkdir(parents=True)
        kind.materialize(files=kind.files(), folder=folder)
        self.encoder: HFEncoder = kind.open(folder=folder)
        self.path = folder / "tokenizer.json"

    def verdict(self, template: Template) -> str:
        return self.tried(template.markup(vocabulary=self.encoder.vocabulary))

    def tried(self, markup: Markup) -> str:
        return conform(markup=markup, encoder=self.encoder, tokenizer=self.path)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Callable[[str], Opened]:
    folder = tmp_path_factory.mktemp("tokenizers")
    table = json.loads(QUICKSTART_TOKENIZER.read_text(encoding="utf-8"))
    steps = [{"type": "NFC"}, {"type": "Lowercase"}]
    changing = folder / "changing.json"
    changing.write_text(json.dumps({**table, "normalizer": {"type": "Sequence", "normalizers": steps}}))
    chat = ("<|im_start|>", "<|im_end|>")
    made = {
        "bytes": HF(path=QUICKSTART_TOKENIZER),
        "bytes that change text": HF(path=changing),
        "sentencepiece": HF(path=shared / "data" / "tokenizer", add_special_tokens=chat),
        "pad is the end": HF(path=QUICKSTART_TOKENIZER, pad="<|im_end|>", eos="<|im_end|>"),
    }
    return lru_cache(lambda name: Opened(folder / name, made[name]))


@pytest.fixture(scope="module")
def bytes_only(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return Opened(tmp_path_factory.mktemp("bytes") / "tokenizer", HF(path=QUICKSTART_TOKENIZER))


TEMPLATES = {
    "chatml": ChatML(),
    "chatml with a default": ChatML(default_system="You are\nhelpful."),
    "plain": Plain(terminator="<|im_end|>"),
    "plain without headers": Plain(terminator="<|im_end|>", user=Turn(), assistant=Turn(), system=Turn()),
    "plain with tools": Plain(terminator="<|im_end|>", tool=Turn(header="Tool: ", footer="\n")),
}


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("tokenizer", ["bytes", "bytes that change text", "sentencepiece", "pad is the end"])
def test_our_templates_train_what_inference_sees(tokenizers: Callable[[str], Opened], tokenizer: str, template: str):
    verdict = tokenizers(tokenizer).verdict(TEMPLATES[template])
    number, _, words = verdict.partition(" ")
    assert int(number) > 150
    assert words == "conversations, all as inference sees them"


@pytest.mark.parametrize("name", OWN_TOKENS)
def test_the_templates_that_models_bring_train_what_inference_sees(tmp_path: Path, name: str):
    bos, eos, *others = OWN_TOKENS[name]
    folder = tmp_path / "source"
    folder.mkdir()
    shutil.copyfile(QUICKSTART_TOKENIZER, folder / "tokenizer.json")
    settings = {"bos_token": bos, "eos_token": eos, "chat_template": (CHAT_TEMPLATES / f"{name}.jinja").read_text()}
    named = {key: value for key, value in settings.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(named), encoding="utf-8")
    opened = Opened(tmp_path / "tokenizer", HF(path=folder, add_special_tokens=tuple(filter(None, others))))
    assert opened.verdict(FromTokenizer(date="2024-07-26")).endswith("all as inference sees them")


def chatml(opened: Opened) -> Markup:
    return ChatML().markup(vocabulary=opened.encoder.vocabulary)


def refusal(opened: Opened, markup: Markup) -> str:
    with pytest.raises(TemplateError) as refused:
        opened.tried(markup)
    return str(refused.value)


def test_a_template_that_trains_its_prompt_is_refused_with_the_case(bytes_only: Opened):
    markup = chatml(bytes_only)
    joints = {
        pair: Joint(joint.footer, "") if pair[1] == "assistant" else joint for pair, joint in markup.joints.items()
    }
    told = refusal(bytes_only, replace(markup, joints=joints, answer_prefix="<|im_start|>assistant\n"))
    assert "for the conversation user 'some words 0', assistant" in told
    assert "its jinja prints '<|im_start|>assistant\\n'" in told


def test_a_jinja_that_does_not_end_answers_is_refused_with_the_case(bytes_only: Opened):
    markup = chatml(bytes_only)
    jinja = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% if m.role != 'assistant' %}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    told = refusal(bytes_only, replace(markup, chat_template=jinja))
    assert "assistant 'some words" in told
    assert "its jinja does not end the answer by '<|im_end|>'" in told


def test_a_jinja_with_another_prompt_is_refused_with_the_case(bytes_only: Opened):
    markup = chatml(bytes_only)
    told = refusal(bytes_only, replace(markup, chat_template=markup.chat_template.replace("assistant\\n", "bot\\n")))
    assert "user 'some words 0'" in told


def test_a_jinja_that_strips_contents_is_refused_with_the_content_that_shows_it(bytes_only: Opened):
    markup = chatml(bytes_only)
    told = refusal(
        bytes_only, replace(markup, chat_template=markup.chat_template.replace("['content']", "['content'] | trim"))
    )
    assert "' '" in told or "'\\n" in told or "leading" in told


def test_a_template_whose_answers_end_in_no_control_token_is_refused(bytes_only: Opened):
    assert "would not learn to stop" in refusal(bytes_only, replace(chatml(bytes_only), terminator="\n\n"))


def test_conversations_hold_every_odd_sort_of_content(bytes_only: Opened):
    vocabulary = bytes_only.encoder.vocabulary
    made = conversations(chatml(bytes_only), vocabulary)
    contents = {message["content"] for case in made for message in case.messages}
    assert {"", " ", "\n\n", "12345678901234567890"} <= contents
    assert all(any(control in content for content in contents) for control in vocabulary.control)
    shapes = {tuple(message["role"] for message in case.messages) for case in made}
    assert {("user", "assistant"), ("system", "user", "assistant"), ("user", "assistant") * 4} <= shapes
    assert any(case.cut for case in made)
    assert any(len(case.answers) > 1 for case in made)


def asked(recipe: Path, catalogue: Catalogue | None = None, **more: Any) -> Asked:
    return Asked(
        loaded=load_recipe(recipe, catalogue=catalogue or Catalogue()),
        store=Store(recipe.parent / "store"),
        directory=recipe.parent / "out",
        workers=1,
        **more,
    )


def test_the_verdict_is_an_outcome_of_the_lock(recipe: Path):
    path, _ = lock_recipe(asked(recipe))
    outcomes = tomllib.loads(path.read_text(encoding="utf-8"))["outcomes"]
    assert outcomes["template"].endswith("conversations, all as inference sees them")


def test_another_verdict_than_the_locked_one_is_told_under_locked(recipe: Path):
    build(asked(recipe), Progress())
    path = recipe.with_suffix(".lock")
    path.write_text(path.read_text(encoding="utf-8").replace(" conversations, all as", "0 conversations, all as"))
    with pytest.raises(LockError, match=r'template: locked is ".*", here it is '):
        build(asked(recipe, locked=True), Progress())


class Unending(Template):
    """A stranger's template whose jinja forgets the end of an answer.

    [template]
    kind = "unending"
    """

    kind: Literal["unending"] = "unending"

    def markup(self, *, vocabulary: Vocabulary) -> Markup:
        markup = ChatML().markup(vocabulary=vocabulary)
        return replace(
            markup, chat_template="{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endfor %}"
        )


class Stranger:
    @hookimpl
    def orca_templates(self) -> dict[str, str]:
        return {"unending": f"{__name__}:Unending"}


def test_a_recipe_with_a_template_that_cannot_be_masked_is_refused_before_anything_is_read(recipe: Path):
    text = recipe.read_text(encoding="utf-8").replace('kind = "chatml"', 'kind = "unending"')
    recipe.write_text(text, encoding="utf-8")
    with pytest.raises(TemplateError, match="for the conversation"):
        lock_recipe(asked(recipe, Catalogue(plugins=[Stranger()])))
    assert not list((recipe.parent / "store").rglob("read-*/receipt.json"))
