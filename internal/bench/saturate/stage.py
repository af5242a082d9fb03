"""Writes the pipeline of the built-in stage to the file of the first argument, and prints the versions that made it."""

import json
import logging
import platform
import sys
from pathlib import Path

try:
    import apache_beam as beam
except ImportError as missing:
    sys.exit(f"apache-beam is missing: {missing}")
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.transforms import environments


def main(path: str) -> None:
    command = json.dumps({"command": sys.executable})
    options = PipelineOptions(["--environment_type=PROCESS", f"--environment_config={command}"])
    pipeline = beam.Pipeline(options=options)
    # Between two Reshuffles the function is a stage of its own: it reads from the runner and writes to it.
    (
        pipeline
        | beam.Create([b""])
        | "Before" >> beam.Reshuffle()
        | "Identity" >> beam.Map(lambda element: element).with_output_types(bytes)
        | "Behind" >> beam.Reshuffle()
        | "End" >> beam.Map(lambda element: element).with_output_types(bytes)
    )
    environment = environments.ProcessEnvironment.from_options(options.view_as(PortableOptions))
    Path(path).write_bytes(pipeline.to_runner_api(default_environment=environment).SerializeToString())
    print(json.dumps({"python": platform.python_version(), "apache_beam": beam.__version__}))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(sys.argv[1])
