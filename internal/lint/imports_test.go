package lint

import (
	"strconv"
	"strings"
	"testing"
)

// pure are the engine's packages that are told what happened and answer with what to do: no I/O, clock, goroutine or proto.
var pure = []string{
	"engine/coder", "engine/element", "engine/group", "engine/inventory", "engine/plan", "engine/profile", "engine/rows",
	"engine/scheduler", "engine/sizing", "engine/timer", "engine/trigger", "engine/watermark", "engine/window",
}

// importRule forbids imports. Patterns of directories are those of under; patterns of imports are the same over import paths.
type importRule struct {
	why    string
	in     []string // the rule holds here; empty: everywhere
	except []string // but not here
	tests  bool     // the rule holds for tests, too
	forbid []string // these must not be imported
	allow  []string // except these
}

const (
	pebblePath = "github.com/cockroachdb/pebble"
	kafkaPath  = "github.com/twmb/franz-go"
)

var importRules = []importRule{
	{
		why:    "only engine/store knows the database: give it a method that says what you need",
		except: []string{"engine/store"}, tests: true, forbid: []string{pebblePath},
	},
	{
		why:    "only connector/kafka knows the Kafka client: use the contracts of package connector",
		except: []string{"connector/kafka"}, tests: true, forbid: []string{kafkaPath},
	},
	{
		why:    "only harness/docker knows the Docker client",
		except: []string{"harness/docker"}, tests: true, forbid: []string{"github.com/docker", "github.com/moby"},
	},
	{
		why:    "only engine/checkpoint knows the client of buckets: use a Repository",
		except: []string{"engine/checkpoint"}, tests: true, forbid: []string{"github.com/minio/minio-go"},
	},
	{
		why:    "only engine/bundle, harness, cmd and the runner without an engine speak the Fn API: let them do it for you",
		except: []string{"fnapi", "engine/bundle", "harness", "cmd", "internal/bench/saturate"}, forbid: []string{module + "/fnapi"},
	},
	{
		why: "pure packages know no proto, no network, no disk and no goroutine's tools: pass values in, return decisions",
		in:  pure,
		forbid: []string{
			"google.golang.org", "github.com/apache/beam", "net", "os", "io/fs", "os/exec", "sync", "context", "math/rand",
			"go.uber.org/zap", "log",
		},
	},
	{
		why:    "pure packages build on each other alone",
		in:     pure,
		forbid: []string{module},
		allow:  append(within(pure), module+"/internal/fault"),
	},
	{
		why: "the compiler depends on the machine's language, never the reverse: only the root of engine may call translate",
		in:  []string{"engine"}, except: []string{"engine!"}, forbid: []string{module + "/translate"},
	},
	{
		why: "translate compiles to engine/plan and knows nothing that runs a plan",
		in:  []string{"translate"}, forbid: []string{module},
		allow: []string{module + "/translate", module + "/engine/plan", module + "/engine/element", module + "/engine/coder",
			module + "/internal"},
	},
	{
		why:    "jobserver knows an Executor, not the engine: extend jobserver/executor.go and let cmd wire it",
		in:     []string{"jobserver"},
		forbid: []string{module + "/engine", module + "/cluster", module + "/harness", module + "/fnapi", module + "/translate"},
		allow:  []string{module + "/engine/element", module + "/engine/plan"},
	},
	{
		why: "of the engine only its root implements jobserver.Executor",
		in:  []string{"engine"}, except: []string{"engine!"}, forbid: []string{module + "/jobserver"},
	},
	{
		why:    "a connector knows its contract and the units of data, not the engine",
		in:     []string{"connector"},
		forbid: []string{module},
		allow: []string{module + "/connector", module + "/engine/element", module + "/engine/plan", module + "/engine/coder",
			module + "/internal"},
	},
	{
		why:    "the Fn API server and the harness launchers serve the engine and do not know it",
		in:     []string{"fnapi", "harness"},
		forbid: []string{module + "/engine", module + "/jobserver", module + "/translate", module + "/connector"},
		allow:  []string{module + "/engine/element", module + "/engine/coder"},
	},
	{
		why: "package fault is at the bottom", in: []string{"internal/fault"}, forbid: []string{module},
	},
	{
		why:    "benchmarks look at the product from outside: nothing but commands needs them",
		except: []string{"cmd", "internal/bench"}, forbid: []string{module + "/internal/bench"},
	},
	{
		why: "nothing imports a command", except: []string{"cmd"}, tests: true, forbid: []string{module + "/cmd"},
	},
	{
		why:    "tests' helpers and fakes stay out of the product",
		except: []string{"fnapi/fakesdk", "conformance", "internal/ratio"},
		forbid: []string{
			"testing", "go.uber.org/goleak", "github.com/cockroachdb/datadriven", module + "/fnapi/fakesdk", module + "/engine/enginetest",
			module + "/engine/sim",
		},
	},
	{
		why: "what the engine is compared with must not share its mistakes: compute it anew",
		in:  []string{"engine/enginetest/reference"}, tests: true, forbid: []string{module, "google.golang.org", "github.com"},
	},
}

