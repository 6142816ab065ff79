"""Protects: a server that cannot be used is named with its cause, so that nobody looks for another one."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from curriculum_ray.config import ConfigError
from tuning.tracking.reach import _unreachable, ask_server


@contextmanager
def _server(status: int, text: str) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://me:s3cret-planted@127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "text", "says", "says_not"),
    [
        (
            403,
            "Invalid Host header - possible DNS rebinding attack detected",
            "host name is not on its list",
            "credentials",
        ),
        (403, "Cross-origin request blocked", "no requests from elsewhere", "credentials"),
        (403, "forbidden", "refuses the credentials", "host name"),
        (401, "Invalid Host header", "refuses the credentials", "host name"),
        (407, "", "proxy", "credentials of MLflow"),
        (200, "<html>a page</html>", "does not answer as an MLflow server", "credentials"),
        (502, "s3cret-planted", "HTTP 502", "s3cret-planted"),
    ],
)
def test_an_answer_is_named_with_its_cause(status: int, text: str, says: str, says_not: str) -> None:
    with _server(status, text) as uri, pytest.raises(ConfigError, match=says) as error:
        ask_server(uri, "the server")
    assert says_not not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
            "self-signed certificate (_ssl.c:992)'))",
            r"certificate that is not trusted here \(self-signed certificate\)",
        ),
        ("SSLError(SSLError(1, '[SSL: WRONG_VERSION_NUMBER] wrong version number'))", "TLS"),
        ("NameResolutionError: Failed to resolve 'nohost'", "host name is unknown"),
        ("[Errno 111] Connection refused", "does not listen there"),
        ("ProxyError('Unable to connect to proxy')", "proxy"),
        ("Read timed out. (read timeout=20)", "it does not answer within 20 s"),
        ("Connection to host timed out. (connect timeout=5)", "cannot be reached within 5 s"),
    ],
)
def test_no_answer_is_named_with_its_cause(error: str, says: str) -> None:
    outer = RuntimeError("API request failed")
    outer.__cause__ = OSError(error)
    assert re.search(says, _unreachable(outer, "https://host"))
