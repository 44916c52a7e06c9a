"""The serial loader in the ROM of an ESP32-S3, as far as esptool talks to it, with a flash of its own.

Protocol: SLIP packets; request 00, command, length u16, checksum u32, data; answer 01, command, length u16, value u32,
data, 4 bytes of status. Everything is written plainly: ``flash`` is what the chip would hold.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
import zlib

CHIP_NUMBER = {"esp32s3": 9, "esp32p4": 18}
FLASH_BEGIN, FLASH_DATA, FLASH_END, SYNC, WRITE_REG, READ_REG = 0x02, 0x03, 0x04, 0x08, 0x09, 0x0A
DEFL_BEGIN, DEFL_DATA, DEFL_END, MD5, SECURITY_INFO = 0x10, 0x11, 0x12, 0x13, 0x14


class EspRom:
    """A chip in download mode, at ``url``. As a context manager it serves one connection after the other."""

    def __init__(self, chip: str = "esp32s3", size: int = 8 << 20) -> None:
        self.chip = chip
        self.flash = bytearray(b"\xaa" * size)
        self.commands: list[int] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self._server.getsockname()[1]}"
        self._at = 0
        self._inflate = zlib.decompressobj()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> EspRom:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._server.accept()
            except OSError:
                return
            with line:
                self._talk(line)

    def _talk(self, line: socket.socket) -> None:
        buffer = b""
        while piece := line.recv(65536):
            *packets, buffer = (buffer + piece).split(b"\xc0")
            for packet in packets:
                if packet:
                    plain = packet.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")
                    if len(plain) >= 8 and plain[0] == 0:
                        self._command(line, plain[1], plain[8:])

    def _command(self, line: socket.socket, command: int, data: bytes) -> None:
        self.commands.append(command)
        value, answer = 0, b""
        words = struct.unpack(f"<{min(len(data), 16) // 4}I", data[: min(len(data), 16) // 4 * 4])
        if command in (FLASH_BEGIN, DEFL_BEGIN):
            # (size to erase, or of the plain data), packets, packet size, offset
            erase, self._at = words[0], words[3]
            end = -(-(self._at + erase) // 4096) * 4096
            self.flash[self._at : end] = b"\xff" * (end - self._at)
            self._inflate = zlib.decompressobj()
        elif command == FLASH_DATA:
            self._write(data[16 : 16 + words[0]])
        elif command == DEFL_DATA:
            self._write(self._inflate.decompress(data[16 : 16 + words[0]]))
        elif command == MD5:
            part = self.flash[words[0] : words[0] + words[1]]
            answer = hashlib.md5(part, usedforsecurity=False).hexdigest().encode()
        elif command == SECURITY_INFO:
            answer = struct.pack("<IB7sII", 0, 0, bytes(7), CHIP_NUMBER[self.chip], 0)
        for _ in range(8 if command == SYNC else 1):
            body = struct.pack("<BBHI", 1, command, len(answer) + 4, value) + answer + bytes(4)
            line.sendall(b"\xc0" + body.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0")

    def _write(self, data: bytes) -> None:
        self.flash[self._at : self._at + len(data)] = data
        self._at += len(data)
