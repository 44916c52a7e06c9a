"""``devices``: what is plugged in."""

from __future__ import annotations

import click

from uhd.host.ui import emit_json

EPILOG = """\b
Examples:
  python -m uhd.host devices
  python -m uhd.host devices --json
  python -m uhd.host devices --probe
  python -m uhd.host devices --port socket://127.0.0.1:5444
"""


@click.command(epilog=EPILOG)
@click.option("--port", multiple=True, help="Look at this port only; can be given several times.")
@click.option("--baud", type=click.IntRange(300), default=921600, show_default=True, help="Speed; USB ports ignore it.")
@click.option("--probe", "with_probe", is_flag=True, help="Ask the chip itself, too, with esptool: resets the board.")
@click.option("--all", "every", is_flag=True, help="Serial ports that are no board's, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def command(port: tuple[str, ...], baud: int, with_probe: bool, every: bool, as_json: bool) -> int:
    """List the boards on this machine: port, USB vendor, what it may be, and the model on it.

    Firmware of this project is asked who it is, for a second at most; that does not reset the board.
    """
    from uhd.bridge.boards import Board, describe, greet, probe
    from uhd.device.serial_ports import SerialPort, list_serial_ports

    there = list_serial_ports()
    known = {found.path: found for found in there}
    if port:
        chosen = [known.get(path, SerialPort(path, "")) for path in port]
    else:
        chosen = [found for found in there if every or found.plausible]
    boards: list[Board] = []
    for found in chosen:
        board = describe(found)
        if not board.problem and (found.plausible or port):
            greet(board, baud=baud)
            if with_probe:
                probe(board)
        boards.append(board)
    if as_json:
        emit_json([board.as_dict() for board in boards])
        return 0
    for board in boards:
        click.echo(_text(board))
    if not boards:
        others = f"; {len(there)} other serial ports (--all shows them)" if there and not every else ""
        click.echo(f"no board found{others}")
        click.echo("  plug one in with a cable that has data lines; `doctor` checks the rest")
    return 0


def _text(board: object) -> str:
    from uhd.bridge.boards import Board

    assert isinstance(board, Board)
    usb = " ".join(part for part in (board.vendor, board.usb, board.serial and f"serial {board.serial}") if part)
    lines = [board.path]
    if usb:
        lines.append(f"usb     {usb}")
    if board.board:
        lines.append(f"board   {board.board}")
    if board.chip:
        extra = ", ".join(part for part in (board.flash and f"flash {board.flash}", board.mac) if part)
        lines.append(f"chip    {board.chip}{f', {extra}' if extra else ''}")
    if board.model:
        known = "known here" if board.known_model else "unknown here"
        lines.append(f"model   {board.model} for {board.target}, .espdl {board.model_hash[:12]} ({known})")
        if board.faults:
            lines.append(f"faults  {' '.join(board.faults)}")
    elif not board.problem:
        lines.append("model   no answer: no firmware of this project, or a program has the port")
    if board.problem:
        lines.append(f"problem {board.problem}")
    return "\n  ".join(lines)
