"""Readers get what is new, in order; slow ones lose old pictures and learn how many."""

from __future__ import annotations

import threading
import tracemalloc

from uhd.bridge import events
from uhd.bridge.hub import MAX_OTHERS, Hub


def picture(number: int, image: bool = True) -> events.Picture:
    pixels = events.Image("rgb", bytes(12), 2, 2) if image else None
    return events.Picture(
        number / 60, 0.0, number, "host", ((0.5, 0, 0.5, 0.5, 0.1, 0.1),), 3, None, None, None, pixels
    )


def stats(t: float) -> events.Stats:
    return events.Stats(t, 0.0, {"inferences": 1}, {"frames": 2}, 30.0)


def test_a_slow_reader_sees_the_newest_picture_and_what_it_missed() -> None:
    hub = Hub()
    reader = hub.subscribe()
    for number in range(100):
        hub.publish(picture(number))
    hub.publish(stats(1.0))
    got = [reader.get(0), reader.get(0)]
    assert isinstance(got[0], events.Picture) and got[0].frame_id == 99
    assert isinstance(got[1], events.Stats) and got[1].dropped == 99
    assert reader.get(0) is None


def test_what_lasts_does_not_wait_behind_pictures_for_ever() -> None:
    """A reader that takes one event for each of the source's rounds, however these fall together."""
    hub = Hub()
    reader = hub.subscribe()
    seen = []
    for number in range(20):
        hub.publish(picture(number))
        hub.publish(stats(number))
        seen.append(reader.get(0))
    assert {type(event) for event in seen} == {events.Picture, events.Stats}


def test_order_is_kept() -> None:
    hub = Hub()
    reader = hub.subscribe(pictures=10)
    sent = [events.Console(0, 0, "a"), picture(1, False), events.Console(0, 0, "b"), picture(2, False), stats(1)]
    for event in sent:
        hub.publish(event)
    assert [reader.get(0) for _ in sent] == sent


def test_pixels_only_for_those_who_asked() -> None:
    hub = Hub()
    bare = hub.subscribe()
    assert not hub.wants_images
    full = hub.subscribe(images=True)
    assert hub.wants_images
    hub.publish(picture(1))
    without, with_ = bare.get(0), full.get(0)
    assert isinstance(without, events.Picture) and isinstance(with_, events.Picture)
    assert without.image is None and with_.image is not None
    full.close()
    assert not hub.wants_images


def test_a_new_reader_first_learns_how_things_stand() -> None:
    hub = Hub()
    state = events.State(0, 0, "ready", "x")
    for event in (events.State(0, 0, "connecting", ""), state, stats(1), picture(1), events.Config(0.1, 0.5, 1, 1)):
        hub.publish(event)
    reader = hub.subscribe()
    kinds = [event.kind for event in iter(lambda: reader.get(0), None)]
    assert kinds == ["state", "config", "stats"]


def test_memory_is_bounded_whatever_a_reader_does() -> None:
    hub = Hub()
    lazy, keen = hub.subscribe(images=True), hub.subscribe(pictures=100)
    for number in range(1000):
        hub.publish(picture(number))
        hub.publish(events.Console(0, 0, "x" * 50))
        hub.publish(stats(number))
    assert len(lazy) <= MAX_OTHERS + 2 and len(keen) <= MAX_OTHERS + 101
    tracemalloc.start()
    for number in range(4000):
        hub.publish(picture(number))
        hub.publish(events.Console(0, 0, f"{number} " + "x" * 100))
    assert tracemalloc.get_traced_memory()[0] < 300_000
    tracemalloc.stop()
    assert lazy.dropped > 4000


def test_publishing_never_waits_for_a_reader() -> None:
    hub = Hub()
    hub.subscribe(images=True, patient=True)
    done = threading.Event()

    def publish() -> None:
        for number in range(10_000):
            hub.publish(picture(number))
        done.set()

    threading.Thread(target=publish, daemon=True).start()
    assert done.wait(10)
    assert not hub.wait_for_readers(0, 0.01), "a patient reader that reads nothing"


def test_closing_wakes_and_ends_readers() -> None:
    hub = Hub()
    readers = [hub.subscribe() for _ in range(3)]
    seen: list[list[events.Event]] = []
    threads = [threading.Thread(target=lambda r=r: seen.append(list(r))) for r in readers]
    for thread in threads:
        thread.start()
    hub.publish(events.Console(0, 0, "last"))
    readers[0].close()
    hub.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert [len(each) for each in seen].count(1) >= 2
    assert list(hub.subscribe()) == [], "after the end there is nothing to wait for"


def test_readers_may_come_and_go_while_events_flow() -> None:
    hub = Hub()
    stop = threading.Event()

    def publish() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            hub.publish(picture(number))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for _ in range(50):
            reader = hub.subscribe()
            first, second = reader.get(10), reader.get(10)
            assert isinstance(first, events.Picture) and isinstance(second, events.Picture)
            assert second.frame_id > first.frame_id
            reader.close()
    finally:
        stop.set()
        thread.join()
    assert hub.readers == 0


def test_commands_need_an_object_and_a_source() -> None:
    hub = Hub()
    for wrong in (None, [], "configure", {"do": 3}, {}, {"do": "pause"}):
        assert isinstance(hub.command(wrong), events.Refused)
