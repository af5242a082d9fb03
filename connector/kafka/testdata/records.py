"""Decodes rows with Beam's Python SDK: standard input has base64 lines, first the schema's proto, then one row a line."""
import base64
import sys

from apache_beam.coders import RowCoder
from apache_beam.portability.api import schema_pb2

lines = [base64.b64decode(line) for line in sys.stdin]
coder = RowCoder(schema_pb2.Schema.FromString(lines[0]))
for row in lines[1:]:
  r = coder.decode(row)
  assert coder.encode(r) == row, (coder.encode(r), row)
  headers = [(h.key, h.value) for h in r.headers]
  print((r.topic, int(r.partition), r.offset, r.timestamp, r.key, r.value, headers, int(r.timestampTypeId), r.timestampTypeName))
