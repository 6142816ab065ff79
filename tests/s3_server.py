"""An S3 server for tests, as a process of its own on loopback: moto's, with faults that a test asks for.

`python s3_server.py PORT` serves until it is killed. A PUT to /-fault sets the fault, as JSON: see `Fault`.
A PUT to /-stop stops it for the seconds in its body: nothing listens then, and what it holds is kept.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Fault", "S3Server"]

_FAULT, _STOP = "/-fault", "/-stop"
_CODES = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """The answer `status` to the next `count` requests of `method` whose path contains `within`, instead of theirs."""

    status: int = 503
    count: int = 0
    method: str = ""
    """Empty for all."""
    within: str = ""
    skip: int = 0
    """How many of those requests are answered before."""


class S3Server:
    """The server as a process, and the environment in which clients find it."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 240
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                assert self.process.poll() is None, "the S3 server has ended"
                assert time.monotonic() < end
                time.sleep(0.05)

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which clients find it, with keys that no other place has."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "planted-key-id",
            "AWS_SECRET_ACCESS_KEY": "planted-secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self, name: str) -> None:
        """Make an empty bucket."""
        self._put(f"/{name}", b"")

    def fail(self, **fault: Any) -> None:
        """Set the fault."""
        self._put(_FAULT, json.dumps(asdict(Fault(**fault))).encode())

    def stop(self, seconds: float) -> None:
        """Stop serving for so long: connections are refused, and what it holds is kept."""
        self._put(_STOP, json.dumps(seconds).encode())

    def _put(self, path: str, content: bytes) -> None:
        request = urllib.request.Request(f"{self.address}{path}", data=content, method="PUT")
        urllib.request.urlopen(request, timeout=20).close()

    def close(self) -> None:
        """Kill it; what it held is gone."""
        self.process.kill()
        self.process.wait(20)


def _faulty(
    app: Callable[..., Iterable[bytes]], stop: Callable[[float], None]
) -> Callable[..., Iterable[bytes]]:
    fault, lock = Fault(), threading.Lock()

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        nonlocal fault
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path in (_FAULT, _STOP):
            asked = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            if path == _STOP:
                stop(asked)
            else:
                with lock:
                    fault = Fault(**asked)
            start_response("200 OK", [("Content-Length", "0")])
            return [b""]
        with lock:
            meant = fault.method in ("", method) and fault.within in path
            due = meant and not fault.skip and bool(fault.count)
            if due:
                fault = Fault(**{**asdict(fault), "count": fault.count - 1})
            elif meant and fault.skip:
                fault = Fault(**{**asdict(fault), "skip": fault.skip - 1})
            status = fault.status
        if not due:
            return app(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        code = _CODES[status]
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>planted</Message></Error>".encode()
        headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        start_response(f"{status} {code}", headers)
        return [b"" if method == "HEAD" else body]

    return serve


def _serve(port: int) -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    pause = 0.0

    def stop(seconds: float) -> None:
        nonlocal pause
        pause = seconds
        # It waits for the loop that serves, which waits for this request.
        threading.Thread(target=server.shutdown).start()

    app = _faulty(DomainDispatcherApplication(create_backend_app), stop)
    while True:
        server = make_server("127.0.0.1", port, app, threaded=True)
        server.serve_forever()
        server.server_close()
        time.sleep(pause)


if __name__ == "__main__":
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "server")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "server")
    _serve(int(sys.argv[1]))
