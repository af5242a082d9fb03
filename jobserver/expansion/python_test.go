package expansion_test

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"padstone/connector/kafka"
	"padstone/connector/kafka/config"
	"padstone/engine/plan"
	"padstone/jobserver/expansion"
)

// serve starts the service on a free port.
func serve(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	expansion.New(kafka.Registry(zap.NewNop()), nil, zap.NewNop()).Register(server)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// TestPython builds pipelines with the unmodified Python SDK of PADSTONE_PYTHON against the service.
func TestPython(t *testing.T) {
	python := os.Getenv("PADSTONE_PYTHON")
	if python == "" {
		t.Skip("PADSTONE_PYTHON names no Python interpreter with apache-beam")
	}
	dir := t.TempDir()
	overrides, err := json.Marshal(map[string]string{"sdks:java:io:expansion-service:shadowJar": serve(t)})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "testdata/pipeline.py", dir)
	cmd.Env = append(os.Environ(), "BEAM_SERVICE_OVERRIDES="+string(overrides))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pipeline := func(t *testing.T, name string) *built {
		data, err := os.ReadFile(filepath.Join(dir, name+".pb"))
		if err != nil {
			message, _ := os.ReadFile(filepath.Join(dir, name+".error"))
			t.Fatalf("%v: %s", err, message)
		}
		p := &pipepb.Pipeline{}
		if err := proto.Unmarshal(data, p); err != nil {
			t.Fatal(err)
		}
		return &built{t, p.GetComponents()}
	}
	t.Run("count", func(t *testing.T) {
		p := pipeline(t, "count")
		read, out := p.read()
		if read.Topics[1] != "more" || read.Consumer["group.id"] != "g" || read.Policy != config.ProcessingTime {
			t.Errorf("read %+v", read)
		}
		if got := p.coder(out.GetCoderId()); got != "kv(nullable(bytes),nullable(bytes))" {
			t.Errorf("output coder %s", got)
		}
		if out.GetIsBounded() != pipepb.IsBounded_UNBOUNDED {
			t.Error("the output is bounded")
		}
		write := p.write()
		if write.Topic != "out" || write.Window != plan.IntervalWindow || write.Key != (config.Operand{Format: "bytes", Coder: "bytes"}) {
			t.Errorf("write %+v", write)
		}
	})
	t.Run("metadata", func(t *testing.T) {
		p := pipeline(t, "metadata")
		read, out := p.read()
		if *read.MaxRecords != 10 || *read.StartMs != 1700000000000 || !read.Metadata || read.Policy != config.CreateTime {
			t.Errorf("read %+v", read)
		}
		if out.GetIsBounded() != pipepb.IsBounded_BOUNDED {
			t.Error("the output is unbounded")
		}
		p.sameSchema(out.GetCoderId(), config.RecordSchema())
	})
	for _, name := range []string{"headers", "inferred"} {
		t.Run(name, func(t *testing.T) {
			write := pipeline(t, name).write()
			if write.RowSchema == nil || write.Window != plan.GlobalWindow {
				t.Errorf("write %+v", write)
			}
		})
	}
	t.Run("hinted", func(t *testing.T) {
		p := pipeline(t, "hinted")
		read, out := p.read()
		if !read.KeyRequired || !read.ValueRequired {
			t.Errorf("read %+v", read)
		}
		if got := p.coder(out.GetCoderId()); got != "kv(bytes,bytes)" {
			t.Errorf("output coder %s", got)
		}
	})
	t.Run("longs", func(t *testing.T) {
		p := pipeline(t, "longs")
		_, out := p.read()
		if got := p.coder(out.GetCoderId()); got != "kv(nullable(varint),nullable(string_utf8))" {
			t.Errorf("output coder %s", got)
		}
		want := config.Operand{Format: config.Int32, Coder: config.VarintCoder}
		if write := p.write(); write.Key != want {
			t.Errorf("write %+v", write)
		}
	})
	for name, want := range map[string]string{
		"property_error": `kafka-property: transform "MyRead": property "interceptor.classes" is not supported`,
		"coder_error":    `kafka-input-coder: transform "MyWrite"`,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := os.ReadFile(filepath.Join(dir, name+".error"))
			if err != nil || !strings.Contains(string(got), want) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// built is a pipeline that an SDK has made.
type built struct {
	t *testing.T
	c *pipepb.Components
}

func (b *built) transform(urn string) *pipepb.PTransform {
	b.t.Helper()
	for _, x := range b.c.GetTransforms() {
		if x.GetSpec().GetUrn() == urn {
			if x.GetEnvironmentId() != "" || len(x.GetSubtransforms()) > 0 {
				b.t.Errorf("transform %v", x)
			}
			return x
		}
	}
	b.t.Fatalf("no transform %s in %v", urn, b.c.GetTransforms())
	return nil
}

func (b *built) read() (*config.Read, *pipepb.PCollection) {
	b.t.Helper()
	x := b.transform(string(config.ReadURN))
	cfg, err := config.ParseRead(x.GetSpec().GetPayload())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, id := range x.GetOutputs() {
		return cfg, b.c.GetPcollections()[id]
	}
	b.t.Fatal("a read without output")
	return nil, nil
}

func (b *built) write() *config.Write {
	b.t.Helper()
	x := b.transform(string(config.WriteURN))
	cfg, err := config.ParseWrite(x.GetSpec().GetPayload())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, id := range x.GetInputs() {
		if b.c.GetPcollections()[id] == nil {
			b.t.Fatalf("input %s is not there", id)
		}
	}
	if len(x.GetInputs()) != 1 || len(x.GetOutputs()) != 1 {
		b.t.Fatalf("write %v", x)
	}
	return cfg
}

// coder prints a coder, "kv(bytes,varint)" for example.
func (b *built) coder(id string) string {
	c := b.c.GetCoders()[id]
	name := strings.TrimSuffix(strings.TrimPrefix(c.GetSpec().GetUrn(), "beam:coder:"), ":v1")
	var parts []string
	for _, p := range c.GetComponentCoderIds() {
		parts = append(parts, b.coder(p))
	}
	if parts == nil {
		return name
	}
	return name + "(" + strings.Join(parts, ",") + ")"
}

// sameSchema checks that the SDK's row coder reads what the source writes: the same fields with the same types in the same order.
func (b *built) sameSchema(coder string, want *pipepb.Schema) {
	b.t.Helper()
	c := b.c.GetCoders()[coder]
	got := &pipepb.Schema{}
	if err := proto.Unmarshal(c.GetSpec().GetPayload(), got); err != nil || c.GetSpec().GetUrn() != "beam:coder:row:v1" {
		b.t.Fatalf("coder %v, %v", c, err)
	}
	if got.GetEncodingPositionsSet() {
		b.t.Fatal("the SDK set encoding positions")
	}
	if g, w := canonical(b.t, got), canonical(b.t, want); !bytes.Equal(g, w) {
		b.t.Fatalf("got %v\nwant %v", got, want)
	}
}

func canonical(t *testing.T, s *pipepb.Schema) []byte {
	s = proto.CloneOf(s)
	bare(s)
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// bare takes out what does not change the encoding.
func bare(s *pipepb.Schema) {
	s.Id, s.Options = "", nil
	for _, f := range s.GetFields() {
		f.Id, f.EncodingPosition, f.Options, f.Description = 0, 0, nil, ""
		if a := f.GetType().GetArrayType(); a.GetElementType().GetRowType() != nil {
			bare(a.GetElementType().GetRowType().GetSchema())
		}
	}
}
