"""The hosts that a teacher sends requests to, and the environment variables sent along as keys."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

NO_VARIABLE = "-"
"""In place of a variable, where no secret is sent."""

# A port that is the scheme's own is left out, or one host, written in two ways, would have to be allowed twice.
_DEFAULT_PORT = {"https": 443, "http": 80}


@dataclass(frozen=True, order=True)
class Destination:
    """A host that gets requests, and the environment variable sent to it as key.

    Attributes:
        host: as "api.openai.com" or "api.example.com:8443"; where requests travel unencrypted, with "http://" before.
        variable: the name of the environment variable, `NO_VARIABLE` for none.
        is_loopback: whether requests stay on this machine.
    """

    host: str
    variable: str = NO_VARIABLE
    is_loopback: bool = field(default=False, compare=False)

    @classmethod
    def of_url(cls, url: str, variable: str | None) -> Destination:
        """Take the destination of an http or https address. Raises: ValueError where the address names no host."""
        parts = urlsplit(url)
        if parts.scheme not in _DEFAULT_PORT or not parts.hostname:
            raise ValueError("it must begin with http:// or https:// and name a host")
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = "" if parts.port in (None, _DEFAULT_PORT[parts.scheme]) else f":{parts.port}"
        scheme = "http://" if parts.scheme == "http" else ""
        return cls(f"{scheme}{name}{port}", variable or NO_VARIABLE, _is_loopback(parts.hostname))

    def __str__(self) -> str:
        sent = "no key" if self.variable == NO_VARIABLE else f"the value of {self.variable}"
        return f"{self.host} ({sent})"


def _is_loopback(hostname: str) -> bool:
    if hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return False
