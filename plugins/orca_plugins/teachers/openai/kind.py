"""Any server that speaks OpenAI's chat completions: live, or through its batches.

Only what decides an answer is in the teacher's identity: endpoints, limits, prices and mode may change between two runs
of one build, and no answer is bought again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from orca_plugins.teachers.chat import ChatTeacher
from orca_plugins.teachers.openai.batch import Batches
from orca_plugins.teachers.openai.batch_notes import Left, Notes
from orca_plugins.teachers.openai.endpoint import Endpoint
from orca_plugins.teachers.openai.http import ClientWire
from orca_plugins.teachers.openai.http_processes import ProcessWire
from orca_plugins.teachers.openai.live import Live
from orca_recipes.contract.answers import Collecting, Money
from orca_recipes.contract.destination import Destination
from orca_recipes.errors import TeacherError


class OpenAI(ChatTeacher):
    """Ask a model behind one or several OpenAI-compatible servers.

        [teachers.chatgpt]
        kind = "openai"
        model = "gpt-3.5-turbo-0613"
        temperature = 0.7
        max_tokens = 1024
        on_length = "ask_again"
        prices = { input = 0.5, output = 1.5, batch_discount = 0.5 }
        budget_usd = 100

        [[teachers.chatgpt.endpoints]]
        base_url = "https://api.openai.com/v1"
        key_env = "OPENAI_API_KEY"
        requests_per_minute = 10_000
        input_tokens_per_minute = 2_000_000
        concurrency = 128

    Keys are taken from environment variables when questions are sent, and written nowhere. With `mode = "batch"`
    questions go through files and batches, which cost less and take up to a day; a run that is killed picks up the
    batches it left.

    OpenAI's newer models, and all that reason, refuse `max_tokens`: `token_limit = "max_completion_tokens"` sends the
    same limit under that name, which then bounds an answer together with its hidden reasoning. Stored answers serve
    either name. Needs the extra `orca-recipes[openai]`.
    """

    kind: Literal["openai"] = "openai"
    model: Annotated[str, Field(min_length=1, description="the model, as the server names it")]
    endpoints: Annotated[
        tuple[Endpoint, ...], Field(min_length=1, description="where to ask, each with its key and its limits")
    ] = (Endpoint(key_env="OPENAI_API_KEY"),)
    mode: Annotated[Literal["live", "batch"], Field(description="one by one, or in files (cheaper, within a day)")] = (
        "live"
    )
    token_limit: Annotated[
        Literal["max_tokens", "max_completion_tokens"],
        Field(description="what the server calls max_tokens; models that reason take max_completion_tokens alone"),
    ] = "max_tokens"
    timeout_seconds: Annotated[float, Field(gt=0, description="how long one answer may take")] = 600.0
    processes: Annotated[
        int, Field(gt=0, le=64, description="processes that exchange with servers, all behind the same limits")
    ] = 1

    @model_validator(mode="after")
    def _names_tell_endpoints_apart(self) -> OpenAI:
        titles = [endpoint.title() for endpoint in self.endpoints]
        for title in titles:
            if titles.count(title) > 1:
                raise ValueError(f"two endpoints are called {title}; give each a name")
        return self

    def only_fetching(self) -> frozenset[str]:
        """Return names of the options that decide no answer."""
        return super().only_fetching() | {"endpoints", "mode", "token_limit", "timeout_seconds", "processes"}

    def model_name(self) -> str:
        """Return the model's name, as the server is asked for it."""
        return self.model

    def limit_name(self) -> str:
        """Return the server's name of max_tokens."""
        return self.token_limit

    def money(self) -> Money:
        """Return prices and budget; batches have their discount."""
        return Money(prices=self.prices, budget_usd=self.budget_usd, batch=self.mode == "batch")

    def destinations(self) -> tuple[Destination, ...]:
        """Tell each endpoint's host, and the variable that holds its key."""
        return tuple(Destination.of_url(endpoint.base_url, endpoint.key_env) for endpoint in self.endpoints)

    async def collect(self, collecting: Collecting) -> None:
        """Ask every request; see `Teacher.collect`.

        Raises: PluginError where the openai client is not installed; TeacherError for a key that is missing or refused,
            an unknown model, an empty account, or servers that do not answer for long.
        """
        if self.mode == "batch":
            await self._collect_batches(collecting)
            return
        if collecting.notes is not None:
            left = Left.of(collecting.notes, sampling=self.sampling(), but=None)
            collecting = replace(collecting, requests=left.none_of(collecting.requests))
        async with self._wire() as wire:
            live = Live(self, self.endpoints, wire=wire, collecting=collecting, timeout_seconds=self.timeout_seconds)
            await live.run()

    def _wire(self) -> ClientWire | ProcessWire:
        if self.processes == 1:
            return ClientWire(self.endpoints, timeout_seconds=self.timeout_seconds)
        return ProcessWire(self.endpoints, timeout_seconds=self.timeout_seconds, processes=self.processes)

    async def _collect_batches(self, collecting: Collecting) -> None:
        if collecting.notes is None:
            raise TeacherError(
                'mode = "batch" needs a folder for its notes: keep the traces in one (--traces), or use mode = "live"'
            )
        told = {**self.sampling(), "endpoints": sorted(endpoint.base_url for endpoint in self.endpoints)}
        if self.token_limit != "max_tokens":
            # The questions of a batch that is under way are read by the name that they were sent under.
            told["token_limit"] = self.token_limit
        with Notes(collecting.notes, teacher=told) as held:
            # Before anything is handed over: of two runs that stop for each other's batches neither could go on.
            Left.of(collecting.notes, sampling=self.sampling(), but=held.folder).refuse()
            await Batches(self, self.endpoints, notes=held, collecting=collecting).run()
