"""A real MQTT broker (amqtt) in a thread, on a port of this machine."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def mqtt_broker(port: int) -> Iterator[None]:
    """A broker at ``127.0.0.1:port`` for as long as the block runs; skips the test where amqtt is not installed."""
    broker_module = pytest.importorskip("amqtt.broker", reason="amqtt is not installed")
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    logging.getLogger("transitions").setLevel(logging.CRITICAL)
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    failed: list[BaseException] = []
    over = asyncio.Event()

    async def serve() -> None:
        broker = broker_module.Broker(config)
        await broker.start()
        ready.set()
        await over.wait()
        await broker.shutdown()

    def run() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(serve())
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            failed.append(error)
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(20) and not failed, failed
    try:
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(20)
