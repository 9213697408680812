"""What tells who somebody is, found by its form; numbers of cards and accounts also by their check digits."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from orca_recipes.contract.kinds import Filter

if TYPE_CHECKING:
    import polars as pl

Sort = Literal["email", "phone", "card", "iban", "ip"]

_FORMS: dict[str, str] = {
    "email": r"(?i)\b[a-z0-9._%+-]+@(?:[a-z0-9-]+\.)+[a-z]{2,}\b",
    "phone": r"\+[1-9][0-9]{0,2}[ .-]?(?:\(?[0-9]{1,4}\)?[ .-]?){2,4}[0-9]{2,4}\b",
    "card": r"\b(?:[0-9][ -]?){12,18}[0-9]\b",
    "iban": r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b",
    "ip": r"\b(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\b",
}
_SAID = {
    "email": "holds an e-mail address",
    "phone": "holds a telephone number",
    "card": "holds a card number",
    "iban": "holds an account number",
    "ip": "holds an IP address",
}


class PII(Filter):
    """Reject conversations that hold an e-mail address, a telephone, card or account number, or an IP address.

    [[datasets.main.filters]]
    kind = "pii"
    find = ["email", "card"]
    roles = ["assistant"]
    """

    kind: Literal["pii"] = "pii"
    find: Annotated[tuple[Sort, ...], Field(min_length=1, description="what is looked for, in this order")] = (
        "email",
        "card",
        "iban",
        "phone",
        "ip",
    )
    roles: Annotated[tuple[str, ...], Field(description="roles whose messages are looked at; unset: all")] = ()

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        import polars as pl

        message = pl.element().struct
        said = message.field("content")
        if self.roles:
            said = said.filter(message.field("role").is_in(list(self.roles)))
        text = conversations.select(text=pl.col("messages").list.eval(said).list.join("\n"))["text"]
        found = [self._found(sort, text) for sort in self.find]
        reasons = [pl.when(pl.lit(held)).then(pl.lit(_SAID[sort])) for sort, held in zip(self.find, found, strict=True)]
        return conversations.select(reason=pl.coalesce(*reasons).cast(pl.String))["reason"]

    def _found(self, sort: str, text: pl.Series) -> pl.Series:
        import polars as pl

        held = text.str.contains(_FORMS[sort]).fill_null(value=False)
        check = _CHECKS.get(sort)
        if check is None or not held.any():
            return held
        form = re.compile(_FORMS[sort])
        sure = [any(check(match) for match in form.findall(one)) for one in text.filter(held).to_list()]
        places = held.arg_true().to_list()
        kept = {place for place, is_sure in zip(places, sure, strict=True) if is_sure}
        return pl.Series([place in kept for place in range(len(text))], dtype=pl.Boolean)


def _is_card(text: str) -> bool:
    """Whether the last digit is what ISO/IEC 7812-1 makes of the others."""
    digits = [int(char) for char in text if char.isdigit()][::-1]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return any(digits) and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """Whether it is 1 modulo 97, as ISO 13616-1 checks it."""
    plain = text.replace(" ", "")
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


_CHECKS: dict[str, Callable[[str], bool]] = {"card": _is_card, "iban": _is_iban}
