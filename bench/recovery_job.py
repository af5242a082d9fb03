"""A streaming pipeline with state and timers for every key, which bench recovery kills and recovers."""

import sys

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer

FAR = 4_102_444_800  # 2100-01-01


class Remember(beam.DoFn):
    LAST = ReadModifyWriteStateSpec("last", BytesCoder())
    EXPIRY = TimerSpec("expiry", TimeDomain.WATERMARK)

    def process(self, element, last=beam.DoFn.StateParam(LAST), expiry=beam.DoFn.TimerParam(EXPIRY)):
        key, value = element
        last.write(value * 100)
        expiry.set(FAR)
        yield key

    @on_timer(EXPIRY)
    def expire(self, last=beam.DoFn.StateParam(LAST)):
        last.clear()


def pair(i: int) -> tuple[str, bytes]:
    return f"key-{i % 1000:010d}", b"0123456789"


def main() -> None:
    pipeline = beam.Pipeline(options=PipelineOptions(sys.argv[1:], streaming=True, save_main_session=True))
    (
        pipeline
        | PeriodicImpulse(fire_interval=0.02)
        | beam.Map(lambda at: int(float(at) * 50))
        | beam.Map(pair).with_output_types(tuple[str, bytes])
        | "Remember" >> beam.ParDo(Remember())
    )
    pipeline.run()


if __name__ == "__main__":
    main()
