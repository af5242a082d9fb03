"""Writes the pipeline protos that the translator's tests compile, one NAME.pb for each function below.

    python testdata/pipelines/generate.py [NAME ...]

Needs apache-beam. What comes out is what PortableRunner would submit: batch pipelines are combiner-packed and lifted by the SDK,
streaming ones are not. Pickled user code is left out: it never runs in those tests.
"""

import os
import sys

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.coders import StrUtf8Coder, VarIntCoder
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns, python_urns
from apache_beam.portability.api import beam_runner_api_pb2 as pb
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms import trigger, userstate, window
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.window import FixedWindows, NonMergingWindowFn, Sessions

HERE = os.path.dirname(os.path.abspath(__file__))


def first(element, _):
  return element


class Pairs(beam.DoFn):
  def process(self, element):
    yield str(element), 1


class Evens(beam.DoFn):
  def process(self, element):
    yield element
    yield pvalue.TaggedOutput('odd', element)


class Ranges(RestrictionProvider):
  def initial_restriction(self, element):
    return OffsetRange(0, int(element))

  def create_tracker(self, restriction):
    return OffsetRestrictionTracker(restriction)

  def restriction_size(self, element, restriction):
    return restriction.size()


class Count(beam.DoFn):
  def process(self, element, tracker=beam.DoFn.RestrictionParam(Ranges())):
    position = tracker.current_restriction().start
    while tracker.try_claim(position):
      yield position
      position += 1


class CountForEver(beam.DoFn):
  @beam.DoFn.unbounded_per_element()
  def process(self, element, tracker=beam.DoFn.RestrictionParam(Ranges())):
    yield element


class Session(beam.DoFn):
  """State of every kind that Python has, both kinds of timers."""
  BAG = userstate.BagStateSpec('bag', VarIntCoder())
  LAST = userstate.ReadModifyWriteStateSpec('last', StrUtf8Coder())
  SUM = userstate.CombiningValueStateSpec('sum', VarIntCoder(), sum)
  SEEN = userstate.SetStateSpec('seen', beam.coders.FastPrimitivesCoder())
  QUEUE = userstate.OrderedListStateSpec('queue', VarIntCoder())
  FLUSH = userstate.TimerSpec('flush', TimeDomain.WATERMARK)
  IDLE = userstate.TimerSpec('idle', TimeDomain.REAL_TIME)

  def process(
      self,
      element,
      bag=beam.DoFn.StateParam(BAG),
      last=beam.DoFn.StateParam(LAST),
      total=beam.DoFn.StateParam(SUM),
      seen=beam.DoFn.StateParam(SEEN),
      queue=beam.DoFn.StateParam(QUEUE),
      flush=beam.DoFn.TimerParam(FLUSH),
      idle=beam.DoFn.TimerParam(IDLE)):
    yield element

  @userstate.on_timer(FLUSH)
  def on_flush(self):
    pass

  @userstate.on_timer(IDLE)
  def on_idle(self):
    pass


class Finalizing(beam.DoFn):
  def process(self, element, finalizer=beam.DoFn.BundleFinalizerParam):
    yield element


