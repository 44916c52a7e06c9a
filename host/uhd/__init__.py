"""UHD workspace: ultra-light person detection, from photographs to boxes out of an ESP32."""

__version__ = "0.1.0"
