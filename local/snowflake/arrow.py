"""Arrow as Snowflake's connector reads it: times as structs or integers, types named in the metadata."""

# mypy: disable-error-code="attr-defined, name-defined, no-untyped-call"
# (pyarrow re-exports its names without saying so)

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc

from local.snowflake.results import Column, Result

_TZ_ZERO = 1440  # the connector counts minutes east of UTC from here


def encode(result: Result) -> bytes:
    """The table as an IPC stream."""
    arrays, fields = [], []
    for index, column in enumerate(result.columns):
        array = _array(result.table.column(index).combine_chunks(), column)
        arrays.append(array)
        fields.append(pa.field(column.name, array.type, metadata=_metadata(column)))
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _metadata(column: Column) -> dict[str, str]:
    return {
        "logicalType": column.type.upper(),
        "precision": str(column.precision if column.precision is not None else 38),
        "scale": str(column.scale or 0),
        "charLength": str(column.length or 0),
    }


def _array(array: pa.Array, column: Column) -> pa.Array:
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks else pa.array([], array.type)
    if column.type in {"timestamp_ntz", "timestamp_ltz", "timestamp_tz"}:
        return _timestamps(array, with_zone=column.type == "timestamp_tz")
    if column.type == "time":
        return pc.multiply(array.cast(pa.time64("us")).cast(pa.int64()), 1000)
    if column.type == "fixed":
        return _numbers(array)
    if column.type == "real":
        return array.cast(pa.float64())
    if column.type in {"text", "variant"} and not pa.types.is_string(array.type):
        return pa.array([_text(value) for value in array.to_pylist()], pa.string())
    return array


def _numbers(array: pa.Array) -> pa.Array:
    if pa.types.is_decimal(array.type) or (pa.types.is_signed_integer(array.type)):
        return array
    return array.cast(pa.decimal128(38, 0))


def _timestamps(array: pa.Array, *, with_zone: bool) -> pa.Array:
    """struct(epoch, fraction): a NULL needs the validity of the struct, else it arrives as 1970."""
    mask = array.is_null()
    micros = pc.fill_null(array.cast(pa.timestamp("us", array.type.tz)).cast(pa.int64()), 0)
    epoch = pc.floor(pc.divide(micros.cast(pa.float64()), 1_000_000.0)).cast(pa.int64())
    fraction = pc.multiply(pc.subtract(micros, pc.multiply(epoch, 1_000_000)), 1000).cast(pa.int32())
    arrays = [epoch, fraction]
    fields = [pa.field("epoch", pa.int64(), nullable=False), pa.field("fraction", pa.int32(), nullable=False)]
    if with_zone:
        arrays.append(pa.array([_TZ_ZERO] * len(array), pa.int32()))
        fields.append(pa.field("timezone", pa.int32(), nullable=False))
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=mask)


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)
