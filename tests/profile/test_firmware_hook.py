"""How a board gets to print what ``profile`` reads."""

from __future__ import annotations

import re

from support.shared import ROOT
from uhd.profile import board_log

FIRMWARE = ROOT / "firmware"


def test_the_profile_switches_the_table_on_where_it_can_be_read() -> None:
    text = (ROOT / "sdkconfig.profile.operator_times").read_text()
    assert set(re.findall(r"^CONFIG_(\w+)=y$", text, re.M)) == {
        "UHD_LOG_PROFILE",
        "ESP_CONSOLE_SECONDARY_USB_SERIAL_JTAG",
    }
    assert "config UHD_LOG_PROFILE\n" in (FIRMWARE / "main" / "Kconfig.projbuild").read_text()


def test_the_firmware_asks_esp_dl_in_the_order_of_the_graph() -> None:
    """Joining by order needs it: ``profile(true)`` would sort by time."""
    backend = (FIRMWARE / "components" / "uhd_espdl" / "src" / "espdl_backend.cpp").read_text()
    assert re.findall(r"->(profile\w*\(.*?\));", backend) == ["profile()"]
    assert re.search(
        r"#if CONFIG_UHD_LOG_PROFILE\n\s+espdl_log_profile\(\);", (FIRMWARE / "main" / "inference.cpp").read_text()
    )


def test_the_parser_was_written_for_the_version_that_is_built() -> None:
    manifest = (FIRMWARE / "components" / "uhd_espdl" / "idf_component.yml").read_text()
    version = re.search(r'espressif/esp-dl:\n\s+version: "([\d.]+)"', manifest)
    assert version and f"esp-dl {version[1]}" in (board_log.__doc__ or "")
