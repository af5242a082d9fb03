package expansion_test

import (
	"context"
	"strings"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"padstone/connector/kafka"
	"padstone/connector/kafka/config"
	"padstone/engine/plan"
	"padstone/jobserver/expansion"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// payload makes an ExternalConfigurationPayload of fields that are null, bool, int64, string, []string or map[string]string.
type payload struct {
	names  []string
	values []any
}

func (p *payload) set(name string, v any) *payload {
	for i := range p.names {
		if p.names[i] == name {
			p.values[i] = v
			return p
		}
	}
	p.names, p.values = append(p.names, name), append(p.values, v)
	return p
}

func lp(s string) string { return string(rune(len(s))) + s } // lengths below 128 only

func (p *payload) encode(t testing.TB) []byte {
	t.Helper()
	schema := &pipepb.Schema{}
	nulls := make([]byte, (len(p.names)+7)/8)
	row := ""
	atomic := func(a pipepb.AtomicType) *pipepb.FieldType {
		return &pipepb.FieldType{Nullable: true, TypeInfo: &pipepb.FieldType_AtomicType{AtomicType: a}}
	}
	text := &pipepb.FieldType{TypeInfo: &pipepb.FieldType_AtomicType{AtomicType: pipepb.AtomicType_STRING}}
	for i, name := range p.names {
		kind := atomic(pipepb.AtomicType_STRING)
		switch v := p.values[i].(type) {
		case nil:
			nulls[i/8] |= 1 << (i % 8)
		case bool:
			kind = atomic(pipepb.AtomicType_BOOLEAN)
			row += map[bool]string{true: "\x01", false: "\x00"}[v]
		case int:
			kind = atomic(pipepb.AtomicType_INT64)
			row += string([]byte{byte(v)}) // 0 to 127
		case string:
			row += lp(v)
		case []string:
			kind = &pipepb.FieldType{TypeInfo: &pipepb.FieldType_ArrayType{ArrayType: &pipepb.ArrayType{ElementType: text}}}
			row += "\x00\x00\x00" + string(rune(len(v)))
			for _, s := range v {
				row += lp(s)
			}
		case map[string]string:
			kind = &pipepb.FieldType{TypeInfo: &pipepb.FieldType_MapType{MapType: &pipepb.MapType{KeyType: text, ValueType: text}}}
			row += "\x00\x00\x00" + string(rune(len(v)))
			for k, s := range v {
				row += lp(k) + lp(s)
			}
		default:
			t.Fatalf("%T", v)
		}
		schema.Fields = append(schema.Fields, &pipepb.Field{Name: name, Type: kind})
	}
	head := string(rune(len(p.names))) + lp(string(nulls))
	if len(p.names) > 127 {
		t.Fatal("too many fields")
	}
	out, err := proto.Marshal(&pipepb.ExternalConfigurationPayload{Schema: schema, Payload: []byte(head + row)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const (
	deserializers = "org.apache.kafka.common.serialization."
	readURN       = "beam:transform:org.apache.beam:kafka_read_without_metadata:v1"
	metadataURN   = "beam:transform:org.apache.beam:kafka_read_with_metadata:v1"
	writeURN      = "beam:transform:org.apache.beam:kafka_write:v1"
	headersURN    = "beam:transform:org.apache.beam:kafka_write_with_headers:v1"
)

func readOptions() *payload {
	p := &payload{}
	return p.set("consumer_config", map[string]string{"bootstrap.servers": "h:9092"}).set("topics", []string{"in"}).
		set("key_deserializer", deserializers+"ByteArrayDeserializer").set("value_deserializer", deserializers+"StringDeserializer").
		set("timestamp_policy", "CreateTime")
}

func writeOptions() *payload {
	p := &payload{}
	return p.set("producer_config", map[string]string{"bootstrap.servers": "h:9092"}).set("topic", "out").
		set("key_serializer", deserializers+"ByteArraySerializer").set("value_serializer", deserializers+"LongSerializer")
}

func expand(t *testing.T, req *jobpb.ExpansionRequest) *jobpb.ExpansionResponse {
	t.Helper()
	resp, err := expansion.New(kafka.Registry(zap.NewNop()), nil, zap.NewNop()).Expand(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func readRequest(t testing.TB, urn string, p *payload) *jobpb.ExpansionRequest {
	return &jobpb.ExpansionRequest{Namespace: "external_7", Transform: &pipepb.PTransform{
		UniqueName: "MyRead", Spec: &pipepb.FunctionSpec{Urn: urn, Payload: p.encode(t)},
	}}
}

// writeRequest has an input of coder coders[0], in windows of coder coders[1]; the other coders are their components.
func writeRequest(t testing.TB, urn string, p *payload, coders ...*pipepb.Coder) *jobpb.ExpansionRequest {
	c := &pipepb.Components{
		Coders:              map[string]*pipepb.Coder{},
		Pcollections:        map[string]*pipepb.PCollection{"pc": {CoderId: "c0", WindowingStrategyId: "w"}},
		WindowingStrategies: map[string]*pipepb.WindowingStrategy{"w": {WindowCoderId: "c1"}},
	}
	for i, coder := range coders {
		c.Coders["c"+string(rune('0'+i))] = coder
	}
	return &jobpb.ExpansionRequest{Namespace: "external_7", Components: c, Transform: &pipepb.PTransform{
		UniqueName: "MyWrite", Spec: &pipepb.FunctionSpec{Urn: urn, Payload: p.encode(t)}, Inputs: map[string]string{"input": "pc"},
	}}
}

func coder(name string, parts ...string) *pipepb.Coder {
	return &pipepb.Coder{Spec: &pipepb.FunctionSpec{Urn: "beam:coder:" + name + ":v1"}, ComponentCoderIds: parts}
}

// TestReadFragment: everything that is added carries the namespace, nothing has an environment, and options arrive.
func TestReadFragment(t *testing.T) {
	options := readOptions().set("start_read_time", nil).set("max_num_records", 5).set("max_read_time", nil).
		set("commit_offset_in_finalize", false).set("consumer_polling_timeout", 2).set("redistribute", true).
		set("redistribute_num_keys", 0).set("allow_duplicates", true).set("dynamic_read_poll_interval_seconds", 9).
		set("consumer_factory_fn_class", nil).set("consumer_factory_fn_params", nil)
	resp := expand(t, readRequest(t, readURN, options))
	if resp.GetError() != "" {
		t.Fatal(resp.GetError())
	}
	c := resp.GetComponents()
	for id := range c.GetCoders() {
		if !strings.HasPrefix(id, "external_7_") {
			t.Errorf("coder %q", id)
		}
	}
	out := c.GetPcollections()[resp.GetTransform().GetOutputs()["output"]]
	windowing := c.GetWindowingStrategies()[out.GetWindowingStrategyId()]
	if out.GetIsBounded() != pipepb.IsBounded_BOUNDED || c.GetCoders()[windowing.GetWindowCoderId()] == nil || len(c.GetEnvironments()) != 0 {
		t.Errorf("components %v", c)
	}
	b := &built{t, c}
	if got := b.coder(out.GetCoderId()); got != "kv(nullable(bytes),nullable(string_utf8))" {
		t.Errorf("coder %s", got)
	}
	cfg, err := config.ParseRead(resp.GetTransform().GetSpec().GetPayload())
	if err != nil || *cfg.MaxRecords != 5 || *cfg.DiscoverySeconds != 9 || cfg.StartMs != nil || cfg.Value != config.String {
		t.Errorf("config %+v, %v", cfg, err)
	}
}

// TestNamesOfOtherSDKs: Java and Go name options in camel case.
func TestNamesOfOtherSDKs(t *testing.T) {
	for _, names := range [][]string{
		{"consumerConfig", "topics", "keyDeserializer", "valueDeserializer", "timestampPolicy"},
		{"ConsumerConfig", "Topics", "KeyDeserializer", "ValueDeserializer", "TimestampPolicy"},
	} {
		p := readOptions()
		p.names = names
		if resp := expand(t, readRequest(t, readURN, p)); resp.GetError() != "" {
			t.Error(resp.GetError())
		}
	}
}

func TestRequestedCoder(t *testing.T) {
	for _, tc := range []struct {
		coders []*pipepb.Coder
		want   string
	}{
		{[]*pipepb.Coder{coder("kv", "c1", "c2"), coder("bytes"), coder("string_utf8")}, "kv(bytes,string_utf8)"},
		{[]*pipepb.Coder{coder("kv", "c1", "c2"), coder("nullable", "c3"), coder("string_utf8"), coder("bytes")}, "kv(nullable(bytes),string_utf8)"},
		{[]*pipepb.Coder{coder("kv", "c1", "c1"), coder("bytes")}, "kv(nullable(bytes),nullable(string_utf8))"},
		{[]*pipepb.Coder{coder("pickled_python")}, "kv(nullable(bytes),nullable(string_utf8))"},
	} {
		req := readRequest(t, readURN, readOptions())
		req.Components = writeRequest(t, writeURN, writeOptions(), tc.coders...).GetComponents()
		req.OutputCoderRequests = map[string]string{"0": "c0"}
		resp := expand(t, req)
		if resp.GetError() != "" {
			t.Fatal(resp.GetError())
		}
		b := &built{t, resp.GetComponents()}
		out := b.c.GetPcollections()[resp.GetTransform().GetOutputs()["output"]]
		if got := b.coder(out.GetCoderId()); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}

func TestWriteFragment(t *testing.T) {
	for window, want := range map[string]plan.WindowCoding{
		"global_window": plan.GlobalWindow, "interval_window": plan.IntervalWindow, "something_else": plan.CustomWindow,
	} {
		resp := expand(t, writeRequest(t, writeURN, writeOptions(),
			coder("kv", "c2", "c3"), coder(window), coder("nullable", "c4"), coder("varint"), coder("bytes")))
		if resp.GetError() != "" {
			t.Fatal(resp.GetError())
		}
		x := resp.GetTransform()
		if len(x.GetOutputs()) != 0 || x.GetInputs()["input"] != "pc" || x.GetUniqueName() != "MyWrite" || len(x.GetSubtransforms()) != 1 {
			t.Fatalf("transform %v", x)
		}
		// An SDK keeps a step only if it puts out something that it did not take in.
		step := resp.GetComponents().GetTransforms()[x.GetSubtransforms()[0]]
		if out := resp.GetComponents().GetPcollections()[step.GetOutputs()["nothing"]]; out == nil || step.GetInputs()["input"] != "pc" {
			t.Errorf("step %v", step)
		}
		cfg, err := config.ParseWrite(step.GetSpec().GetPayload())
		if err != nil || cfg.Window != want || !cfg.Key.Nullable || cfg.Value != (config.Operand{Format: config.Int64, Coder: config.VarintCoder}) {
			t.Errorf("config %+v, %v", cfg, err)
		}
	}
}

// TestRefused: each refusal names what is refused and the user's transform.
func TestRefused(t *testing.T) {
	read := func(change func(*payload)) *jobpb.ExpansionRequest {
		p := readOptions()
		change(p)
		return readRequest(t, readURN, p)
	}
	bytesKV := []*pipepb.Coder{coder("kv", "c2", "c3"), coder("global_window"), coder("bytes"), coder("varint")}
	broken := readRequest(t, readURN, readOptions())
	broken.Transform.Spec.Payload = []byte{0xff}
	withInput := readRequest(t, readURN, readOptions())
	withInput.Transform.Inputs = map[string]string{"input": "pc"}
	noInput := writeRequest(t, writeURN, writeOptions(), bytesKV...)
	noInput.Transform.Inputs = nil
	for name, tc := range map[string]struct {
		req  *jobpb.ExpansionRequest
		want string
	}{
		"other transform": {readRequest(t, "beam:schematransform:org.apache.beam:jdbc_read:v1", readOptions()),
			`unsupported-external-transform: transform "MyRead": external transform "beam:schematransform:org.apache.beam:jdbc_read:v1"`},
		"no transform":        {&jobpb.ExpansionRequest{}, "expansion-request"},
		"broken":              {broken, "expansion-request"},
		"read with input":     {withInput, "takes no input"},
		"write without input": {noInput, "takes one input, not 0"},
		"property":            {read(func(p *payload) { p.set("consumer_config", map[string]string{"bootstrap.servers": "h", "x.y": "1"}) }), `kafka-property: transform "MyRead": property "x.y"`},
		"deserializer":        {read(func(p *payload) { p.set("key_deserializer", "com.example.Avro") }), `kafka-deserializer: transform "MyRead": "com.example.Avro"`},
		"void":                {read(func(p *payload) { p.set("key_deserializer", deserializers+"VoidDeserializer") }), "VoidDeserializer"},
		"policy":              {read(func(p *payload) { p.set("timestamp_policy", "Mine") }), "timestamp_policy"},
		"no topics":           {read(func(p *payload) { p.set("topics", []string{}) }), "topics"},
		"factory": {read(func(p *payload) {
			p.set("consumer_factory_fn_class", "x.KerberosConsumerFactoryFn").set("consumer_factory_fn_params", map[string]string{"a": "b"})
		}), `option "consumer_factory_fn_class" is not supported`},
		"stop":                  {read(func(p *payload) { p.set("stop_read_time", 5) }), `option "stop_read_time" is not supported`},
		"by record key":         {read(func(p *payload) { p.set("redistribute_by_record_key", true) }), `option "redistribute_by_record_key"`},
		"polling":               {read(func(p *payload) { p.set("consumer_polling_timeout", 0) }), "consumer_polling_timeout"},
		"wrong type":            {read(func(p *payload) { p.set("max_num_records", "5") }), `option "max_num_records" has the type string`},
		"commit without group":  {read(func(p *payload) { p.set("commit_offset_in_finalize", true) }), "group.id"},
		"metadata with strings": {readRequest(t, metadataURN, readOptions()), "kafka-deserializer"},
		"input is no KV":        {writeRequest(t, writeURN, writeOptions(), coder("bytes"), coder("global_window")), `kafka-input-coder: transform "MyWrite"`},
		"input of another type": {writeRequest(t, writeURN, writeOptions().set("value_serializer", deserializers+"StringSerializer"), bytesKV...), "kafka-input-coder"},
		"serializer":            {writeRequest(t, writeURN, writeOptions().set("key_serializer", "x"), bytesKV...), `kafka-serializer: transform "MyWrite"`},
		"headers of no rows":    {writeRequest(t, headersURN, writeOptions().set("value_serializer", deserializers+"ByteArraySerializer"), bytesKV...), "kafka-input-coder"},
		"headers of longs":      {writeRequest(t, headersURN, writeOptions(), bytesKV...), "kafka-serializer"},
		"rows without key": {writeRequest(t, headersURN, writeOptions().set("value_serializer", deserializers+"ByteArraySerializer"),
			coder("row"), coder("global_window")), `kafka-row-schema: transform "MyWrite"`},
		"no window coder": {writeRequest(t, writeURN, writeOptions(), coder("bytes")), "no window coder"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := expand(t, tc.req).GetError(); !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestDiscover(t *testing.T) {
	resp, err := expansion.New(kafka.Registry(zap.NewNop()), nil, zap.NewNop()).DiscoverSchemaTransform(context.Background(), nil)
	if err != nil || len(resp.GetSchemaTransformConfigs()) != 0 || resp.GetError() != "" {
		t.Fatal(resp, err)
	}
}

// FuzzExpand: no request panics, whatever its payload, its coders or its inputs are.
func FuzzExpand(f *testing.F) {
	requests := []*jobpb.ExpansionRequest{
		readRequest(f, readURN, readOptions()), readRequest(f, metadataURN, readOptions()),
		writeRequest(f, writeURN, writeOptions()), writeRequest(f, headersURN, writeOptions()),
	}
	for i, req := range requests {
		body, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), body, req.GetTransform().GetSpec().GetPayload())
	}
	f.Fuzz(func(t *testing.T, which uint8, body, payload []byte) {
		req := &jobpb.ExpansionRequest{}
		if proto.Unmarshal(body, req) != nil {
			return
		}
		expand(t, req)
		if req.GetTransform().GetSpec() == nil {
			return
		}
		req.Transform.Spec.Urn = []string{readURN, metadataURN, writeURN, headersURN}[which%4]
		req.Transform.Spec.Payload = payload
		expand(t, req)
	})
}
