"""What XLA made of a program, read from the text of its optimised HLO.

The text has one computation after another; the entry calls the others by name. An instruction that
runs by itself, and not inside a fusion, is a kernel or so, and what a trace shows. Its `op_name`
tells where in the Python code it comes from, by the names of `jax.named_scope`.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from genrec_jax import roofline

_BITS = {"pred": 8, "bf16": 16, "f16": 16}  # of other types the name says it
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"}
_CONTROL = {"while", "call", "conditional"}
_KERNEL = "triton|mosaic|pallas|tpu_custom_call"  # targets of kernels written by hand
_SLICES = {"slice", "dynamic-slice", "gather"}  # read a part of their first operand
# Parts of an op_name that JAX puts there itself.
_NO_SCOPE = re.compile(
    r"while|body|cond|closed_call|eval_jaxpr|checkpoint|rematted_computation|shard_map|pjit|"
    r"custom_[jv]{2}p_call|branch_\d+_fun|"
)
_HEADER = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.-]+) = (.*)")
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|\w+_computations?)=(\{[^}]*\}|%?[\w.-]+)")


class Shape(NamedTuple):
    """An array's type and dimensions."""

    dtype: str
    dims: tuple[int, ...]

    @property
    def bytes(self) -> int:
        bits = _BITS.get(self.dtype) or int(re.search(r"\d+|$", self.dtype)[0] or 0)
        return math.prod(self.dims) * bits // 8


