import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from jaxnas.data.reachable import unreachable


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def test_a_closed_port_is_unreachable():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    assert "refused" in (unreachable(f"http://127.0.0.1:{port}/x") or "")


def test_a_server_that_never_answers_is_unreachable():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        assert "timed out" in (unreachable(f"http://127.0.0.1:{port}/x", timeout=0.2) or "")


def test_a_name_that_takes_for_ever_to_look_up(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(10) and [])
    assert unreachable("http://example.invalid/x", timeout=0.05) == "no answer"
    release.set()


def test_an_error_is_an_answer():
    class Refusing(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(404)

        def log_message(self, format, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert unreachable(f"http://127.0.0.1:{server.server_port}/x") is None
        thread.join()


def test_an_address_of_no_known_kind():
    assert "unknown url type" in (unreachable("nonsense:x") or "")
