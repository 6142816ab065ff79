"""Strip secrets from addresses before they are shown, logged, stored or raised."""

from __future__ import annotations

import os
import re
from urllib.parse import quote, quote_plus, unquote, unquote_plus

__all__ = ["NATIVE", "SETTINGS", "presentable", "without_secrets"]

NATIVE = frozenset({"s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs"})
"""Schemes that pyarrow opens itself: it takes settings behind a `?` there, and decodes %-escapes."""
SETTINGS = (
    *("region", "scheme", "endpoint_override", "project_id", "retry_limit_seconds", "smart_defaults"),
    *("allow_bucket_creation", "allow_bucket_deletion", "allow_delayed_open", "background_writes"),
    *("tls_ca_file_path", "tls_ca_dir_path", "tls_verify_certificates", "enable_tls"),
    *("blob_storage_authority", "dfs_storage_authority", "credential_kind", "tenant_id", "client_id"),
    *("user", "replication", "buffer_size", "default_block_size"),
)
"""Of those settings, the ones that say where and how, and hold no secret."""

_HIDDEN = "***"
# pathlib collapses slashes; what ends a clause of a text is no part of an address.
_ADDRESS = re.compile(r"\b([A-Za-z][A-Za-z0-9+.\-]+):(/+)([^\s\"'<>|\\^`{}]*[^\s\"'<>|\\^`{},;:.)])")
_WHOLE = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+):(/+)(.*)", re.DOTALL)
# As RAY_ADDRESS has them, with a user before the host by mistake.
_WITHOUT_SCHEME = re.compile(r"(.*)@([^\s@/]+:\d+)", re.DOTALL)
_SECRET_NAME = re.compile(
    r"(PASSWORD|PASSWD|TOKEN|SECRET|CREDENTIALS?|(ACCESS|API|PRIVATE|SECRET)_KEY(_ID)?)$", re.IGNORECASE
)
# Before its "@", an address of Azure has a container, or an account.
_AZURE = frozenset({"abfs", "abfss", "az", "adl", "wasb", "wasbs"})
_CONTAINER = re.compile(r"[a-z0-9$][a-z0-9-]{0,62}")
# No value with a user in it, not even with an escaped "@".
_SETTING = re.compile(rf"({'|'.join(SETTINGS)})=([\w.:/,~+-]|%3[Aa]|%2[CcFf])*", re.ASCII)
# Shorter values would match ordinary words.
_SHORTEST, _SHORTEST_OF_ENVIRONMENT = 4, 6


def presentable(address: str) -> str:
    """Return the address without user, password, query and fragment: `postgresql://db:5432/optuna`.

    A password may contain any character, even unescaped "/", "@" and "#": everything up to the last "@" is
    removed, also where there is no scheme but a port. What tells one place from another stays: a container of Azure,
    and `SETTINGS` of an address of `NATIVE`. Text that is not an address is returned unchanged.
    """
    if found := _WHOLE.fullmatch(address):
        return _bare(found)
    found = _WITHOUT_SCHEME.fullmatch(address)
    return found[2] if found else address


def _bare(found: re.Match[str]) -> str:
    scheme, slashes, rest = found.groups()
    name = ""
    if _has_host(scheme, slashes):
        user, _, rest = rest.rpartition("@")
        name, rest = _name_in(scheme, user), rest.partition("#")[0]
    place, _, query = rest.partition("?")
    settings = "&".join(pair for pair in query.split("&") if _is_setting(scheme, pair))
    return f"{scheme}:{slashes}{name and f'{name}@'}{place}{settings and f'?{settings}'}"


def _has_host(scheme: str, slashes: str) -> bool:
    return len(slashes) < 3 or scheme.lower() in NATIVE


def _name_in(scheme: str, user: str) -> str:
    """What of a user is no secret: the container of Azure, or `anonymous`, who has no keys; often nothing."""
    name = user.partition(":")[0]
    return name if name == "anonymous" or (scheme.lower() in _AZURE and _CONTAINER.fullmatch(name)) else ""


def _is_setting(scheme: str, pair: str) -> bool:
    return scheme.lower() in NATIVE and _SETTING.fullmatch(pair) is not None


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
    """Return the password and the values of the query that are not presentable: as written, decoded and encoded."""
    parts = _WHOLE.fullmatch(address)
    if parts is None and not _WITHOUT_SCHEME.fullmatch(address):
        return set()
    scheme, slashes, rest = parts.groups() if parts else ("", "//", address)
    found = set()
    if _has_host(scheme, slashes):
        user, _, _ = rest.rpartition("@")
        # A lone name may be a token: `https://TOKEN@host`.
        found.add(user.partition(":")[2] or ("" if _name_in(scheme, user) else user))
    pairs = re.split("[&;#]", re.split("[?#]", rest, maxsplit=1)[1]) if re.search("[?#]", rest) else []
    ordinary = {"true", "false", "require", "disable", "verify-full", "verify-ca", "prefer"}
    found |= {
        value
        for pair in pairs
        if (value := pair.partition("=")[2]) and value not in ordinary and not _is_setting(scheme, pair)
    }
    decoded = {form(secret) for secret in found for form in (unquote, unquote_plus)}
    encoded = {form(secret, safe="") for secret in decoded for form in (quote, quote_plus)}
    return (found | decoded | encoded) - {""}
