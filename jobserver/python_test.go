package jobserver_test

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"padstone/internal/fault"
	"padstone/jobserver"
	"padstone/jobserver/jobtest"
)

// script submits a pipeline as a user does and prints what the user would see.
const script = `
import sys, apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
try:
    p = beam.Pipeline(options=PipelineOptions(sys.argv[1:]))
    p | beam.Create([1, 2]) | 'Double it' >> beam.Map(lambda x: 2 * x)
    result = p.run()
    print('state', result.wait_until_finish())
    print('metrics', sorted(result.metrics().query().keys()))
except Exception as e:
    print('raised', type(e).__name__, str(e).replace('\n', ' '))
`

// TestPythonClient runs Beam's own client against a scripted executor. PADSTONE_PYTHON is an interpreter with apache-beam installed.
func TestPythonClient(t *testing.T) {
	python := os.Getenv("PADSTONE_PYTHON")
	if python == "" {
		t.Skip("PADSTONE_PYTHON is not set")
	}
	for name, c := range map[string]struct {
		args []string
		exec *jobtest.Executor
		want []string
	}{
		"portable runner": {
			args: []string{"--runner=PortableRunner", "--environment_type=LOOPBACK", "--job_name=from-python", "--max_bundle_size=77"},
			want: []string{"state DONE", "metrics ["},
		},
		"flink runner": {
			args: []string{"--runner=FlinkRunner", "--environment_type=LOOPBACK", "--job_name=from-python", "--max_bundle_size=77"},
			want: []string{"state DONE", "metrics ["},
		},
		"failure": {
			args: []string{"--runner=PortableRunner", "--environment_type=LOOPBACK"},
			exec: &jobtest.Executor{Script: func(r *jobtest.Run) {
				r.State(running)
				r.Message(jobpb.JobMessage_JOB_MESSAGE_ERROR, "Traceback: ZeroDivisionError in 'Double it'")
				r.State(failed)
			}},
			want: []string{"raised RuntimeError", "ZeroDivisionError in 'Double it'"},
		},
		"refusal": {
			args: []string{"--runner=PortableRunner", "--environment_type=LOOPBACK"},
			exec: &jobtest.Executor{CheckErr: func(jobserver.Spec) error {
				return fault.New(fault.Pipeline, "unsupported-thing", "%s", strings.Repeat("long\n", 2000)).In("Double it")
			}},
			want: []string{"raised", "INVALID_ARGUMENT", `unsupported-thing: transform "Double it"`},
		},
		"artifacts": {
			args: []string{"--runner=PortableRunner", "--environment_type=DOCKER", "--save_main_session", "--job_name=from-python",
				"--max_bundle_size=77"},
			want: []string{"state DONE", "metrics ["},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.exec == nil {
				c.exec = &jobtest.Executor{}
			}
			endpoint := serve(t, c.exec)
			file := t.TempDir() + "/pipeline.py"
			if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			args := append([]string{file, "--job_endpoint=" + endpoint}, c.args...)
			out, err := exec.CommandContext(t.Context(), python, args...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			for _, run := range c.exec.Runs() {
				if got := run.Spec.Options.GetFields()["beam:option:max_bundle_size:v1"].GetStringValue(); c.want[0] == "state DONE" &&
					(got != "77" || run.Spec.Name != "from-python") {
					t.Errorf("max_bundle_size %q, name %q", got, run.Spec.Name)
				}
				if name == "artifacts" {
					checkArtifacts(t, run.Spec)
				}
			}
		})
	}
}

// checkArtifacts: every environment's dependencies are stored copies.
func checkArtifacts(t *testing.T, spec jobserver.Spec) {
	t.Helper()
	files := 0
	for _, env := range spec.Pipeline.GetComponents().GetEnvironments() {
		for _, dep := range env.GetDependencies() {
			files++
			if dep.GetTypeUrn() != "beam:artifact:type:file:v1" || !strings.Contains(string(dep.GetTypePayload()), "\x12\x40") {
				t.Errorf("dependency %v has no digest", dep)
			}
		}
	}
	t.Logf("%d artifacts staged", files)
}

// serve serves a job server on a port of the loopback interface.
func serve(t *testing.T, executor *jobtest.Executor) string {
	t.Helper()
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := listener.Addr().String()
	server, err := jobserver.New(jobserver.Config{
		DataDir: t.TempDir(), ArtifactEndpoint: endpoint, Executor: executor, Log: zap.NewNop(),
		Options: []*jobpb.PipelineOptionDescriptor{
			{Name: "max_bundle_size", Type: jobpb.PipelineOptionType_INTEGER, Description: "100% ours", Group: "padstone"},
			{Name: "streaming", Type: jobpb.PipelineOptionType_BOOLEAN, Description: "a conflict", Group: "padstone"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(jobserver.ServerOptions()...)
	server.Register(g)
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return endpoint
}
