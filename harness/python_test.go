package harness

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/fnapi"
	"padstone/fnapi/fakesdk"
	"padstone/internal/buffers"
	"padstone/internal/fault"
)

// python returns the interpreter to test with: one that has apache-beam.
func python(t *testing.T) string {
	t.Helper()
	path := os.Getenv("PADSTONE_PYTHON")
	if path == "" {
		t.Skip("PADSTONE_PYTHON does not name a Python interpreter with apache-beam")
	}
	return path
}

// patient is a manager that gives the Python SDK time to import.
func patient(t *testing.T) *Manager {
	return newManager(t, func(c *Config) { c.StartTimeout, c.StopTimeout = 90*time.Second, 10*time.Second })
}

// TestRealPython starts the Python SDK's worker directly and echoes elements through it, on the default and on named data streams.
func TestRealPython(t *testing.T) {
	m := patient(t)
	options, err := structpb.NewStruct(map[string]any{"beam:option:job_name:v1": "echo"})
	if err != nil {
		t.Fatal(err)
	}
	env := processEnv(t, python(t), "")
	env.Capabilities = []string{fnapi.CapabilityNamedDataStreams}
	logs := make(chan fnapi.LogEntry, 10000)
	p, err := m.Start(context.Background(), Spec{
		JobID: "j", JobName: "echo", EnvID: "py", Environment: env, Options: options, Log: func(e fnapi.LogEntry) { logs <- e },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(context.Background())
	w := p.Workers()[0]
	echo(t, m, w, "d0")
	d, err := fakesdk.Chain("d1", m.cfg.Server.Endpoint(), "bytes")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.cfg.Server.AddDescriptor(d); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		echoOn(t, w, "d1", "s"+strconv.Itoa(i%2), i)
	}
	mismatch, err := fakesdk.Chain("d2", m.cfg.Server.Endpoint(), "bytes")
	if err != nil {
		t.Fatal(err)
	}
	mismatch.Environments[""] = &pipepb.Environment{Capabilities: []string{"beam:version:sdk_base:apache/beam_python3.0_sdk:0.0.1"}}
	if err := m.cfg.Server.AddDescriptor(mismatch); err != nil {
		t.Fatal(err)
	}
	b, err := w.StartBundle(testContext(t), fnapi.StartBundle{
		InstructionID: "m", DescriptorID: "d2", Inputs: []string{fakesdk.SourceID}, Outputs: []string{fakesdk.SinkID},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Wait(testContext(t))
	wantCode(t, err, fault.Pipeline, "harness-sdk-version")
	status, err := w.Status(testContext(t))
	if err != nil || !strings.Contains(status, "THREAD DUMP") {
		t.Fatalf("status %q, %v", status, err)
	}
	p.Close(context.Background())
	for len(logs) > 0 {
		if e := <-logs; e.Severity == fnapi.SeverityInfo && strings.Contains(e.Message, "Python sdk harness starting") && e.Location != "" {
			return
		}
	}
	t.Fatal("the harness's log has not come")
}

// echoOn runs a bundle on a data stream; its response must carry full monitoring infos.
func echoOn(t *testing.T, w *fnapi.Worker, descriptor fnapi.DescriptorID, stream string, n int) {
	t.Helper()
	count := 0
	b, err := w.StartBundle(testContext(t), fnapi.StartBundle{
		InstructionID: fnapi.InstructionID("n" + strconv.Itoa(n)), DescriptorID: descriptor, DataStreamID: stream,
		Inputs: []string{fakesdk.SourceID}, Outputs: []string{fakesdk.SinkID},
		OnData: func(_ string, data []byte, _ *buffers.Buffer) {
			values, err := fakesdk.Values(data)
			if err != nil {
				t.Error(err)
			}
			count += len(values)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		var data []byte
		for range 1000 {
			data = fakesdk.InGlobalWindow(1, fakesdk.Nested([]byte("value"))).Append(data)
		}
		if err := b.SendData(testContext(t), fakesdk.SourceID, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Finish(testContext(t)); err != nil {
		t.Fatal(err)
	}
	resp, err := b.Wait(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if count != 3000 || len(resp.GetMonitoringInfos()) == 0 || resp.GetMonitoringInfos()[0].GetUrn() == "" {
		t.Fatalf("%d elements, %d infos", count, len(resp.GetMonitoringInfos()))
	}
}

// TestRealPythonFailsToStart: the error must show what Python printed.
func TestRealPythonFailsToStart(t *testing.T) {
	m := patient(t)
	env := processEnv(t, python(t), "")
	env.Payload = marshal(t, &pipepb.ProcessPayload{
		Command: python(t), Env: map[string]string{"CONTROL_API_SERVICE_DESCRIPTOR": "nonsense"},
	})
	_, err := m.Start(context.Background(), Spec{JobID: "j", JobName: "n", EnvID: "py", Environment: env})
	if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(err.Error(), "ParseError") {
		t.Fatalf("got %v", err)
	}
}

// TestRealWorkerPool uses Beam's own worker pool, which starts a process a worker, and then its loopback form, which starts threads.
func TestRealWorkerPool(t *testing.T) {
	interpreter := python(t)
	for name, processes := range map[string]string{"pool": "True", "loopback": "False"} {
		t.Run(name, func(t *testing.T) {
			address := servePython(t, interpreter, processes)
			m := patient(t)
			p := start(t, m, Spec{Environment: externalEnv(t, address)})
			echo(t, m, p.Workers()[0], "d0")
			p.Close(context.Background())
		})
	}
}

// poolProgram runs a worker pool as Beam's own program and LOOPBACK do, on a port that is free, and prints its address.
const poolProgram = `
import sys, time
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer as Pool
address, server = Pool.start(use_process=sys.argv[1] == "True")
print(address, flush=True)
time.sleep(3600)`

// servePython runs a worker pool, whose workers are processes or threads, and returns its address.
func servePython(t *testing.T, interpreter, processes string) string {
	t.Helper()
	cmd := exec.Command(interpreter, "-c", poolProgram, processes)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(interpreter)+":"+os.Getenv("PATH")) // the pool runs "python"
	setProcessGroup(cmd)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		killGroup(cmd.Process.Pid)
		_ = cmd.Wait()
	})
	defer context.AfterFunc(testContext(t), func() { killGroup(cmd.Process.Pid) })() // one that hangs says nothing
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("it does not say its address: %v", err)
	}
	return strings.TrimSpace(address)
}
