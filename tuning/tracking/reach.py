"""Explains in one line why an MLflow server cannot be used, and what helps."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from typing import Any

from curriculum_ray.addresses import without_secrets
from curriculum_ray.config import ConfigError

__all__ = ["ask_server"]

_REACH_SECONDS = 5
# A busy server takes seconds for a request: one with users hashes a password for each.
_ANSWER_SECONDS = 20
_CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_CERTIFICATE = (
    "set MLFLOW_TRACKING_SERVER_CERT_PATH or REQUESTS_CA_BUNDLE to the file with your CA certificate"
)


def ask_server(uri: str, name: str) -> None:
    """Ask for one experiment, without MLflow's retries, which take minutes; ConfigError if that fails.

    name: the name of the server in the error.
    """
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        answer = http_request(
            get_default_host_creds(uri),
            "/api/2.0/mlflow/experiments/search",
            "POST",
            json={"max_results": 1},
            max_retries=0,
            timeout=(_REACH_SECONDS, _ANSWER_SECONDS),
            raise_on_status=False,
        )
    except Exception as error:
        # Errors of requests and MLflow quote the whole address, including the password.
        raise ConfigError(f"{name} {_unreachable(error, uri)}") from None
    if fault := _refusal(answer.status_code, answer.text, uri):
        raise ConfigError(f"{name} {fault}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes; urllib3 keeps some of them as attributes."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def _unreachable(error: BaseException, uri: str) -> str:
    """Why a request got no answer."""
    errors = list(_chain(error))
    text = " ".join(str(one) for one in errors)
    if (
        any(isinstance(one, ssl.SSLCertVerificationError) for one in errors)
        or "CERTIFICATE_VERIFY_FAILED" in text
    ):
        found = re.search(r"certificate verify failed: ([^(\"']*)", text)
        why = f" ({found[1].strip()})" if found else ""
        return f"has a certificate that is not trusted here{why}: {_CERTIFICATE}"
    if any(isinstance(one, ssl.SSLError) for one in errors) or "SSLError" in text:
        return (
            "cannot be reached by TLS: is it an http address written as https, or is its TLS version too old?"
        )
    if "ProxyError" in text or "Tunnel connection failed" in text:
        return "cannot be reached through the proxy of http_proxy or https_proxy: add its host to no_proxy"
    for words, said in (
        (
            ("NameResolutionError", "Name or service not known", "nodename nor servname", "getaddrinfo"),
            "is unknown",
        ),
        (("Connection refused",), "does not listen there"),
        (("No route to host", "Network is unreachable"), "has no route from here"),
    ):
        if any(word in text for word in words):
            host = "its host name " if said == "is unknown" else "it "
            return f"cannot be reached: {host}{said}"
    if "read timed out" in text.lower():
        return f"cannot be used: it does not answer within {_ANSWER_SECONDS} s"
    if "timed out" in text.lower() or "timeout" in text.lower():
        return f"cannot be reached within {_REACH_SECONDS} s"
    return f"cannot be reached: {without_secrets(type(error).__name__, uri)}"


def _refusal(status: int, text: str, uri: str) -> str | None:
    """The meaning of an answer that is not an MLflow server's; None if it is."""
    if status == 403 and re.search(r"host header|rebinding|allowed[- _]hosts", text, re.IGNORECASE):
        return (
            "answers that this host name is not on its list (HTTP 403): start it with --allowed-hosts or "
            "MLFLOW_SERVER_ALLOWED_HOSTS that name the host, or use an address that it lists"
        )
    if status == 403 and re.search(r"cross-origin|cors", text, re.IGNORECASE):
        return "answers that it takes no requests from elsewhere (HTTP 403): see its --cors-allowed-origins"
    if status in (401, 403):
        return f"refuses the credentials (HTTP {status}): {_CREDENTIALS}"
    if status == 407:
        return "stands behind a proxy that asks for credentials (HTTP 407): add its host to no_proxy"
    if status != 200 or not text.lstrip().startswith("{"):
        said = " ".join(without_secrets(text, uri).split())[:80] if status != 200 else ""
        return f"does not answer as an MLflow server does (HTTP {status}{': ' + said if said else ''})"
    return None
