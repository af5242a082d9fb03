package bundle

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/group"
	"padstone/engine/plan"
	"padstone/engine/store"
	"padstone/internal/fault"
	"padstone/internal/memory"
)

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(store.Config{Dir: t.TempDir(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestIntake routes 40 MB from two goroutines: all of it arrives, most of it written ahead, and reads back after the commit.
func TestIntake(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) }) // after the store's own cleanup
	s := openStore(t)
	for _, kind := range []plan.EdgeKind{plan.FIFO, plan.Keyed} {
		ahead, rt := s.WriteAhead(), newRouter(8)
		rt.writeAhead(ahead, nil)
		o := &output{write: "out", edges: []*edge{testEdge(t, kind)}}
		in := newIntake(&Stage{Def: &plan.Stage{Name: "stage"}, outlets: outlets{byWrite: map[string]*output{"out": o}}}, rt, memory.NewPool("intake", 32<<20))
		in.start()
		const messages, size = 20, 1 << 20
		var putting sync.WaitGroup
		for g := range 2 {
			putting.Go(func() {
				for i := range messages {
					e := kv{ts: 1, ends: []element.Time{10}, key: fmt.Sprint(g, i), value: strings.Repeat("x", size)}
					in.put(message{transform: "out", data: e.append(nil)})
				}
			})
		}
		putting.Wait()
		if err := in.end(); err != nil {
			t.Fatal(err)
		}
		in.put(message{transform: "out", data: []byte("too late")})
		if rt.count != 2*messages || rt.bytes > blocksBytesMax {
			t.Errorf("%s: %d elements, %d bytes in memory", kind, rt.count, rt.bytes)
		}
		if _, err := s.Commit(&store.Commit{Stage: 1, Added: rt.added, Ahead: ahead}); err != nil {
			t.Fatal(err)
		}
		bodies, total := 0, 0
		for _, a := range rt.added {
			b, err := s.Block(a.Stage, store.BlockID{Group: a.Group, Edge: a.Edge, Seq: a.Block.Seq})
			if err != nil || b.Bytes != len(b.Data) || b.MinTS != 1 {
				t.Fatalf("block %+v of %d bytes: %v", b.Header, len(b.Data), err)
			}
			total += bytes.Count(b.Data, []byte("x"))
			if b.Body != 0 {
				bodies++
			}
		}
		if total != 2*messages*size || bodies < messages {
			t.Errorf("%s: %d bytes arrived, %d blocks were written ahead", kind, total, bodies)
		}
	}
}

// TestIntakeCutsElements: elements that lie in several messages arrive like others, and one that never ends fails the bundle.
func TestIntakeCutsElements(t *testing.T) {
	for _, kind := range []plan.EdgeKind{plan.FIFO, plan.Keyed, plan.Side} {
		var all []byte
		for i := range 50 {
			e := kv{ts: element.Time(i), ends: []element.Time{10}, key: fmt.Sprint(i % 7), value: strings.Repeat("v", i)}
			all = e.append(all)
		}
		for size := 1; size < len(all); size = size*2 + 1 {
			o := &output{write: "out", edges: []*edge{testEdge(t, kind)}}
			rt := newRouter(8)
			in := newIntake(&Stage{Def: &plan.Stage{Name: "stage"}, outlets: outlets{[]*output{o}, map[string]*output{"out": o}}}, rt, memory.NewPool("intake", 32<<20))
			in.start()
			for rest := all; len(rest) > 0; {
				n := min(size, len(rest))
				in.put(message{transform: "out", data: rest[:n:n]})
				rest = rest[n:]
			}
			if err := in.end(); err != nil || rt.count != 50 {
				t.Fatalf("%s in messages of %d bytes: %d elements, %v", kind, size, rt.count, err)
			}
			if kind == plan.FIFO {
				var got []byte
				for _, a := range rt.added {
					got = append(got, a.Block.Data...)
				}
				if !bytes.Equal(got, all) {
					t.Fatalf("in messages of %d bytes other elements arrived", size)
				}
			}
		}
		o := &output{write: "out", edges: []*edge{testEdge(t, kind)}}
		in := newIntake(&Stage{Def: &plan.Stage{Name: "stage"}, outlets: outlets{[]*output{o}, map[string]*output{"out": o}}}, newRouter(8), memory.NewPool("intake", 32<<20))
		in.start()
		in.put(message{transform: "out", data: all[:len(all)-1]})
		if err := in.end(); fault.Of(err) == nil || fault.Of(err).Code != "bad-element-encoding" {
			t.Errorf("%s: an element without its last byte: %v", kind, err)
		}
	}
}

