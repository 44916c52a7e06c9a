"""Lowered program and tables -> what the templates print: C++ expressions as text. Nothing is decided here."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from uhd.codegen import names
from uhd.codegen.describe import Description, TensorRow
from uhd.codegen.plan import MemoryPlan
from uhd.codegen.steps import Argument, ConstantRef, DataBase, DescriptorRef, Fields, Program, Ref, Scratch, Step
from uhd.codegen.tables import Decode, Table

_SCORE_FIELDS = ("obj", "quality", "cls")


def wrap(values: Iterable[object], indent: int = 4) -> str:
    """Values separated by commas, wrapped at 120 columns."""
    pad = " " * indent
    text = ", ".join(str(v) for v in values)
    return textwrap.fill(text, 118, initial_indent=pad, subsequent_indent=pad, break_long_words=False) + ","


def descriptor(fields: Fields, indent: int = 4) -> str:
    """A brace initializer with the names of the fields as comments, wrapped at 120 columns."""
    pad = " " * indent
    parts: list[str] = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            parts.append(f"/*{name}*/ {descriptor(value, indent + 4)}")
        elif isinstance(value, tuple):
            parts.append(f"/*{name}*/ {{" + ", ".join(map(str, value)) + "}")
        else:
            parts.append(f"/*{name}*/ {value}")
    lines: list[str] = []
    for part in parts:  # a nested descriptor stands alone, the others fill lines
        if "\n" in part or not lines or "\n" in lines[-1] or len(pad) + len(lines[-1]) + len(part) > 117:
            lines.append(part)
        else:
            lines[-1] += f", {part}"
    return "{\n" + "".join(f"{pad}{line},\n" for line in lines) + pad[4:] + "}"


@dataclass(frozen=True)
class Graph:
    """Names and addresses of a program's tensors in the generated ``model_run``."""

    program: Program
    plan: MemoryPlan

    def __post_init__(self) -> None:
        roots = dict.fromkeys(
            self.program.root(a.tensor)[0] for step in self.program.steps for a in step.arguments if isinstance(a, Ref)
        )
        identifiers = dict(zip(roots, names.unique(map(names.snake, roots)), strict=True))
        object.__setattr__(self, "_identifiers", identifiers)

    def identifier(self, root: str) -> str:
        """The C++ variable of a tensor that owns memory."""
        table: dict[str, str] = getattr(self, "_identifiers")  # noqa: B009 - set in __post_init__ of a frozen class
        return table[root]

    def declarations(self) -> list[dict[str, str]]:
        """A pointer for every tensor that owns memory and is used."""
        table: dict[str, str] = getattr(self, "_identifiers")  # noqa: B009
        result = []
        for root, identifier in table.items():
            value = self.program.values[root]
            if root in self.program.inputs:
                text = f"const {value.ctype}* const {identifier} = static_cast<const {value.ctype}*>(input);"
            elif root in self.program.outputs:
                number = self.program.outputs.index(root)
                text = f"{value.ctype}* const {identifier} = static_cast<{value.ctype}*>(outputs[{number}]);"
            else:
                text = f"{value.ctype}* const {identifier} = at<{value.ctype}>(arena, {self.plan.offsets[root]});"
            result.append({"declaration": text, "comment": "x".join(map(str, value.shape[1:]))})
        return result

    def layers(self) -> list[dict[str, str]]:
        """The kernel calls."""
        constants = names.unique(names.camel(step.node or step.op) for step in self.program.steps)
        return [
            {
                "struct": step.struct,
                "constant": constant,
                "fields": descriptor(step.fields),
                "op": names.comment(step.op),
                "node": names.comment(step.node),
                "call": self._call(step, constant, index),
            }
            for index, (step, constant) in enumerate(zip(self.program.steps, constants, strict=True))
        ]

    def _call(self, step: Step, constant: str, index: int) -> str:
        arguments = ", ".join(self._argument(a, constant, index) for a in step.arguments)
        return textwrap.fill(f"{step.kernel}({arguments});", 118, subsequent_indent=" " * 6, break_long_words=False)

    def _argument(self, argument: Argument, constant: str, index: int) -> str:
        if isinstance(argument, Ref):
            root, offset = self.program.root(argument.tensor)
            offset += argument.offset
            return f"{self.identifier(root)} + {offset}" if offset else self.identifier(root)
        if isinstance(argument, ConstantRef):
            return f"constant<{argument.ctype}>({argument.offset})"
        if isinstance(argument, Scratch):
            return f"at<{argument.ctype}>(arena, {self.plan.scratch[index]})"
        if isinstance(argument, DataBase):
            return "uhd_model_data"
        return constant if isinstance(argument, DescriptorRef) else argument


def tensor_info(row: TensorRow) -> str:
    """The initializer of a ``TensorInfo``."""
    numbers = (row.height, row.width, row.channels, row.bytes, row.exponent, row.arena_offset)
    return f"{{{names.c_string(row.name)}, {', '.join(map(str, numbers))}}}"


def _table(ctype: str, name: str, table: Table) -> dict[str, str]:
    return {"ctype": ctype, "name": name, "numbers": wrap(table.values)}


def decode_context(decode: Decode) -> dict[str, Any]:
    """Tables and fields of the ``DecodeSpec``."""
    tables = [_table("uint16_t", "kBoxXy", decode.box_xy)]
    tables += [_table("uint32_t", f"kBox{'WH'[i % 2]}{i // 2}", table) for i, table in enumerate(decode.box_wh)]
    tables += [_table("uint16_t", f"k{name.capitalize()}Score", table) for name, table in decode.scores.items()]
    fields: list[tuple[str, object]] = [
        ("anchor_count", decode.anchor_count), ("class_count", decode.class_count), ("grid_h", decode.grid[0]),
        ("grid_w", decode.grid[1]), ("top_k", decode.top_k),
        *((f"{name}_output", decode.outputs.get(name, -1)) for name in ("box", *_SCORE_FIELDS)),
        ("score_threshold_q16", decode.score_threshold_q16), ("nms_iou_q16", decode.nms_iou_q16),
        ("box_xy", f"{{kBoxXy, {decode.box_xy.shift}}}"), ("box_wh", "kBoxWh"),
    ]  # fmt: skip
    for name in _SCORE_FIELDS:
        table = decode.scores.get(name)
        fields.append((name, f"{{k{name.capitalize()}Score, {table.shift}}}" if table else "{nullptr, 0}"))
    sizes = [f"{{kBox{'WH'[i % 2]}{i // 2}, {table.shift}}}" for i, table in enumerate(decode.box_wh)]
    return {"tables": tables, "box_wh": sizes, "fields": fields}


def info_context(about: Description) -> dict[str, Any]:
    """What ``info.cpp`` needs."""
    return {
        "hash_bytes": wrap(f"0x{byte:02x}" for byte in bytes.fromhex(about.espdl_sha256)),
        "espdl_size": about.espdl_size,
        "input_table": wrap(about.input_table),
        "outputs": [tensor_info(row) for row in about.outputs],
        "decode": decode_context(about.decode) if about.decode else None,
        "info": [
            ("name", "model_id::kName"), ("variant", "model_id::kVariant"), ("target", "model_id::kTarget"),
            ("espdl", "uhd_model_espdl"), ("espdl_size", about.espdl_size), ("hash", "kHash"),
            ("arena_size", about.arena_size), ("input", tensor_info(about.input)),
            ("outputs", "kOutputs"), ("output_count", len(about.outputs)), ("input_table", "kInputTable"),
            ("decode", "&kDecode" if about.decode else "nullptr"),
        ],
    }  # fmt: skip
