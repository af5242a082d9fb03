package kafka

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"padstone/connector"
	"padstone/connector/kafka/config"
	"padstone/engine/plan"
	"padstone/internal/fault"
)

func TestFitSource(t *testing.T) {
	natives := Registry(zap.NewNop())
	src, _ := natives.Source(config.ReadURN)
	fitter := src.(connector.Fitter)
	for _, tc := range []struct {
		key, value config.Format
		metadata   bool
		element    string
		window     plan.WindowCoding
		want       string // key and value required; "" for refused
	}{
		{config.Bytes, config.Bytes, false, "kv(nullable(lp),nullable(lp))", plan.GlobalWindow, "false false"},
		{config.Bytes, config.String, false, "kv(lp,lp)", plan.GlobalWindow, "true true"},
		{config.Int64, config.Float64, false, "kv(nullable(varint),fixed(8))", plan.GlobalWindow, "false true"},
		{config.Int64, config.Float64, false, "kv(lp,fixed(8))", plan.GlobalWindow, ""},
		{config.Bytes, config.Bytes, false, "lp", plan.GlobalWindow, ""},
		{config.Bytes, config.Bytes, false, "kv(lp,lp)", plan.IntervalWindow, ""},
		{config.Bytes, config.Bytes, true, "lp", plan.GlobalWindow, "false false"},
		{config.Bytes, config.Bytes, true, "kv(lp,lp)", plan.GlobalWindow, ""},
	} {
		cfg := readWith(nil)
		cfg.Key, cfg.Value, cfg.Metadata = tc.key, tc.value, tc.metadata
		data, err := fitter.Fit(encodeConfig(t, cfg), tc.element, tc.window)
		if tc.want == "" {
			if f := fault.Of(err); f == nil || f.Code != codeType || f.Kind != fault.Pipeline {
				t.Errorf("%s: got %s, %v", tc.element, data, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tc.element, err)
			continue
		}
		got, err := config.ParseRead(data)
		if err != nil || strings.Join([]string{yes(got.KeyRequired), yes(got.ValueRequired)}, " ") != tc.want {
			t.Errorf("%s: got %s, %v", tc.element, data, err)
		}
	}
}

func yes(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

func TestFitSink(t *testing.T) {
	natives := Registry(zap.NewNop())
	snk, _ := natives.Sink(config.WriteURN)
	fitter := snk.(connector.Fitter)
	data, err := fitter.Fit(encodeConfig(t, writeWith(nil)), "kv(nullable(lp),lp)", plan.IntervalWindow)
	if err != nil {
		t.Fatal(err)
	}
	got, err := config.ParseWrite(data)
	if err != nil || !got.Key.Nullable || got.Value.Nullable || got.Window != plan.IntervalWindow {
		t.Fatalf("got %s, %v", data, err)
	}
	rows := writeWith(nil)
	rows.RowSchema = marshal(t, rowSchema("key value"))
	if data, err = fitter.Fit(encodeConfig(t, rows), "lp", plan.CustomWindow); err != nil || !strings.Contains(string(data), `"custom"`) {
		t.Fatalf("got %s, %v", data, err)
	}
	for element, cfg := range map[string]*config.Write{"kv(varint,lp)": writeWith(nil), "lp": writeWith(nil), "kv(lp,lp)": rows} {
		if _, err := fitter.Fit(encodeConfig(t, cfg), element, plan.GlobalWindow); fault.Of(err) == nil || fault.Of(err).Code != codeType {
			t.Errorf("%s: got %v", element, err)
		}
	}
}

// TestRequired: with a type that has no null, elements have no byte for it, and a null is refused by its offset.
func TestRequired(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 1})
	f.put("in", 0, 1, "k", "v")
	cfg := f.read("in")
	cfg.KeyRequired, cfg.ValueRequired = true, true
	r := f.open(cfg, nil)
	var got []byte
	for len(got) == 0 {
		b, err := r.reader.Poll(f.ctx, 10, 1000, 20*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		got = b.Data
	}
	want := "\x80\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x0f" + lp("k") + lp("v")
	if !slices.Equal(got, []byte(want)) {
		t.Fatalf("got % x", got)
	}
	f.putRecord(nullRecord("in"))
	for f.ctx.Err() == nil {
		if _, err := r.reader.Poll(f.ctx, 10, 1000, 20*time.Millisecond); err != nil {
			if fault.Of(err).Code != codeDeserialize || !strings.Contains(err.Error(), "offset 1") {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("no error")
}
