package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	"padstone/fnapi"
	"padstone/internal/fault"
)

// pythonWorker is the command that runs the Python SDK's worker without boot, with what boot would have told it in its environment.
// Spec: python/container/boot.go launchSDKProcess; python sdk_worker_main.py create_harness.
func (l *processLauncher) pythonWorker(w *fnapi.Worker) (*exec.Cmd, error) {
	info := w.ProvisionInfo()
	options := []byte("{}")
	if info.GetPipelineOptions() != nil {
		var err error
		if options, err = protojson.Marshal(info.GetPipelineOptions()); err != nil {
			return nil, fault.New(fault.Internal, codeStart, "pipeline options: %w", err)
		}
	}
	// In a file, since the environment of a process is bounded.
	file := filepath.Join(l.dir, "options-"+string(w.ID())+".json")
	if err := os.WriteFile(file, options, 0o600); err != nil {
		return nil, fault.New(fault.Environment, codeStart, "pipeline options: %w", err)
	}
	cmd := exec.Command(l.target.process.GetCommand(), "-m", "apache_beam.runners.worker.sdk_worker_main")
	cmd.Env = append(withoutHarness(os.Environ()),
		"WORKER_ID="+string(w.ID()),
		"PIPELINE_OPTIONS_FILE="+file,
		"SEMI_PERSISTENT_DIRECTORY="+l.dir,
		"LOGGING_API_SERVICE_DESCRIPTOR="+textDescriptor(l.server),
		"CONTROL_API_SERVICE_DESCRIPTOR="+textDescriptor(l.server),
		"STATUS_API_SERVICE_DESCRIPTOR="+textDescriptor(l.server),
		"RUNNER_CAPABILITIES="+strings.Join(info.GetRunnerCapabilities(), " "),
		"JOB_ID="+l.spec.JobID,
		"JOB_NAME="+l.spec.JobName,
	)
	return cmd, nil
}

// withoutHarness drops what would tell a worker about another runner, should the server itself have been started from a harness.
func withoutHarness(env []string) []string {
	return slices.DeleteFunc(env, func(kv string) bool {
		return strings.HasPrefix(kv, "PIPELINE_OPTIONS=") || strings.HasPrefix(kv, "STATUS_API_SERVICE_DESCRIPTOR=")
	})
}

// textDescriptor is an ApiServiceDescriptor in the protobuf text format.
func textDescriptor(url string) string { return `url: "` + url + `"` }
