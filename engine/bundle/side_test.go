package bundle

import (
	"bytes"
	"fmt"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"go.uber.org/zap"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/store"
	"padstone/engine/store/storetest"
)

// testSide returns a handler of a stage with an iterable side input "i" and a multimap "m". What put adds is there in both.
func testSide(t *testing.T, put func(add func(key, value []byte))) *stateHandler {
	t.Helper()
	s, err := store.Open(store.Config{Dir: "job", FS: storetest.NewDisk(), Durability: store.None, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	edges := map[plan.EdgeID]*edge{}
	def := &plan.Stage{Name: "test"}
	for i, access := range []plan.SideAccess{plan.Iterable, plan.Multimap} {
		value, err := coder.Compile("kv(lp,lp)")
		if err != nil {
			t.Fatal(err)
		}
		id := plan.EdgeID(fmt.Sprint("side", i))
		edges[id] = &edge{def: &plan.Edge{ID: id, Name: string(id), Bounded: i == 0, Window: plan.GlobalWindow}, index: i, value: value}
		def.SideInputs = append(def.SideInputs, plan.SideInput{
			Transform: "t", Local: []string{"i", "m"}[i], Edge: id, Access: access,
		})
	}
	stage, err := compileStage(def, 0, edges)
	if err != nil {
		t.Fatal(err)
	}
	window := rows.AppendBytes(nil, nil)
	var c store.Commit
	put(func(key, value []byte) {
		c.Side = append(c.Side,
			store.SideRow{Edge: 0, Key: window, Value: append(bytes.Clone(key), value...), End: element.MaxTime},
			store.SideRow{Edge: 1, Key: rows.AppendBytes(bytes.Clone(window), key), Value: value, End: element.MaxTime})
	})
	if _, err := s.Commit(&c); err != nil {
		t.Fatal(err)
	}
	h := &stateHandler{stage: stage, store: s, view: s.Snapshot()}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func iterableKey() *fnpb.StateKey {
	return &fnpb.StateKey{Type: &fnpb.StateKey_IterableSideInput_{IterableSideInput: &fnpb.StateKey_IterableSideInput{
		TransformId: "t", SideInputId: "i",
	}}}
}

func sideKeyOf(key string) *fnpb.StateKey {
	return &fnpb.StateKey{Type: &fnpb.StateKey_MultimapSideInput_{MultimapSideInput: &fnpb.StateKey_MultimapSideInput{
		TransformId: "t", SideInputId: "m", Key: nested(key),
	}}}
}

func sideEntriesKey() *fnpb.StateKey {
	return &fnpb.StateKey{Type: &fnpb.StateKey_MultimapKeysValuesSideInput_{
		MultimapKeysValuesSideInput: &fnpb.StateKey_MultimapKeysValuesSideInput{TransformId: "t", SideInputId: "m"},
	}}
}

// TestSidePagesAhead reads side inputs of several pages whose readers take turns, ask for a page twice, and stop in the middle: each sees
// all of its own in order, and while one goes on its next page is there already.
func TestSidePagesAhead(t *testing.T) {
	big := bytes.Repeat([]byte("v"), 200<<10)
	var all, hot []byte
	h := testSide(t, func(add func(key, value []byte)) {
		for i := range 40 {
			key, value := nested([]string{"hot", "cold"}[i%2]), rows.AppendBytes(nil, fmt.Appendf(nil, "%d%s", i, big))
			add(key, value)
			if all = append(append(all, key...), value...); i%2 == 0 {
				hot = append(hot, value...)
			}
		}
	})
	first := next(t, h, iterableKey(), nil)
	if h.ahead.next == nil {
		t.Fatal("the second page is not read ahead")
	}
	if got := rest(t, h, iterableKey(), first); !bytes.Equal(got, all) {
		t.Errorf("an iterable of %d bytes is read as %d", len(all), len(got))
	}
	a, b := next(t, h, iterableKey(), nil), next(t, h, sideKeyOf("hot"), nil)
	gotA, gotB := bytes.Clone(a.GetData()), bytes.Clone(b.GetData())
	for len(a.GetContinuationToken()) > 0 || len(b.GetContinuationToken()) > 0 {
		if token := a.GetContinuationToken(); len(token) > 0 {
			a = next(t, h, iterableKey(), token)
			again := next(t, h, iterableKey(), token)
			if !bytes.Equal(a.GetData(), again.GetData()) || !bytes.Equal(a.GetContinuationToken(), again.GetContinuationToken()) {
				t.Fatal("a page that is asked for twice is another one")
			}
			gotA = append(gotA, a.GetData()...)
		}
		if token := b.GetContinuationToken(); len(token) > 0 {
			b = next(t, h, sideKeyOf("hot"), token)
			gotB = append(gotB, b.GetData()...)
		}
	}
	if !bytes.Equal(gotA, all) || !bytes.Equal(gotB, hot) {
		t.Errorf("%d and %d bytes, not %d and %d", len(gotA), len(gotB), len(all), len(hot))
	}
	next(t, h, iterableKey(), nil) // close waits for the page that is read ahead
}

// TestBulkPages: the first page of keys and values is short and nothing is read ahead of it, since readers look no further; who does has all.
func TestBulkPages(t *testing.T) {
	const keys, values = 1000, 3
	h := testSide(t, func(add func(key, value []byte)) {
		for i := range keys * values {
			add(nested(fmt.Sprintf("%04d", i/values)), rows.AppendBytes(nil, fmt.Append(nil, i)))
		}
	})
	entry, err := coder.Compile("kv(lp,iter(lp))")
	if err != nil {
		t.Fatal(err)
	}
	count := func(data []byte) (n int) {
		for ; len(data) > 0; n++ {
			size, err := entry.Len(data)
			if err != nil {
				t.Fatal(err)
			}
			data = data[size:]
		}
		return n
	}
	first := next(t, h, sideEntriesKey(), nil)
	if n := count(first.GetData()); n != bulkKeysFirst {
		t.Errorf("the first page has %d keys", n)
	}
	if h.ahead.next != nil {
		t.Error("a page is read ahead of a reader that may stop")
	}
	if n := count(rest(t, h, sideEntriesKey(), first)); n != keys {
		t.Errorf("%d keys in all", n)
	}
}
