"""Which values the standard operators take, by the schemas that onnx has of them: what they do not, runtimes refuse."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

from onnx import TensorProto, defs, helper

from bnfold.net import Array


def takes(op_type: str, opset: int, values: Sequence[Array | None]) -> bool:
    """Whether an operator takes as many inputs, of such types, so that numpy has no TypeError to raise.

    Args:
        op_type, opset: the operator.
        values: what it reads, None where that is unknown or nothing is given.
    """
    counts, kinds = _inputs(op_type, opset)
    if len(values) not in counts:
        return False
    bound: dict[str, str] = {}
    for place, value in enumerate(values):
        if value is not None:
            variable, allowed = kinds[min(place, len(kinds) - 1)]
            number = helper.np_dtype_to_tensor_dtype(value.dtype)
            kind = f"tensor({TensorProto.DataType.Name(number).lower()})"
            if kind not in allowed or bound.setdefault(variable, kind) != kind:
                return False
    return True


@lru_cache(maxsize=256)
def _inputs(op_type: str, opset: int) -> tuple[range, Sequence[tuple[str, Collection[str]]]]:
    """How many inputs an operator may have, none where an opset has no such operator, and what each may be.

    That is the type, or the variable that stands for one, and what it may be; the last goes for all that follow.
    """
    try:
        schema = defs.get_schema(op_type, opset)
    except defs.SchemaError:
        return range(0), []
    return range(schema.min_input, schema.max_input + 1), [(one.type_str, one.types) for one in schema.inputs]
