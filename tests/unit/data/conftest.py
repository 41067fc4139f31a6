"""A web server of this process, with every way in which one misbehaves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

Answer = Callable[[BaseHTTPRequestHandler], None]


class Web:
    """`answers[path]` says how it answers there; `requests` lists what was asked; `stored` what was PUT."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.stored: dict[str, bytes] = {}
        self.answers: dict[str, Answer] = {}
        self.asked = threading.Event()  # somebody reached a path that holds
        self.release = threading.Event()  # what holds goes on
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.requests.append(f"{self.command} {self.path}")
                web.answers.get(self.path.partition("?")[0], status(404))(self)

            do_HEAD = do_GET

            def do_PUT(self) -> None:
                web.requests.append(f"PUT {self.path}")
                web.stored[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(201)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing, instead of standard error."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """Nothing: clients that go away are what is tried here."""

        self.server = Server(("127.0.0.1", 0), Handler)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def gets(self, path: str) -> int:
        return self.requests.count(f"GET {path}")


def page(data: bytes, *, length: int = -1, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers["Range"]
        start, _, last = wanted.partition("=")[2].partition("-") if wanted else ("", "", "")
        part = data[int(start) : int(last) + 1] if wanted else data
        handler.send_response(206 if wanted else 200)
        handler.send_header("Content-Length", str(len(part) if length < 0 else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(part)

    return answer


def status(code: int) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = b"<html>a page that is no data</html>"
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(body) if code != 204 else 0))
        handler.end_headers()
        if handler.command == "GET" and code != 204:
            handler.wfile.write(body)

    return answer


def held(web: Web, data: bytes) -> Answer:
    """Half of the data, and the rest when the test says so."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: len(data) // 2])
        handler.wfile.flush()
        web.asked.set()
        web.release.wait(20)
        handler.wfile.write(data[len(data) // 2 :])

    return answer


def hangs_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def slowly(data: bytes) -> Answer:
    """A byte now and then, all in all longer than the time-out that the test gives."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        never = threading.Event()
        for position in range(len(data)):
            never.wait(0.1)
            handler.wfile.write(data[position : position + 1])
            handler.wfile.flush()

    return answer


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("heald.data.transfer.PAUSE", 0.001)
    served = Web()
    served.answers = {
        "/data.txt": page(b"some data", ETag='"one"'),
        "/my%20run.txt": page(b"spaced"),
        "/packed.gz": page(b"\x1f\x8b not really gzip", Content_Encoding="gzip"),
        "/404": status(404),
        "/403": status(403),
        "/500": status(500),
        "/202": status(202),
        "/204": status(204),
        "/short": page(b"0123456789", length=100),
        "/hangs-up": hangs_up,
        "/stalls": held(served, b"0123456789"),
        "/slow": slowly(b"0123456789"),
        "/long": page(bytes(1 << 20)),
    }
    thread = threading.Thread(target=served.server.serve_forever, args=(0.02,))
    thread.start()
    yield served
    served.release.set()
    served.server.shutdown()
    served.server.server_close()
    thread.join()
