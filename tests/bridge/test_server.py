"""The event server: who may connect, what they get, and that nobody can hold it up."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from uhd.bridge import events
from uhd.bridge.hub import Hub
from uhd.bridge.server import EventServer, is_loopback, parse_address
from uhd.errors import ConfigError, DeviceError

FILES = {"/": ("text/html; charset=utf-8", b"<p>page</p>"), "/app.js": ("text/javascript", b"let x = 1")}


class Deaf:
    """A source that only keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.done = threading.Event()

    def start(self, hub: Hub) -> None:
        hub.attach(self)

    def command(self, command: Any) -> events.Event | None:
        self.told.append(command)
        return events.Refused("no") if command["do"] == "wrong" else None

    def close(self) -> None: ...


@pytest.fixture
def hub() -> Hub:
    made = Hub()
    made.publish(events.State(1.0, 2.0, "ready", "text", "port"))
    return made


@pytest.fixture
def server(hub: Hub) -> Iterator[EventServer]:
    with EventServer(hub, "127.0.0.1", 0, files=FILES) as made:
        yield made


def picture(number: int, size: int = 4) -> events.Picture:
    pixels = events.Image("rgb", bytes(3 * size * size), size, size)
    return events.Picture(number, 0, number, "host", (), 0, None, None, None, pixels)


def receive(client: ClientConnection) -> dict[str, Any]:
    return json.loads(client.recv(timeout=10))


def fetch(server: EventServer, path: str, **headers: str) -> http.client.HTTPResponse:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    client.request("GET", path, headers=headers)
    answer = client.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    client.close()
    return answer


def test_events_arrive_as_json(server: EventServer, hub: Hub) -> None:
    with connect(server.events_url) as client:
        assert receive(client) == {
            "kind": "state",
            "t": 1.0,
            "wall": 2.0,
            "state": "ready",
            "text": "text",
            "port": "port",
        }
        hub.publish(picture(7))
        got = receive(client)
        assert (got["kind"], got["frame_id"], got["image"]["width"]) == ("picture", 7, 4)
    with connect(server.events_url + "?images=0") as client:
        receive(client)
        hub.publish(picture(8))
        assert receive(client)["image"] is None


def test_commands_reach_the_source_and_are_answered(server: EventServer, hub: Hub) -> None:
    source = Deaf()
    source.start(hub)
    with connect(server.events_url) as client:
        receive(client)
        for text in ("no json", "[" * 5000, "[]", '{"do": 1}'):
            client.send(text)
            assert receive(client) == {"kind": "refused", "text": 'a command is an object with "do"'}
        client.send(b"\xff\xfe")
        assert receive(client)["kind"] == "refused"
        client.send('{"do": "wrong"}')
        assert receive(client) == {"kind": "refused", "text": "no"}
        client.send('{"do": "configure", "score_threshold": 0.5}')
        client.send('{"do": "wrong"}')
        receive(client)
    assert source.told[-2] == {"do": "configure", "score_threshold": 0.5}


def test_an_answer_goes_to_its_asker_only(server: EventServer, hub: Hub) -> None:
    Deaf().start(hub)
    with connect(server.events_url) as asker, connect(server.events_url) as other:
        receive(asker), receive(other)
        asker.send('{"do": "wrong"}')
        assert receive(asker)["kind"] == "refused"
        hub.publish(events.Console(0, 0, "line"))
        assert receive(other)["kind"] == "console"


def test_files_and_their_headers(server: EventServer) -> None:
    page = fetch(server, "/")
    assert (page.status, page.body) == (200, b"<p>page</p>")  # type: ignore[attr-defined]
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert fetch(server, "/app.js?x=1").headers["Content-Type"] == "text/javascript"
    for path in ("/nothing", "/../app.js", "/app.js/", "//app.js", "/%2e%2e/etc/passwd"):
        assert fetch(server, path).status == 404, path


