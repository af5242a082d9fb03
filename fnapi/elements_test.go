package fnapi

import (
	"bytes"
	"math/rand/v2"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// TestElementsAgreeWithProto holds the hand-written encoding against the generated one, both ways.
func TestElementsAgreeWithProto(t *testing.T) {
	codec := newElementsCodec(sinceStart())
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(values ...string) string { return values[rnd.IntN(len(values))] }
	for range 500 {
		var els elements
		for range rnd.IntN(4) {
			e := entry{
				instruction: pick("", "b1", "instruction"), transform: pick("", "t", "transform/with/name"),
				timers: rnd.IntN(2) == 0, last: rnd.IntN(2) == 0,
			}
			if e.timers {
				e.family = pick("", "family")
			}
			if rnd.IntN(3) > 0 {
				e.payload = bytes.Repeat([]byte{7}, 1+rnd.IntN(300))
			}
			els = append(els, e)
		}
		wire, err := codec.Marshal(&els)
		if err != nil {
			t.Fatal(err)
		}
		var m fnpb.Elements
		if err := proto.Unmarshal(wire.Materialize(), &m); err != nil {
			t.Fatal(err)
		}
		again, err := proto.Marshal(&m)
		if err != nil {
			t.Fatal(err)
		}
		var back elements
		if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(again)}, &back); err != nil {
			t.Fatal(err)
		}
		compare(t, sorted(els), back)
		compare(t, sorted(els), entriesOf(&m))
	}
}

// sorted puts timers first: the generated code keeps data and timers apart, and only the order within a kind means something.
func sorted(els elements) (out elements) {
	for _, timers := range []bool{true, false} {
		for _, e := range els {
			if e.timers == timers {
				out = append(out, e)
			}
		}
	}
	return out
}

func compare(t *testing.T, want, got elements) {
	t.Helper()
	got = sorted(got)
	if len(want) != len(got) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	for i := range want {
		w, g := want[i], got[i]
		if w.port() != g.port() || w.instruction != g.instruction || w.last != g.last || !bytes.Equal(w.payload, g.payload) {
			t.Fatalf("entry %d is %+v, want %+v", i, g, w)
		}
	}
}

func FuzzElements(f *testing.F) {
	seed := elements{
		{instruction: "b", transform: "t", payload: []byte("x")},
		{instruction: "b", transform: "t", timers: true, family: "f", last: true},
	}
	wire, err := newElementsCodec(sinceStart()).Marshal(&seed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wire.Materialize())
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var els elements
		var m fnpb.Elements
		mine, theirs := els.parse(b), proto.Unmarshal(b, &m)
		if theirs == nil && mine != nil {
			t.Fatalf("refused what proto takes: %v", mine)
		}
	})
}

func TestUnknownFields(t *testing.T) {
	req := &fnpb.ProcessBundleRequest{ProcessBundleDescriptorId: "d"}
	setRequestExtras(req, &StartBundle{DataStreamID: "s7", HasNoState: true, OnlyBundleForKeys: true})
	wire, err := proto.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	var back fnpb.ProcessBundleRequest
	if err := proto.Unmarshal(wire, &back); err != nil {
		t.Fatal(err)
	}
	if id := DataStreamID(&back); id != "s7" {
		t.Fatalf("data stream %q", id)
	}
	var inner []byte
	for i, v := range []string{"t", "s", "w", "k"} {
		inner = protowire.AppendString(protowire.AppendTag(inner, protowire.Number(i+1), protowire.BytesType), v)
	}
	var key fnpb.StateKey
	if err := proto.Unmarshal(protowire.AppendBytes(protowire.AppendTag(nil, 10, protowire.BytesType), inner), &key); err != nil {
		t.Fatal(err)
	}
	k, ok := MultimapEntries(&key)
	if !ok || k.Transform != "t" || k.State != "s" || string(k.Window) != "w" || string(k.Key) != "k" {
		t.Fatalf("%+v, %t", k, ok)
	}
	if _, ok := MultimapEntries(&fnpb.StateKey{}); ok {
		t.Fatal("an empty key is no multimap_entries key")
	}
}

func TestBudget(t *testing.T) {
	var b budget
	b.init(10)
	if b.take(6) != nil || b.take(4) != nil {
		t.Fatal("10 bytes do not fit into 10")
	}
	freed := b.take(1)
	if freed == nil {
		t.Fatal("11 bytes fit into 10")
	}
	b.give(4)
	<-freed
	if b.take(4) != nil {
		t.Fatal("what was given back cannot be taken")
	}
}