class Instruction(NamedTuple):
    """A line of HLO."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]  # of the result, several if it is a tuple
    operands: tuple[str, ...]
    attributes: str  # all that follows the operands
    is_root: bool

    @property
    def op_name(self) -> str:
        return _found(r'op_name="([^"]*)"', self.attributes)

    @property
    def called(self) -> tuple[str, ...]:
        """The computations that it names: of a fusion one, of a `while` its body and condition."""
        named = " ".join(_CALLED.findall(self.attributes))
        return tuple(re.findall(r"[\w.-]+", named))

    @property
    def bytes(self) -> int:
        return sum(shape.bytes for shape in self.shapes)


Computation = dict[str, Instruction]


class Program(NamedTuple):
    """A module of HLO."""

    name: str
    computations: dict[str, Computation]
    entry: str


class Work(NamedTuple):
    """How much one execution of an instruction is."""

    scope: str  # "" of none
    flops: dict[str, int]  # of products, by `roofline.PRECISIONS`
    bytes: int  # read and written, each operand once
    count: int  # executions a call of the program, of loops whose length is known


def parse(text: str) -> Program:
    """Reads what `jax.stages.Compiled.as_text` returns."""
    computations, entry, current = {}, "", {}
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        elif found := _INSTRUCTION.match(line):
            instruction = _instruction(found[2], found[3], is_root=bool(found[1]))
            current[instruction.name] = instruction
    return Program(_found(r"^HloModule ([\w.-]+)", text), computations, entry)


def scope(op_name: str) -> str:
    """Returns the named scopes of an op_name, such as "level_0/distances".

    What derives the gradients, `transpose` of a scope in the name, has " (backward)" after it.
    """
    *path, _ = op_name.split("/")
    names = []
    for part in path:
        while found := re.fullmatch(r"(?:jvp|transpose|vmap|remat)\((.*)\)", part):
            part = found[1]
        if re.fullmatch(r"\w+", part) and not _NO_SCOPE.fullmatch(part):
            names.append(part)
    is_backward = names and "transpose(" in op_name
    return "/".join(names) + " (backward)" * bool(is_backward)


def work(
    program: Program, kernel_flops: Mapping[str, int] = MappingProxyType({})
) -> dict[str, Work]:
    """Returns the work of each instruction that runs by itself, by its name.

    Control flow and what only names memory are left out. An instruction without a scope has that
    of the first which reads its result.

    Args:
        program: the module.
        kernel_flops: of all kernels written by hand, in equal parts; HLO does not tell.
    """
    kernels = [
        instruction.name
        for computation, _ in _executed(program)
        for instruction in computation.values()
        if re.search(_KERNEL, _target(instruction))
    ]
    each = {precision: flops // (len(kernels) or 1) for precision, flops in kernel_flops.items()}
    found = {}
    for computation, count in _executed(program):
        scopes: dict[str, str] = {}
        for name, instruction in reversed(computation.items()):  # readers stand behind
            own = _scope(program, instruction) or scopes.get(name, "")
            for operand in instruction.operands:
                if own and computation[operand].opcode != "parameter":
                    scopes[operand] = own
            if instruction.opcode not in _FREE | _CONTROL:
                found[name] = Work(
                    own,
                    each if name in kernels else _flops(program, computation, instruction),
                    _traffic(program, computation, instruction),
                    count,
                )
    return found


def callers(program: Program) -> set[str]:
    """Returns the names of the instructions whose time is that of others, such as loops."""
    computations = program.computations.values()
    return {
        instruction.name
        for computation in computations
        for instruction in computation.values()
        if instruction.opcode in _CONTROL
    }


def fusions(program: Program, num_largest: int = 5) -> dict[str, Any]:
    """Returns how many kernels of which kind there are, and those that move the most bytes."""
    kinds, targets, kernels = Counter(), Counter(), []
    works = work(program)
    for computation, _ in _executed(program):
        for instruction in computation.values():
            if instruction.name not in works:
                continue
            kinds[_kind(instruction)] += 1
            if instruction.opcode == "custom-call":
                targets[_target(instruction)] += 1
            inner = _inner(program, instruction)
            one = works[instruction.name]
            kernels.append(
                {
                    "name": instruction.name,
                    "kind": _kind(instruction),
                    "scopes": sorted({scope(part.op_name) for part in inner} - {""}),
                    "num_instructions": len(inner),
                    "bytes": one.bytes,
                    "flops": sum(one.flops.values()),
                }
            )
    return {
        "num_kernels": len(kernels),
        "kinds": dict(kinds.most_common()),
        "custom_calls": dict(targets.most_common()),
        "largest": sorted(kernels, key=lambda kernel: -kernel["bytes"])[:num_largest],
    }


def _found(pattern: str, text: str) -> str:
    """Returns the first group, or nothing."""
    match = re.search(pattern, text)
    return match[1] if match else ""


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
    """Reads `TYPE opcode(operands), attributes`."""
    shape, rest = _split(text) if text.startswith("(") else text.split(" ", 1)
    opcode, _, rest = rest.lstrip().partition("(")
    operands, attributes = _split("(" + rest)
    shapes = tuple(
        Shape(dtype, tuple(map(int, dims.split(","))) if dims else ())
        for dtype, dims in _SHAPE.findall(shape)
    )
    names = () if opcode in ("parameter", "constant") else re.findall(r"%([\w.-]+)", operands)
    return Instruction(name, opcode, shapes, tuple(names), attributes, is_root)


def _split(text: str) -> tuple[str, str]:
    """Returns the parenthesis that the text begins with, and what follows it."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[: place + 1], text[place + 1 :]
    raise ValueError(f"no closing parenthesis: {text}")


def _executed(program: Program) -> Iterator[tuple[Computation, int]]:
    """Yields the computations whose instructions run by themselves, and how often each runs."""
    waiting = [(program.entry, 1)]
    while waiting:
        name, count = waiting.pop()
        computation = program.computations[name]
        yield computation, count
        for instruction in computation.values():
            if instruction.opcode in _CONTROL:
                trips = _found(r'"known_trip_count":\{"n":"(\d+)"', instruction.attributes)
                waiting += [(called, count * int(trips or 1)) for called in instruction.called]


def _inner(program: Program, instruction: Instruction) -> list[Instruction]:
    """Returns what a fusion fuses, or the instruction itself."""
    if instruction.opcode != "fusion":
        return [instruction]
    (called,) = instruction.called
    parts = program.computations[called].values()
    return [inner for part in parts if part.opcode not in _FREE for inner in _inner(program, part)]


