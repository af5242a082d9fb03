"""Prints rows as Beam's Python SDK encodes them: JSON objects of the schema's proto, the row and what it decodes to."""
import base64
import json
import typing

import numpy as np
from apache_beam.coders import RowCoder
from apache_beam.typehints.schemas import schema_from_element_type


class Inner(typing.NamedTuple):
  name: str
  data: typing.Optional[bytes]


class Wide(typing.NamedTuple):
  i16: np.int16
  i32: np.int32
  i64: np.int64
  f32: np.float32
  f64: float
  text: str
  data: bytes
  flag: bool
  maybe: typing.Optional[int]
  inner: Inner
  inners: typing.Optional[typing.Sequence[Inner]]
  pairs: typing.Mapping[str, typing.Optional[int]]


def plain(v):
  if isinstance(v, tuple):
    return [plain(x) for x in v]
  if isinstance(v, list):
    return [plain(x) for x in v]
  if isinstance(v, dict):
    return {k: plain(x) for k, x in v.items()}
  if isinstance(v, bytes):
    return base64.b64encode(v).decode()
  if isinstance(v, np.generic):
    return v.item()
  return v


coder = RowCoder(schema_from_element_type(Wide))
for value in (
    Wide(np.int16(-3), np.int32(-70000), np.int64(-5), np.float32(0.5), 1e300, 'süß', b'\0\xff', True, 2**40,
         Inner('a', b'x'), [Inner('b', None), Inner('', b'')], {'k': 1, 'n': None}),
    Wide(np.int16(0), np.int32(0), np.int64(0), np.float32(0), 0.0, '', b'', False, None, Inner('', None), None, {}),
    Wide(np.int16(32767), np.int32(2**31 - 1), np.int64(2**53), np.float32(-1), -0.25, 'x' * 300, b'y' * 300, True, -1,
         Inner('z', b''), [], {'only': -1}),
):
  print(json.dumps({
      'Schema': base64.b64encode(coder.schema.SerializeToString()).decode(),
      'Row': base64.b64encode(coder.encode(value)).decode(),
      'Want': plain(value),
  }))
