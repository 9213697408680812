"""What collecting shows: progress, rates against limits, money, errors and time left."""

from collections.abc import Sequence
from dataclasses import replace

from orca_recipes.contract.answers import Answer, Money, Prices
from orca_recipes.progress import Lines, Progress
from orca_recipes.run.answers.panel import Panel

ANSWER = Answer(b"k" * 32, "t", "stop", None, 100, 0, 50, "m", "m", "home", 1.0, None, None)


class Heard(Progress):
    """Keeps what is said, on a terminal or not."""

    def __init__(self, live: bool) -> None:
        self.said: list[str] = []
        self.lines: Lines | None = None
        self.live = live

    @property
    def is_live(self) -> bool:
        return self.live

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def board(self, lines: Lines | None) -> None:
        self.lines = lines

    def shown(self) -> Sequence[str]:
        assert self.lines is not None
        return self.lines()


class Session:
    """A panel under a clock that stands still until it is moved."""

    def __init__(self, *, money: Money, live: bool = True) -> None:
        self.now = 1000.0
        self.heard = Heard(live)
        self.panel = Panel(self.heard, "gpt", 100, money=money, spent_usd=1.0, clock=lambda: self.now)

    def answer(self, number: int, *, usd: float | None) -> None:
        for _ in range(number):
            self.panel.asked("home")
            self.panel.answered(ANSWER)
            self.panel.kept(ANSWER, usd, is_last=True)


def test_a_terminal_shows_progress_limits_money_errors_and_time_left() -> None:
    session = Session(money=Money(Prices(input=1.0, output=2.0), budget_usd=50.0))
    with session.panel as panel:
        limits = {"input_tokens_per_minute": 9000, "output_tokens_per_minute": None}
        panel.endpoint_limits("home", requests_per_minute=60, **limits)
        session.now += 30
        session.answer(20, usd=0.5)
        panel.kept(replace(ANSWER, text=None, reason="content filter"), 0.5, is_last=True)
        panel.failed("home", "429")
        panel.failed("home", "429")
        panel.failed("home", "timeout")
        panel.endpoint_state("home", "resting 12 s: 503")
        assert session.heard.shown() == [
            "teacher gpt: 21 of 100 answers, 1 rejected by the server; 2 min left",
            "  home (resting 12 s: 503): 40 of 60 requests, 4,000 of 9,000 tokens in, 2,000 tokens out a minute",
            "  10.50 USD spent, 50.00 at the end (budget 50.00, 1.00 spent before)",
            "  tried again: 2 x 429, 1 x timeout",
        ]
    assert session.heard.lines is None


def test_rates_are_those_of_the_last_minute() -> None:
    session = Session(money=Money())
    with session.panel:
        session.answer(30, usd=None)
        session.now += 120
        session.answer(10, usd=None)
        assert " 10 requests" in session.heard.shown()[1]


def test_elsewhere_a_plain_line_comes_every_ten_seconds() -> None:
    session = Session(money=Money(), live=False)
    with session.panel as panel:
        for _ in range(25):
            session.now += 1
            session.answer(1, usd=None)
            panel.tick()
    assert len(session.heard.said) == 1 + 2 + 1
    assert session.heard.said[1].startswith("teacher gpt: 10 of 100 answers; 2 min left")
    assert session.heard.said[-1] == (
        "teacher gpt: 25 of 100 answers kept (25.0 s); cost unknown: the recipe states no prices"
    )


def test_answers_without_usage_are_said_to_have_an_unknown_cost() -> None:
    session = Session(money=Money(Prices(input=1.0, output=2.0)))
    with session.panel:
        session.answer(2, usd=None)
        assert "2 answers came without usage, at an unknown cost" in session.heard.shown()[-1]