class Days(NonMergingWindowFn):
  """A window function that the runner does not know, with windows of its own."""
  def assign(self, context):
    return [Day(int(context.timestamp) // 86400)]

  def get_window_coder(self):
    return DayCoder()


class Day(window.BoundedWindow):
  def __init__(self, number):
    super().__init__((number + 1) * 86400)
    self.number = number

  def __hash__(self):
    return hash(self.number)

  def __eq__(self, other):
    return self.number == other.number


class DayCoder(beam.coders.Coder):
  def encode(self, value):
    return b'%d' % value.number

  def decode(self, encoded):
    return Day(int(encoded))

  def is_deterministic(self):
    return True


class Identity(beam.PTransform):
  def expand(self, pcoll):
    return pcoll


class Nested(beam.PTransform):
  def expand(self, pcoll):
    return pcoll | 'Inner' >> Inner() | 'Tail' >> beam.ParDo(Pairs())


class Inner(beam.PTransform):
  def expand(self, pcoll):
    return pcoll | 'A' >> beam.Map(abs) | 'B' >> beam.Map(abs)


class Both(beam.PTransform):
  """Two combines of one collection, which the SDK is asked to pack into one."""
  def annotations(self):
    return {python_urns.APPLY_COMBINER_PACKING: b''}

  def expand(self, pcoll):
    return pcoll | 'Sum' >> beam.CombinePerKey(sum), pcoll | 'Max' >> beam.CombinePerKey(max)


class Stamp(beam.DoFn):
  """Stands for the parsing of a message; the runner sees KV<bytes, bytes>."""
  def process(self, element):
    yield element


def pair(p, label='Pair', n=3):
  return p | label + 'Create' >> beam.Create(range(n), reshuffle=False) | label >> beam.ParDo(Pairs()).with_output_types(
      tuple[str, int])


def word_count(p):
  _ = (
      p | beam.Create(['a b', 'c']) | 'Split' >> beam.FlatMap(str.split).with_output_types(str)
      | 'One' >> beam.ParDo(Pairs()).with_output_types(tuple[str, int])
      | 'Count' >> beam.CombinePerKey(sum)
      | 'Format' >> beam.Map(str))


def word_count_streaming(p):
  word_count(p)


def packed(p):
  sums, maxima = pair(p) | 'Both' >> Both()
  _ = sums | 'Sums' >> beam.Map(str), maxima | 'Maxima' >> beam.Map(str)


def co_group_by_key(p):
  left, right = pair(p, 'Left'), pair(p, 'Right')
  _ = {'l': left, 'r': right} | beam.CoGroupByKey() | 'Join' >> beam.Map(str)


def flatten_coders(p):
  numbers = p | 'Numbers' >> beam.Create([1, 2], reshuffle=False) | 'N' >> beam.Map(abs).with_output_types(int)
  words = p | 'Words' >> beam.Create(['a'], reshuffle=False) | 'W' >> beam.Map(str).with_output_types(str)
  mixed = (numbers, words) | 'Mixed' >> beam.Flatten()
  _ = mixed | 'Reader' >> beam.Map(str)
  _ = (mixed, words) | 'More' >> beam.Flatten() | 'MoreReader' >> beam.Map(str)


def flatten_fused(p):
  source = p | beam.Create([1, 2], reshuffle=False)
  a, b = source | 'A' >> beam.Map(abs), source | 'B' >> beam.Map(abs)
  flat = (a, b) | beam.Flatten()
  _ = flat | 'Pair' >> beam.ParDo(Pairs()).with_output_types(tuple[str, int]) | beam.GroupByKey()


def flatten_self(p):
  source = p | beam.Impulse()
  twice = (source, source) | 'Runner' >> beam.Flatten() | 'Map' >> beam.Map(len)
  again = (twice, twice, p | 'Other' >> beam.Create([1], reshuffle=False)) | 'Mixed' >> beam.Flatten()
  nothing = () | 'Nothing' >> beam.Flatten(pipeline=p)
  _ = (again, nothing) | 'All' >> beam.Flatten() | 'Pair' >> beam.ParDo(Pairs()).with_output_types(
      tuple[str, int]) | beam.GroupByKey()


def side_inputs(p):
  main = p | 'Main' >> beam.Create([1, 2], reshuffle=False)
  top = main | 'Top' >> beam.Map(abs)
  rest = main | 'Rest' >> beam.ParDo(Pairs()).with_output_types(tuple[str, int])
  # A diamond: both branches come from one stage, one is the other's side input.
  joined = top | 'Join' >> beam.Map(first, pvalue.AsMultiMap(rest))
  _ = joined | 'Again' >> beam.Map(first, pvalue.AsList(top))
  _ = main | 'Self' >> beam.Map(first, pvalue.AsIter(main))


def side_input_windows(p):
  main = p | 'Main' >> beam.Create([1, 2], reshuffle=False)
  side = p | 'Side' >> beam.Create([3], reshuffle=False) | 'SideWindow' >> beam.WindowInto(FixedWindows(60))
  windowed = main | 'Window' >> beam.WindowInto(FixedWindows(60))
  # Not in one stage: the windows change in between.
  _ = windowed | 'Join' >> beam.Map(first, pvalue.AsIter(side))
  _ = main | 'Abs' >> beam.Map(abs) | 'Global' >> beam.Map(first, pvalue.AsIter(side))


def stateful(p):
  sessions = pair(p) | 'Window' >> beam.WindowInto(FixedWindows(60)) | 'Session' >> beam.ParDo(Session())
  _ = sessions | 'After' >> beam.Map(str)


def sdf_bounded(p):
  _ = p | beam.Create(['5']) | 'Read' >> beam.ParDo(Count()).with_output_types(int) | 'After' >> beam.Map(str)


def sdf_unbounded(p):
  limits = p | 'Limits' >> beam.Create([1], reshuffle=False)
  numbers = p | beam.Create(['5'], reshuffle=False) | 'Read' >> beam.ParDo(CountForEver()).with_output_types(int)
  _ = numbers | 'Done' >> beam.ParDo(Finalizing())
  _ = numbers | 'Limit' >> beam.Map(first, pvalue.AsIter(limits))


def reshuffle(p):
  shuffled = p | beam.Create([1, 2], reshuffle=False) | 'Before' >> beam.Map(abs) | beam.Reshuffle()
  _ = shuffled | 'After' >> beam.Map(abs)
  _ = shuffled | 'Sibling' >> beam.Map(abs)


def sessions(p):
  _ = (
      pair(p)
      | beam.WindowInto(
          Sessions(600),
          trigger=trigger.AfterWatermark(
              early=trigger.Repeatedly(trigger.AfterAny(trigger.AfterCount(1), trigger.AfterProcessingTime(30))),
              late=trigger.AfterCount(1)),
          accumulation_mode=trigger.AccumulationMode.ACCUMULATING,
          allowed_lateness=3600)
      | 'Sum' >> beam.CombinePerKey(sum))


def triggers(p):
  """Every kind of trigger, none of which lifts the combine behind it."""
  _ = (
      pair(p)
      | beam.WindowInto(
          window.SlidingWindows(60, 20, offset=5),
          trigger=trigger.Repeatedly(
              trigger.AfterEach(
                  trigger.AfterAll(trigger.AfterCount(3), trigger.AfterProcessingTime(1)),
                  trigger.OrFinally(trigger.Always(), trigger.AfterCount(5)))),
          accumulation_mode=trigger.AccumulationMode.DISCARDING,
          timestamp_combiner=window.TimestampCombiner.OUTPUT_AT_EARLIEST)
      | 'Sum' >> beam.CombinePerKey(sum))


def custom_window(p):
  _ = pair(p) | beam.WindowInto(Days()) | 'Session' >> beam.ParDo(Session()) | beam.GroupByKey() | 'After' >> beam.Map(str)


def main_job_streaming(p):
  """Kafka to Kafka; the test turns the two Impulse and Map stand-ins into native transforms."""
  read = (
      p | 'Read' >> beam.Impulse()
      | 'ReadKafka' >> beam.ParDo(Stamp()).with_output_types(tuple[bytes, bytes]))
  totals = (
      read | 'Parse' >> beam.ParDo(Stamp()).with_output_types(tuple[str, int])
      | 'Filter' >> beam.Filter(bool).with_output_types(tuple[str, int])
      | 'Window' >> beam.WindowInto(
          FixedWindows(300),
          trigger=trigger.AfterWatermark(
              early=trigger.AfterProcessingTime(10), late=trigger.AfterCount(1)),
          accumulation_mode=trigger.AccumulationMode.ACCUMULATING,
          allowed_lateness=600)
      | 'Total' >> beam.CombinePerKey(sum))
  _ = (
      totals | 'Encode' >> beam.ParDo(Stamp()).with_output_types(tuple[bytes, bytes])
      | 'WriteKafka' >> beam.Map(len))


def nested(p):
  _ = (
      p | beam.Create([1], reshuffle=False) | 'Outer' >> Nested() | 'Same' >> Identity()
      | 'Group' >> beam.GroupByKey() | 'Deep' >> beam.MapTuple(first))


def multi_output(p):
  tagged = p | beam.Create([1], reshuffle=False) | 'Evens' >> beam.ParDo(Evens()).with_outputs('odd', 'unread', main='even')
  _ = tagged.even | 'Even' >> beam.Map(abs)
  _ = tagged.odd | 'Odd' >> beam.Reshuffle() | 'AfterOdd' >> beam.Map(abs)


def combine_globally(p):
  mean = p | beam.Create([1, 2], reshuffle=False) | beam.combiners.Mean.Globally()
  _ = mean | 'Print' >> beam.Map(str)


def test_stream(p):
  stream = TestStream(coder=StrUtf8Coder(), output_tags=['a', 'b'])
  stream.add_elements(['x', 'y'], tag='a').add_elements([window.TimestampedValue('z', 7)], tag='b')
  stream.advance_watermark_to(5, tag='a').advance_processing_time(10).advance_watermark_to_infinity()
  tagged = p | stream
  windows = dict(
      windowfn=FixedWindows(5),
      trigger=trigger.AfterWatermark(early=trigger.AfterProcessingTime(1)),
      accumulation_mode=trigger.AccumulationMode.DISCARDING)
  both = tagged['a'] | 'Some' >> beam.WindowInto(**windows), tagged['b'] | 'Others' >> beam.WindowInto(**windows)
  both | beam.Flatten() | beam.ParDo(Pairs()) | beam.GroupByKey()


STREAMING = {'test_stream', 'word_count_streaming', 'main_job_streaming', 'sdf_unbounded', 'triggers'}
PIPELINES = [
    word_count, word_count_streaming, packed, co_group_by_key, flatten_coders, flatten_fused, flatten_self, side_inputs,
    side_input_windows, stateful, sdf_bounded, sdf_unbounded, reshuffle, sessions, triggers, custom_window,
    main_job_streaming, nested, multi_output, combine_globally, test_stream
]


def without_code(spec):
  """Returns a payload without the pickled user code, which is large, has file names in it and never runs here."""
  if spec.urn.startswith('beam:transform:combine_'):
    payload = pb.CombinePayload.FromString(spec.payload)
    payload.combine_fn.payload = b'pickled'
  elif spec.urn == common_urns.primitives.PAR_DO.urn:
    payload = pb.ParDoPayload.FromString(spec.payload)
    payload.do_fn.payload = b'pickled'
    for side_input in payload.side_inputs.values():
      side_input.view_fn.payload = b'pickled'
      side_input.window_mapping_fn.payload = b'pickled'
    for state in payload.state_specs.values():
      if state.HasField('combining_spec'):
        state.combining_spec.combine_fn.payload = b'pickled'
  elif spec.urn == 'beam:transform:generic_composite:v1' or spec.urn.startswith('beam:transform:pickled_python'):
    return b''
  else:
    return spec.payload
  return payload.SerializeToString(deterministic=True)


def write(build):
  arguments = ['--environment_type=EXTERNAL', '--environment_config=localhost:50000']
  if build.__name__ in STREAMING:
    arguments.append('--streaming')
  options = PipelineOptions(arguments)
  p = beam.Pipeline(options=options)
  build(p)
  proto = PortableRunner.get_proto_pipeline(p, options)
  for environment in proto.components.environments.values():
    # What is installed where this runs is of no interest, and large.
    del environment.dependencies[:]
  for transform in proto.components.transforms.values():
    del transform.display_data[:]
    transform.spec.payload = without_code(transform.spec)
  requirements = sorted(proto.requirements)
  del proto.requirements[:]
  proto.requirements.extend(requirements)
  with open(os.path.join(HERE, build.__name__ + '.pb'), 'wb') as f:
    f.write(proto.SerializeToString(deterministic=True))


def main(names):
  for b in PIPELINES:
    if not names or b.__name__ in names:
      write(b)


if __name__ == '__main__':
  # Classes of an importable module are pickled by name, so that the same protos come out each time.
  sys.path.insert(0, HERE)
  import generate
  generate.main(sys.argv[1:])
