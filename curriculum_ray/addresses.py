"""Strip secrets from addresses before they are shown, logged, stored or raised."""

from __future__ import annotations

import os
import re
from urllib.parse import quote, quote_plus, unquote, unquote_plus

__all__ = ["presentable", "without_secrets"]

_HIDDEN = "***"
# pathlib collapses slashes.
_ADDRESS = re.compile(r"\b([A-Za-z][A-Za-z0-9+.\-]+):(/+)([^\s\"'<>|\\^`{}]+)")
_WHOLE = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+):(/+)(.*)", re.DOTALL)
# As RAY_ADDRESS has them, with a user before the host by mistake.
_WITHOUT_SCHEME = re.compile(r"(.*)@([^\s@/]+:\d+)", re.DOTALL)
_SECRET_NAME = re.compile(
    r"(PASSWORD|PASSWD|TOKEN|SECRET|CREDENTIALS?|(ACCESS|API|PRIVATE|SECRET)_KEY(_ID)?)$", re.IGNORECASE
)
# Shorter values would match ordinary words.
_SHORTEST, _SHORTEST_OF_ENVIRONMENT = 4, 6


def presentable(address: str) -> str:
    """Return the address without user, password, query and fragment: `postgresql://db:5432/optuna`.

    A password may contain any character, even unescaped "/", "@" and "#": everything up to the last "@" is
    removed, also where there is no scheme but a port. Text that is not an address is returned unchanged.
    """
    if found := _WHOLE.fullmatch(address):
        return _bare(found)
    found = _WITHOUT_SCHEME.fullmatch(address)
    return found[2] if found else address


def _bare(found: re.Match[str]) -> str:
    scheme, slashes, rest = found.groups()
    if len(slashes) > 2:  # a path without a host
        return f"{scheme}:{slashes}{rest.partition('?')[0]}"
    return f"{scheme}:{slashes}{re.split('[?#]', rest.rpartition('@')[2], maxsplit=1)[0]}"


def without_secrets(text: str, *addresses: str | None) -> str:
    """Make every address in `text` `presentable`; remove secrets of `addresses` and of the environment.

    addresses: those that the text may be about, because errors may quote parts of them. Secrets of the
    environment are the values of variables whose names contain password, token, key or similar.
    """
    known = [address for address in addresses if address]
    secrets = {secret for address in known for secret in _secrets(address)}
    secrets |= {
        value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_OF_ENVIRONMENT
    }
    # Variables with addresses, e.g. MLFLOW_TRACKING_URI; without a scheme, a lone user is a name, as in `git@host:22`.
    held = [
        value
        for value in os.environ.values()
        if "://" in value or ((bare := _WITHOUT_SCHEME.fullmatch(value)) and ":" in bare[1])
    ]
    for address in sorted({*known, *held}, key=len, reverse=True):
        text = text.replace(address, presentable(address))
        secrets |= _secrets(address)
    text = _ADDRESS.sub(_bare, text)
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, _HIDDEN)
    return text


def _secrets(address: str) -> set[str]:
    """Return the password and the values of the query: as written, decoded and encoded."""
    parts = _WHOLE.fullmatch(address)
    if parts is None and not _WITHOUT_SCHEME.fullmatch(address):
        return set()
    slashes, rest = parts.groups()[1:] if parts else ("//", address)
    found = set()
    if len(slashes) < 3:
        user, _, _ = rest.rpartition("@")
        # A lone name may be a token: `https://TOKEN@host`.
        found.add(user.partition(":")[2] or user)
    pairs = re.split("[&;#]", re.split("[?#]", rest, maxsplit=1)[1]) if re.search("[?#]", rest) else []
    ordinary = {"true", "false", "require", "disable", "verify-full", "verify-ca", "prefer"}
    found |= {value for pair in pairs if (value := pair.partition("=")[2]) and value not in ordinary}
    decoded = {form(secret) for secret in found for form in (unquote, unquote_plus)}
    encoded = {form(secret, safe="") for secret in decoded for form in (quote, quote_plus)}
    return (found | decoded | encoded) - {""}