func TestImportDirections(t *testing.T) {
	tree := project(t)
	for _, f := range tree.files {
		for _, spec := range f.ast.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, rule := range importRules {
				if rule.forbids(f, path) {
					t.Errorf("%s: imports %s; %s", tree.at(spec.Pos()), path, rule.why)
				}
			}
		}
	}
}

// forbids tells whether f must not import path.
func (r importRule) forbids(f *goFile, path string) bool {
	if f.test && !r.tests {
		return false
	}
	// Packages named …test hold fakes and stories' drivers for the tests of others, and the simulation is nothing but a test.
	if (strings.HasSuffix(f.dir, "test") || f.dir == "engine/sim") && !r.tests {
		return false
	}
	if len(r.in) > 0 && !underAny(f.dir, r.in) || underAny(f.dir, r.except) {
		return false
	}
	return underAny(path, r.forbid) && !underAny(path, r.allow)
}

// within turns directories into import paths.
func within(dirs []string) []string {
	paths := make([]string, len(dirs))
	for i, d := range dirs {
		paths[i] = module + "/" + d
	}
	return paths
}

func TestImportRules(t *testing.T) {
	cases := []struct {
		file   string
		path   string
		forbid bool
	}{
		{"engine/store/store.go", pebblePath + "/v2", false},
		{"engine/run.go", pebblePath + "/v2", true},
		{"engine/run_test.go", pebblePath + "/v2", true},
		{"connector/kafka/broker/broker.go", kafkaPath + "/pkg/kfake", false},
		{"cmd/padstone/serve.go", kafkaPath + "/pkg/kgo", true},
		{"engine/bundle/run.go", module + "/fnapi", false},
		{"engine/run.go", module + "/fnapi", true},
		{"internal/bench/saturate/probe.go", module + "/fnapi", false},
		{"internal/bench/fit.go", module + "/fnapi", true},
		{"engine/run.go", module + "/internal/bench/proc", true},
		{"engine/run_test.go", module + "/fnapi/fakesdk", false},
		{"engine/scheduler/step.go", "sync", true},
		{"engine/scheduler/step_test.go", "os", false},
		{"engine/run.go", module + "/engine/enginetest/reference", true},
		{"engine/run_test.go", module + "/engine/enginetest/reference", false},
		{"engine/enginetest/reference/window.go", module + "/engine/window", true},
		{"engine/scheduler/step.go", module + "/engine/watermark", false},
		{"engine/scheduler/step.go", module + "/engine/store", true},
		{"engine/plan/plan.go", module + "/translate", true},
		{"engine/executor.go", module + "/translate", false},
		{"engine/executor.go", module + "/jobserver", false},
		{"engine/bundle/run.go", module + "/jobserver", true},
		{"translate/compile.go", module + "/engine/plan", false},
		{"translate/compile.go", module + "/engine/store", true},
		{"jobserver/server.go", module + "/engine", true},
		{"jobserver/executor.go", module + "/connector", false},
		{"jobserver/executor.go", module + "/engine/element", false},
		{"connector/kafka/read.go", module + "/engine/rows", true},
	}
	for _, c := range cases {
		f := &goFile{path: c.file, dir: pathDir(c.file), test: strings.HasSuffix(c.file, "_test.go")}
		got := false
		for _, rule := range importRules {
			got = got || rule.forbids(f, c.path)
		}
		if got != c.forbid {
			t.Errorf("%s importing %s: forbidden %v, want %v", c.file, c.path, got, c.forbid)
		}
	}
}