// TestIntakeFails: what cannot be routed fails the bundle and holds up nobody.
func TestIntakeFails(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	o := &output{write: "out", edges: []*edge{testEdge(t, plan.FIFO)}}
	for code, m := range map[fault.Code]message{
		"bad-element-encoding": {transform: "out", data: []byte("no element")},
		"harness-protocol":     {transform: "other", data: []byte("x")},
	} {
		in := newIntake(&Stage{Def: &plan.Stage{Name: "stage"}, outlets: outlets{[]*output{o}, map[string]*output{"out": o}}}, newRouter(8), memory.NewPool("intake", 32<<20))
		in.start()
		in.put(m)
		for range 5 {
			in.put(message{transform: "out", data: make([]byte, (32 << 20))})
		}
		if f := fault.Of(in.end()); f == nil || f.Code != code {
			t.Errorf("got %v, want %s", f, code)
		}
	}
}

// TestInline gives a consumer that cannot ask for them the values of backed elements, among others.
func TestInline(t *testing.T) {
	s := openStore(t)
	ahead := s.WriteAhead()
	var out group.Output
	out.Contents = ahead
	machine, err := group.New(&plan.Windowing{
		Kind: plan.Fixed, Coding: plan.IntervalWindow, SizeMs: 10, OutputTime: plan.EndOfWindow, Trigger: &plan.Trigger{Kind: plan.TriggerDefault},
	}, testEdge(t, plan.Keyed).value)
	if err != nil {
		t.Fatal(err)
	}
	var data []byte
	for i := range 300 {
		data = kv{ts: 1, ends: []element.Time{10}, key: "hot", value: strings.Repeat("v", 10_000)}.append(data)
		data = kv{ts: 1, ends: []element.Time{10}, key: fmt.Sprint("cold", i%2), value: "w"}.append(data)
	}
	blocks := func(yield func([]byte, error) bool) { yield(data, nil) }
	if err := machine.GroupAll(blocks, group.Budget{}, &out); err != nil {
		t.Fatal(err)
	}
	prog, err := coder.Compile("kv(lp,iter(lp))")
	if err != nil {
		t.Fatal(err)
	}
	e := testEdge(t, plan.FIFO)
	e.value, e.scanner = prog, coder.NewScanner(prog, plan.IntervalWindow)
	rt := newRouter(8)
	rt.writeAhead(ahead, nil)
	if err := rt.writeBacked(&output{edges: []*edge{e}}, out.Block.Data, out.Backed); err != nil {
		t.Fatal(err)
	}
	if len(out.Backed) != 1 || len(rt.added) != 1 || rt.added[0].Block.Refs != nil {
		t.Fatalf("%d backed elements, %d blocks", len(out.Backed), len(rt.added))
	}
	got, err := ahead.Page(rt.added[0].Block.Body, 0)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	err = e.scanner.Scan(got, func(el *coder.Elem) error {
		count++
		want := 300
		if string(el.Key[1:]) != "hot" {
			want = 150
		}
		if n := int(el.Rest()[2])<<8 | int(el.Rest()[3]); n != want {
			t.Errorf("%s has %d values, not %d", el.Key[1:], n, want)
		}
		return nil
	})
	if err != nil || count != 3 || bytes.Count(got, []byte("v")) != 3_000_000 {
		t.Errorf("%d elements, %d bytes of values: %v", count, bytes.Count(got, []byte("v")), err)
	}
	// An edge that can ask for values keeps the token and refers to the content.
	e.def.StateBacked = true
	for _, kind := range []plan.EdgeKind{plan.FIFO, plan.Keyed} {
		e.def.Kind = kind
		rt := newRouter(8)
		if err := rt.writeBacked(&output{edges: []*edge{e}}, out.Block.Data, out.Backed); err != nil {
			t.Fatal(err)
		}
		refs := 0
		for _, a := range rt.added {
			refs += len(a.Block.Refs)
			if len(a.Block.Refs) > 0 && kind == plan.Keyed && a.Group != coder.KeyGroup([]byte("\x03hot"), 8) {
				t.Errorf("group %d refers to the values of another", a.Group)
			}
		}
		if refs != 1 {
			t.Errorf("%s: %d references", kind, refs)
		}
	}
	// Too much is refused before it is read.
	backed := out.Backed
	backed[0].Bytes = group.InlineBytesLimit + 1
	e.def.StateBacked = false
	if f := fault.Of(rt.writeBacked(&output{edges: []*edge{e}}, out.Block.Data, backed)); f == nil || f.Code != "grouped-values-too-long" {
		t.Errorf("got %v", f)
	}
	ahead.Discard()
}
