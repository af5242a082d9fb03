"""The suites: which of Beam's own tests belong to each."""

from pathlib import Path

HERE = Path(__file__).resolve().parent

# Files of the installed SDK, relative to the package apache_beam, with pytest's own arguments; "./" is this folder.
PYTHON: dict[str, list[str]] = {
    "portable": ["./portable_test.py"],
    "prism_refused": ["./refused_test.py"],
    "validatesrunner": [
        "metrics/metric_test.py",
        "pipeline_test.py",
        "runners/portability/fn_api_runner/translations_test.py",
        "transforms/combinefn_lifecycle_test.py",
        "transforms/combiners_test.py",
        "transforms/deduplicate_test.py",
        "transforms/dofn_lifecycle_test.py",
        "transforms/ptransform_test.py",
        "transforms/sideinputs_test.py",
        "transforms/util_test.py",
        "-m",
        "it_validatesrunner",
    ],
    "trigger": ["transforms/trigger_test.py", "-k", "TestStreamTranscript or BatchTranscript or TriggerPipelineTest"],
    "teststream": [
        "testing/test_stream_test.py",
        "./switched_on_test.py",
        "transforms/periodicsequence_test.py",
        "examples/cookbook/ordered_window_elements/streaming_test.py",
    ],
    "state": ["transforms/userstate_test.py", "examples/cookbook/ordered_window_elements/batch_test.py"],
    "transforms": [
        "pipeline_test.py",
        "runners/common_test.py",
        "transforms/combinefn_lifecycle_test.py",
        "transforms/combiners_test.py",
        "transforms/core_it_test.py",
        "transforms/core_test.py",
        "transforms/create_test.py",
        "transforms/deduplicate_test.py",
        "transforms/dofn_lifecycle_test.py",
        "transforms/error_handling_test.py",
        "transforms/ptransform_test.py",
        "transforms/resources_test.py",
        "transforms/sideinputs_test.py",
        "transforms/stats_test.py",
        "transforms/util_test.py",
        "transforms/window_test.py",
        "transforms/write_ptransform_test.py",
        "-m",
        "not it_validatesrunner",
    ],
    "io": [
        "io/avroio_test.py",
        "io/concat_source_test.py",
        "io/filebasedsink_test.py",
        "io/filebasedsource_test.py",
        "io/fileio_test.py",
        "io/iobase_test.py",
        "io/parquetio_test.py",
        "io/sources_test.py",
        "io/textio_test.py",
        "io/tfrecordio_test.py",
        "io/unbounded_source_test.py",
        "io/watch_test.py",
        "testing/synthetic_pipeline_test.py",
        "testing/util_test.py",
    ],
    "dataframe": ["dataframe/io_test.py", "dataframe/schemas_test.py", "dataframe/transforms_test.py"],
    "examples": [
        "examples/avro_nyc_trips_test.py",
        "examples/complete",
        "examples/cookbook",
        "examples/wordcount_debugging_test.py",
        "examples/wordcount_minimal_test.py",
        "examples/wordcount_test.py",
        "-k",
        # What needs Google Cloud. The tests of TestStream are in other suites.
        "not _it_test and not bigquery and not datastore and not ordered_window_elements",
    ],
    "snippets": [
        "examples/dataframe",
        "examples/snippets",
        "programming_guide_test.py",
        "--ignore-glob=/*/enrichment_test.py",
        "-k",
        # Models, and what needs Google Cloud or somebody else's service.
        "not _it_test and not inference and not mltransform and not bigquery",
    ],
    "typehints": [
        "coders/row_coder_test.py",
        "dataframe/convert_test.py",
        "pvalue_test.py",
        "transforms/batch_dofn_test.py",
        "transforms/timestamped_value_type_test.py",
        "typehints/row_type_test.py",
        "typehints/tagged_output_typehints_test.py",
        "typehints/typecheck_test.py",
        "utils/python_callable_test.py",
    ],
}

# Packages of the Go SDK, below github.com/apache/beam/sdks/v2/go/.
GO: dict[str, str] = {
    "go_primitives": "test/integration/primitives",
    "go_synthetic": "test/integration/synthetic",
    "go_wordcount": "test/integration/wordcount",
    "go_regression": "test/regression",
    "go_beam": "pkg/beam",
    "go_passert": "pkg/beam/testing/passert",
    "go_batch": "pkg/beam/transforms/batch",
    "go_filter": "pkg/beam/transforms/filter",
    "go_periodic": "pkg/beam/transforms/periodic",
    "go_stats": "pkg/beam/transforms/stats",
    "go_top": "pkg/beam/transforms/top",
    "go_debug": "pkg/beam/x/debug",
    "go_textio": "pkg/beam/io/textio",
    "go_fileio": "pkg/beam/io/fileio",
    "go_avroio": "pkg/beam/io/avroio",
    "go_snippets": "examples/snippets",
    "go_large_wordcount": "examples/large_wordcount",
    "go_prism": "pkg/beam/runners/prism/internal",
}

# Environments beside LOOPBACK in which `all` runs a suite again.
ENVIRONMENTS: dict[str, tuple[str, ...]] = {"portable": ("EXTERNAL", "PROCESS")}

QUICK = HERE / "quick.txt"
KNOWN = HERE / "known.txt"
