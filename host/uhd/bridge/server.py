"""Events for browsers and programs: a websocket at ``/events``, and files beside it, on one port."""

from __future__ import annotations

import contextlib
import hmac
import http
import ipaddress
import json
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from uhd.bridge.hub import Hub, Reader
from uhd.errors import ConfigError, DeviceError

EVENTS = "/events"
#: Bytes of one command.
_MAX_COMMAND = 1 << 16
_MAX_READERS = 32
#: Seconds that open connections get to end in order.
_GOODBYE = 3.0
_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def is_loopback(host: str) -> bool:
    """Whether a host name or address stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def parse_address(text: str, default_port: int = 8765) -> tuple[str, int]:
    """``PORT`` or ``HOST:PORT``; the host is 127.0.0.1 unless given. Raises ``ConfigError`` for anything else."""
    host, colon, number = text.rpartition(":")
    if not colon:
        host, number = "127.0.0.1", text or str(default_port)
    if not number.isdecimal() or not 0 <= int(number) < 65536 or not host:
        raise ConfigError(f"{text}: not an address", hint="write PORT or HOST:PORT")
    return host.strip("[]"), int(number)


class EventServer:
    """Serves ``hub`` on ``host``:``port`` (0: any free one) from threads of its own; a context manager.

    ``files``: path to (content type, bytes). On an address that other machines reach, ``/`` and the websocket want
    ``token`` (``?token=...``, or ``Authorization: Bearer``). Requests that a page of another origin makes are refused
    everywhere, and on loopback so are names that only pretend to be this machine.
    """

    def __init__(
        self,
        hub: Hub,
        host: str,
        port: int,
        token: str | None = None,
        files: Mapping[str, tuple[str, bytes]] | None = None,
    ) -> None:
        """Raises ``ConfigError`` for an open address without a token, ``DeviceError`` if it cannot be had."""
        self._local = is_loopback(host)
        if not self._local and not token:
            raise ConfigError(f"{host} can be reached by others", hint="give a token, or use 127.0.0.1")
        self._hub, self._token, self._files = hub, token, dict(files or {})
        self._changed = threading.Condition()
        self._closing = False
        self._connections: dict[ServerConnection, Reader] = {}
        try:
            self._server: Server = serve(
                self._serve, host, port, process_request=self._request, max_size=_MAX_COMMAND, compression=None,
                server_header=None, close_timeout=2,
            )  # fmt: skip
        except OSError as error:
            raise DeviceError(
                f"{host}:{port}: cannot listen ({error.strerror})", hint="choose another port; 0 is any free one"
            ) from None
        self.host = host
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="event server", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the page is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/" + (f"?token={self._token}" if self._token else "")

    @property
    def events_url(self) -> str:
        """Where the websocket is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ws://{host}:{self.port}{EVENTS}" + (f"?token={self._token}" if self._token else "")

    @property
    def readers(self) -> int:
        """Websockets that are open."""
        return len(self._connections)

    def close(self) -> None:
        """End all connections and the server; a second call does nothing."""
        self._closing = True
        with self._changed:
            for reader in self._connections.values():
                reader.close()  # its sender then says goodbye
            self._changed.wait_for(lambda: not self._connections, _GOODBYE)
            stuck = list(self._connections)
        for connection in stuck:  # the other side does not read: no goodbye
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
        with self._changed:
            self._changed.wait_for(lambda: not self._connections, _GOODBYE)
        # Last, because newer versions of the library wait in here for connections that do not end.
        self._server.shutdown()
        self._thread.join()

    def __enter__(self) -> EventServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ---- requests

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Files and refusals; None lets the websocket begin."""
        path = urlsplit(request.path).path
        if reason := self._foreign(request.headers):
            return _answer(http.HTTPStatus.FORBIDDEN, "text/plain; charset=utf-8", f"{reason}\n".encode())
        if path in ("/", EVENTS) and not self._may_enter(request):
            text = b"This address wants the token that the program printed: add ?token=... to it.\n"
            return _answer(http.HTTPStatus.UNAUTHORIZED, "text/plain; charset=utf-8", text)
        if path == EVENTS:
            if self._closing or len(self._connections) >= _MAX_READERS:
                return _answer(http.HTTPStatus.SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", b"too many readers\n")
            return None
        if path in self._files:
            kind, content = self._files[path]
            return _answer(http.HTTPStatus.OK, kind, content)
        return _answer(http.HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"there is no such file\n")

    def _foreign(self, headers: Headers) -> str:
        """Why a request may come from somebody else's page; "" if nothing speaks for that."""
        host, origin = headers.get("Host", ""), headers.get("Origin")
        if self._local and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            return "this server answers to the names of this machine only"
        if origin is not None and urlsplit(origin).netloc != host:
            return "requests of pages from elsewhere are refused"
        return ""

    def _may_enter(self, request: Request) -> bool:
        if not self._token:
            return True
        given = parse_qs(urlsplit(request.path).query).get("token", [""])[0]
        given = given or request.headers.get("Authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), self._token.encode())

    # ---- websockets

    def _serve(self, connection: ServerConnection) -> None:
        request = connection.request
        query = parse_qs(urlsplit(request.path).query) if request else {}
        reader = self._hub.subscribe(images=query.get("images", ["1"])[0] != "0")
        with self._changed:
            self._connections[connection] = reader
        sender = threading.Thread(target=self._send, args=(connection, reader), name="event sender", daemon=True)
        sender.start()
        try:
            for text in connection:
                answer = self._hub.command(_parsed(text))
                if answer:
                    reader.put(answer)
        except ConnectionClosed:
            pass
        finally:
            reader.close()
            sender.join()
            with self._changed:
                del self._connections[connection]
                self._changed.notify_all()

    def _send(self, connection: ServerConnection, reader: Reader) -> None:
        """Everything that the reader gets, as fast as the other side takes it."""
        with contextlib.suppress(ConnectionClosed, OSError):
            for event in reader:
                connection.send(json.dumps(event.as_json(), separators=(",", ":")))
            connection.close()


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None  # which is no command, and answered as such


def _answer(status: http.HTTPStatus, kind: str, content: bytes) -> Response:
    headers = Headers({"Content-Type": kind, "Content-Length": str(len(content)), "Connection": "close", **_SECURITY})
    return Response(status.value, status.phrase, headers, content)