def _scope(program: Program, instruction: Instruction) -> str:
    """Returns the scope of the product in a fusion, or else of its result, or of what is last."""
    inner = _inner(program, instruction)
    names = [part.op_name for part in inner if part.opcode == "dot"]
    names += [instruction.op_name, *(part.op_name for part in reversed(inner))]
    return next(filter(None, map(scope, names)), "")


def _kind(instruction: Instruction) -> str:
    if instruction.opcode != "fusion":
        return instruction.opcode
    config = _found(r'"kind":"(\w+)"', instruction.attributes)
    return f"fusion {config or _found(r'kind=(k[A-Za-z]+)', instruction.attributes)}"


def _target(instruction: Instruction) -> str:
    return _found(r'custom_call_target="([^"]*)"', instruction.attributes)


def _is_gemm(instruction: Instruction) -> bool:
    """Returns whether it is a product by NVIDIA's library."""
    return _target(instruction).startswith("__cublas")


def _flops(program: Program, computation: Computation, instruction: Instruction) -> dict[str, int]:
    """Returns the operations of the products: 2mnk of [m, k] and [k, n]."""
    if instruction.opcode == "fusion":
        (called,) = instruction.called
        inner = program.computations[called]
        return roofline.add_flops(*(_flops(program, inner, part) for part in inner.values()))
    if instruction.opcode == "dot":
        contracted = _found(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
    elif _is_gemm(instruction):
        pattern = r'"lhs_contracting_dimensions":\[([\d",]*)\]'
        contracted = _found(pattern, instruction.attributes).replace('"', "")
    else:
        return {}
    left = computation[instruction.operands[0]].shapes[0]
    depth = math.prod(left.dims[int(dim)] for dim in contracted.split(",") if dim)
    return {_precision(left, instruction): 2 * math.prod(instruction.shapes[0].dims) * depth}


def _precision(left: Shape, instruction: Instruction) -> str:
    if left.dtype != "f32":
        return "bfloat16"
    asked = r'operand_precision(?:=\{|":\[")highest'
    is_highest = re.search(asked, instruction.attributes, re.IGNORECASE)
    return "float32_highest" if is_highest else "float32"


def _traffic(program: Program, computation: Computation, instruction: Instruction) -> int:
    """Returns the bytes of the operands and the result, of which slices are only so long."""
    operands = [computation[name] for name in dict.fromkeys(instruction.operands)]
    if instruction.opcode != "fusion":
        alone = {instruction.name: instruction}
        return sum(map(_reads(alone), operands)) + _written(computation, instruction)
    (called,) = instruction.called
    inner = program.computations[called]
    parameters = [part for part in inner.values() if part.opcode == "parameter"]
    root = next(part for part in inner.values() if part.is_root)
    return sum(map(_reads(inner), parameters)) + _written(inner, root)


def _reads(computation: Computation) -> Callable[[Instruction], int]:
    """Returns a function: the bytes that the computation's instructions read of an array."""

    def read(array: Instruction) -> int:
        readers = [part for part in computation.values() if array.name in part.operands]
        total = 0
        for reader in readers:
            is_first = reader.operands[0] == array.name and array.name not in reader.operands[1:]
            if reader.opcode == "bitcast":
                total += read(reader)
            elif is_first and reader.opcode in _SLICES:
                total += reader.bytes
            elif not (is_first and reader.opcode == "dynamic-update-slice"):
                return array.bytes
        return min(total, array.bytes)

    return read


def _written(computation: Computation, root: Instruction) -> int:
    if root.opcode == "bitcast" and root.operands[0] in computation:
        return _written(computation, computation[root.operands[0]])
    if root.opcode == "tuple":
        return sum(_written(computation, computation[name]) for name in root.operands)
    if root.opcode == "dynamic-update-slice":  # in place
        return computation[root.operands[1]].bytes
    if _is_gemm(root):  # what else it returns is its workspace
        return root.shapes[0].bytes
    return root.bytes
