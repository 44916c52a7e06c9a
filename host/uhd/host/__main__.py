"""``python -m uhd.host``: one file a command, imported only when that command runs."""

from __future__ import annotations

import importlib
import keyword
import os
import sys

import click

from uhd import __version__
from uhd.errors import UhdError

#: Command name -> one-line help. The module is the name with '-' as '_' (and a '_' behind a keyword), and exports
#: ``command``.
COMMANDS: dict[str, str] = {
    "build-fw": "Quantize a variant, generate its component and build the firmware.",
    "flash": "Write a built firmware, or one partition, to a board.",
    "view": "Show what a device sees, live, in the browser or in the terminal.",
    "monitor": "Show what a board says: console text and messages.",
    "erase": "Erase a board's flash, or one partition of it.",
    "size": "Show what a built firmware weighs, by component.",
    "doctor": "Check this machine: what is there, what is missing, how to get it.",
    "parity": "Compare float model, host twin and device on a folder of photos.",
    "bridge": "Pass on what a device sees: JSON lines, websocket, MQTT, files.",
    "replay": "Play a recording of a link: events, a summary, its mAP.",
    "devices": "List the boards on this machine, and what runs on them.",
    "demo": "Draw the boxes a model finds on photos, videos, a camera.",
    "train": "Train a detector on a folder of labelled photos.",
    "dataset": "Check, show or convert labelled photos.",
    "import": "Make a checkpoint of a published .pt or ONNX file.",
    "export": "Write a checkpoint as ONNX.",
    "quantize": "Quantize an ONNX file or checkpoint to .espdl.",
    "litert": "Convert an ONNX file or checkpoint to TFLite files.",
    "espdl": "Inspect or run a .espdl file.",
    "search": "Find the quantization with the most mAP under a budget of time and memory.",
    "explain": "Show what integers do to each layer of a .espdl: noise, mAP, time.",
    "profile": "Count what a model costs; compare with a board's own times.",
    "bench": "Measure the reference runtime.",
    "compare-resize": "Compare ways of making a photo smaller, and what they cost in mAP.",
    "release": "Ship a checkpoint with its .espdl files and measured mAP.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported on use, so that ``--help`` imports nothing heavy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_") + "_" * keyword.iskeyword(cmd_name)
        module = importlib.import_module(f"uhd.host.{name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="uhd")
def cli() -> None:
    """From photographs of people to boxes out of an ESP32, checked at every step.

    \b
    Examples:
      python -m uhd.host build-fw --variant R --target qemu
      python -m uhd.host demo --photos DIR --target onnx --output boxes/
      python -m uhd.host parity --target qemu --photos DIR
    """


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code (0 done, 2 a user's mistake, 3 vendor SDK missing)."""
    try:
        code = cli.main(args=arguments, prog_name="python -m uhd.host", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except UhdError as error:
        stopped = error.exit_code > 128  # by a signal, as asked: nothing is wrong
        click.echo(str(error) if stopped else f"error: {error}", err=True)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "python -m uhd.host"
        click.echo(f"error: {' '.join(error.format_message().split()).rstrip('.')}; see `{command} --help`", err=True)
        return 2
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
        return 2
    except BrokenPipeError:
        # The reader (head, less) has seen enough: say nothing, and let the interpreter's last flush go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {where}{error.strerror or error}", err=True)
        return 2
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130


if __name__ == "__main__":
    sys.exit(main())
