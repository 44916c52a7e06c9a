"""The terminal view before a made-up source; prints what the source was told when it ends."""

from __future__ import annotations

import json
import sys

from support.viewer_source import SceneSource
from uhd.bridge.hub import Hub
from uhd.viewer.tui import Tui


def main() -> None:
    hub, source = Hub(), SceneSource(fps=20)
    hub.attach(source)
    source.start(hub)
    source.fault(33, "CAMERA_STOPPED", "no picture for 2 s")
    try:
        Tui(hub, "synthetic street").run()
    finally:
        source.close()
        hub.close()
    print("told " + json.dumps(source.commands))


if __name__ == "__main__":
    sys.exit(main())
