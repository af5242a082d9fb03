"""Builds pipelines with Beam's own Kafka transforms and writes their protos, one file a pipeline, into the folder argv[1]."""
import os
import sys
import typing

import apache_beam as beam
from apache_beam.io.kafka import ReadFromKafka
from apache_beam.io.kafka import WriteToKafka
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import window


class Built(Exception):
  pass


class Recorder(beam.runners.PipelineRunner):
  """A runner that keeps the proto and runs nothing."""
  def __init__(self, path):
    super().__init__()
    self.path = path

  def run_pipeline(self, pipeline, options):
    proto = pipeline.to_runner_api()
    with open(self.path, 'wb') as f:
      f.write(proto.SerializeToString())
    raise Built


def build(name, fn):
  path = os.path.join(sys.argv[1], name)
  try:
    with beam.Pipeline(runner=Recorder(path + '.pb'), options=PipelineOptions([])) as p:
      fn(p)
  except Built:
    pass
  except Exception as e:  # what a user would see
    with open(path + '.error', 'w') as f:
      f.write(str(e))


BROKER = {'bootstrap.servers': 'localhost:9092'}


class Header(typing.NamedTuple):
  key: str
  value: bytes


class Out(typing.NamedTuple):
  key: bytes
  value: bytes
  headers: typing.List[Header]
  topic: typing.Optional[str]


beam.coders.registry.register_coder(Header, beam.coders.RowCoder)
beam.coders.registry.register_coder(Out, beam.coders.RowCoder)


def count(p):
  _ = (
      p | ReadFromKafka(dict(BROKER, **{'group.id': 'g'}), ['in', 'more'])
      | beam.WindowInto(window.FixedWindows(10))
      | beam.GroupByKey()
      | beam.Map(lambda kv: (kv[0], b'%d' % len(list(kv[1])))).with_output_types(typing.Tuple[bytes, bytes])
      | WriteToKafka(BROKER, 'out'))


def metadata(p):
  _ = (
      p | 'Read' >> ReadFromKafka(
          BROKER, ['in'], with_metadata=True, max_num_records=10, start_read_time=1700000000000,
          timestamp_policy=ReadFromKafka.create_time_policy)
      | beam.Map(lambda r: (r.topic, r.headers))
      | beam.Map(print))


def headers(p):
  _ = (
      p | beam.Create([Out(b'k', b'v', [Header('h', b'x')], None)]).with_output_types(Out)
      | WriteToKafka(BROKER, 'out', with_headers=True))


def inferred(p):
  _ = (
      p | beam.Create([b'v'])
      | beam.Map(lambda v: beam.Row(key=b'k', value=v, headers=[beam.Row(key='h', value=v)], partition=0))
      | WriteToKafka(BROKER, 'out', with_headers=True))


def longs(p):
  d = 'org.apache.kafka.common.serialization.'
  _ = (
      p | ReadFromKafka(BROKER, ['in'], key_deserializer=d + 'LongDeserializer', value_deserializer=d + 'StringDeserializer')
      | beam.Map(lambda kv: kv).with_output_types(typing.Tuple[int, str])
      | WriteToKafka(BROKER, 'out', key_serializer=d + 'IntegerSerializer', value_serializer=d + 'StringSerializer'))


def hinted(p):
  _ = p | ReadFromKafka(BROKER, ['in']).with_output_types(typing.Tuple[bytes, bytes]) | beam.Map(print)


def property_error(p):
  _ = p | 'MyRead' >> ReadFromKafka(dict(BROKER, **{'interceptor.classes': 'x'}), ['in'])


def coder_error(p):
  _ = p | beam.Create([1]) | beam.Map(lambda x: x) | 'MyWrite' >> WriteToKafka(BROKER, 'out')


for f in (count, metadata, headers, inferred, longs, hinted, property_error, coder_error):
  build(f.__name__, f)