def test_pages_from_elsewhere_are_refused(server: EventServer) -> None:
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{server.port + 1}", "http://localhost"):
        with pytest.raises(InvalidStatus) as refused:
            connect(server.events_url, origin=origin)  # type: ignore[arg-type]
        assert refused.value.response.status_code == 403
    with connect(server.events_url, origin=f"http://127.0.0.1:{server.port}") as client:  # type: ignore[arg-type]
        receive(client)
    # A name of somebody else that leads here.
    assert fetch(server, "/", Host=f"evil.example:{server.port}").status == 403
    assert fetch(server, "/", Host=f"localhost:{server.port}").status == 200


def test_an_open_address_needs_its_token(hub: Hub) -> None:
    with pytest.raises(ConfigError, match="token"):
        EventServer(hub, "0.0.0.0", 0)
    with EventServer(hub, "0.0.0.0", 0, token="s3cret", files=FILES) as server:
        url = f"ws://127.0.0.1:{server.port}/events"
        for wrong in (url, url + "?token=", url + "?token=S3cret", url + "?token=s3cret0"):
            with pytest.raises(InvalidStatus) as refused:
                connect(wrong)
            assert refused.value.response.status_code == 401
        with connect(url + "?token=s3cret") as client:
            receive(client)
        with connect(url, additional_headers={"Authorization": "Bearer s3cret"}) as client:
            receive(client)
        with pytest.raises(InvalidStatus):
            connect(url + "?token=s3cret", origin="http://evil.example")  # type: ignore[arg-type]
        assert fetch(server, "/").status == 401 and fetch(server, "/?token=s3cret").status == 200
        assert fetch(server, "/app.js").status == 200, "no secret, and pages load it without the token"
        assert "token=s3cret" in server.url


def test_a_slow_reader_holds_nobody_up(server: EventServer, hub: Hub) -> None:
    """One socket that never reads, one that does."""
    slow = socket.create_connection(("127.0.0.1", server.port))
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.sendall(
        f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    with connect(server.events_url, max_queue=None) as client:
        receive(client)
        for number in range(300):
            hub.publish(picture(number, 128))
            time.sleep(0.001)
        newest = -1
        while newest < 299:
            newest = receive(client).get("frame_id", -1)
    started = time.monotonic()
    server.close()
    assert time.monotonic() - started < 8
    slow.close()


def test_closing_says_goodbye_and_leaves_nothing_behind(hub: Hub) -> None:
    before = threading.active_count()
    server = EventServer(hub, "127.0.0.1", 0)
    client = connect(server.events_url)
    receive(client)
    server.close()
    server.close()
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=10)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1000
    client.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before and hub.readers == 0


def test_too_many_readers_and_too_long_commands(server: EventServer, hub: Hub) -> None:
    Deaf().start(hub)
    clients = [connect(server.events_url) for _ in range(32)]
    for client in clients:
        receive(client)  # it is in, not only let in
    with pytest.raises(InvalidStatus) as refused:
        connect(server.events_url)
    assert refused.value.response.status_code == 503
    clients[0].send("x" * 100_000)
    with pytest.raises(ConnectionClosed):
        while True:
            clients[0].recv(timeout=10)
    for client in clients:
        client.close()


def test_addresses() -> None:
    assert parse_address("8765") == ("127.0.0.1", 8765)
    assert parse_address("0.0.0.0:80") == ("0.0.0.0", 80)
    assert parse_address("[::1]:80") == ("::1", 80)
    for wrong in ("", ":", "host:", "1:2:x", "99999", "host:-1", ":80"):
        if wrong:
            with pytest.raises(ConfigError):
                parse_address(wrong)
    assert is_loopback("localhost") and is_loopback("127.9.9.9") and is_loopback("::1")
    assert not is_loopback("0.0.0.0") and not is_loopback("::") and not is_loopback("localhost.evil.example")


def test_a_port_that_is_taken(server: EventServer, hub: Hub) -> None:
    with pytest.raises(DeviceError, match="cannot listen"):
        EventServer(hub, "127.0.0.1", server.port)
