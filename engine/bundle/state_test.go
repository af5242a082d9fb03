package bundle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"go.uber.org/zap"

	"padstone/engine/coder"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/store"
	"padstone/engine/store/storetest"
)

const testGroups = 8

// testState returns a handler of a stage with a cell of each kind, whose bundle owns all key groups.
func testState(t *testing.T) *stateHandler {
	t.Helper()
	s, err := store.Open(store.Config{Dir: "job", FS: storetest.NewDisk(), Durability: store.None, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	stage, err := compileStage(&plan.Stage{Name: "test", States: []plan.State{
		{Transform: "t", Cell: "bag", Kind: plan.Bag, Element: "lp"},
		{Transform: "t", Cell: "unframed", Kind: plan.Bag},
		{Transform: "t", Cell: "map", Kind: plan.MultimapST, Element: "lp", MapKey: "lp"},
		{Transform: "t", Cell: "list", Kind: plan.OrderedList, Element: "kv(varint,lp)"},
	}}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := s.Begin(0)
	t.Cleanup(func() {
		b.Discard()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	var all []uint16
	for g := uint16(0); g < testGroups; g++ {
		all = append(all, g)
	}
	return &stateHandler{stage: stage, store: s, txs: newTransactions(b, testGroups, all)}
}

func nested(s string) []byte { return rows.AppendBytes(nil, []byte(s)) }

func bagKey(cell, key string) *fnpb.StateKey {
	return &fnpb.StateKey{Type: &fnpb.StateKey_BagUserState_{BagUserState: &fnpb.StateKey_BagUserState{
		TransformId: "t", UserStateId: cell, Window: []byte("w"), Key: nested(key),
	}}}
}

func ask(t *testing.T, h *stateHandler, req *fnpb.StateRequest) *fnpb.StateResponse {
	t.Helper()
	resp, err := h.HandleState(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func add(t *testing.T, h *stateHandler, key *fnpb.StateKey, data []byte) {
	t.Helper()
	ask(t, h, &fnpb.StateRequest{StateKey: key, Request: &fnpb.StateRequest_Append{Append: &fnpb.StateAppendRequest{Data: data}}})
}

func wipe(t *testing.T, h *stateHandler, key *fnpb.StateKey) {
	t.Helper()
	ask(t, h, &fnpb.StateRequest{StateKey: key, Request: &fnpb.StateRequest_Clear{Clear: &fnpb.StateClearRequest{}}})
}

// read reads all pages and checks that each ends at an element boundary.
func read(t *testing.T, h *stateHandler, key *fnpb.StateKey, elem string) (all []byte, pages int) {
	t.Helper()
	prog, err := coder.Compile(elem)
	if err != nil {
		t.Fatal(err)
	}
	var token []byte
	for {
		get := ask(t, h, &fnpb.StateRequest{StateKey: key, Request: &fnpb.StateRequest_Get{
			Get: &fnpb.StateGetRequest{ContinuationToken: token},
		}}).GetGet()
		for rest := get.GetData(); len(rest) > 0; {
			n, err := prog.Len(rest)
			if err != nil {
				t.Fatalf("page %d ends within an element: %v", pages, err)
			}
			rest = rest[n:]
		}
		all, pages = append(all, get.GetData()...), pages+1
		if token = get.GetContinuationToken(); len(token) == 0 {
			return all, pages
		}
	}
}

// TestBagPages appends more than two pages and reads them back.
func TestBagPages(t *testing.T) {
	h := testState(t)
	var want []byte
	for i := 0; i < 50; i++ {
		e := nested(fmt.Sprintf("%d%s", i, bytes.Repeat([]byte("x"), 60_000)))
		want = append(want, e...)
		add(t, h, bagKey("bag", "k"), e)
	}
	got, pages := read(t, h, bagKey("bag", "k"), "lp")
	if !bytes.Equal(got, want) || pages != 3 {
		t.Fatalf("%d bytes in %d pages, want %d in 3", len(got), pages, len(want))
	}
	if other, _ := read(t, h, bagKey("bag", "other"), "lp"); len(other) != 0 {
		t.Fatalf("another key reads %d bytes", len(other))
	}
	wipe(t, h, bagKey("bag", "k"))
	add(t, h, bagKey("bag", "k"), nested("new"))
	if got, _ := read(t, h, bagKey("bag", "k"), "lp"); !bytes.Equal(got, nested("new")) {
		t.Fatalf("after clear and append: %q", got)
	}
}

// TestMultimap keeps values by key, lists and clears keys.
func TestMultimap(t *testing.T) {
	h := testState(t)
	at := func(mapKey string) *fnpb.StateKey {
		return &fnpb.StateKey{Type: &fnpb.StateKey_MultimapUserState_{MultimapUserState: &fnpb.StateKey_MultimapUserState{
			TransformId: "t", UserStateId: "map", Window: []byte("w"), Key: nested("k"), MapKey: nested(mapKey),
		}}}
	}
	keys := &fnpb.StateKey{Type: &fnpb.StateKey_MultimapKeysUserState_{MultimapKeysUserState: &fnpb.StateKey_MultimapKeysUserState{
		TransformId: "t", UserStateId: "map", Window: []byte("w"), Key: nested("k"),
	}}}
	add(t, h, at("a"), nested("1"))
	add(t, h, at("b"), nested("2"))
	add(t, h, at("a"), nested("3"))
	if got, _ := read(t, h, at("a"), "lp"); !bytes.Equal(got, append(nested("1"), nested("3")...)) {
		t.Fatalf("values of a: %q", got)
	}
	wipe(t, h, at("b"))
	if got, _ := read(t, h, keys, "lp"); !bytes.Equal(got, nested("a")) {
		t.Fatalf("keys: %q", got)
	}
	// The Java SDK keeps a set in the keys of a multimap; its values take no bytes.
	add(t, h, at("c"), nil)
	if got, _ := read(t, h, keys, "lp"); !bytes.Equal(got, append(nested("a"), nested("c")...)) {
		t.Fatalf("keys with one without bytes: %q", got)
	}
	wipe(t, h, at("c"))
	if got, _ := read(t, h, keys, "lp"); !bytes.Equal(got, nested("a")) {
		t.Fatalf("keys without that one: %q", got)
	}
	wipe(t, h, keys)
	if got, _ := read(t, h, keys, "lp"); len(got) != 0 {
		t.Fatalf("keys after clear: %q", got)
	}
}

// TestOrderedList reads and clears by range, negative keys before positive ones.
func TestOrderedList(t *testing.T) {
	h := testState(t)
	in := func(from, to int64) *fnpb.StateKey {
		return &fnpb.StateKey{Type: &fnpb.StateKey_OrderedListUserState_{OrderedListUserState: &fnpb.StateKey_OrderedListUserState{
			TransformId: "t", UserStateId: "list", Window: []byte("w"), Key: nested("k"), Range: &fnpb.OrderedListRange{Start: from, End: to},
		}}}
	}
	elem := func(sort int64) []byte {
		return append(binary.AppendUvarint(nil, uint64(sort)), nested(fmt.Sprint(sort))...)
	}
	add(t, h, in(0, 0), append(elem(5), elem(-3)...))
	add(t, h, in(0, 0), elem(7))
	for _, c := range []struct {
		from, to int64
		want     []byte
	}{
		{-10, 10, append(append(elem(-3), elem(5)...), elem(7)...)},
		{-3, 7, append(elem(-3), elem(5)...)},
		{6, 7, nil},
	} {
		if got, _ := read(t, h, in(c.from, c.to), "kv(varint,lp)"); !bytes.Equal(got, c.want) {
			t.Errorf("[%d, %d): %q, want %q", c.from, c.to, got, c.want)
		}
	}
	wipe(t, h, in(-10, 6))
	if got, _ := read(t, h, in(-10, 10), "kv(varint,lp)"); !bytes.Equal(got, elem(7)) {
		t.Errorf("after clearing [-10, 6): %q", got)
	}
}

// TestForeignState: cells that are not declared and keys of other key groups are errors, not empty state.
func TestForeignState(t *testing.T) {
	h := testState(t)
	get := &fnpb.StateRequest_Get{Get: &fnpb.StateGetRequest{}}
	if _, err := h.HandleState(t.Context(), &fnpb.StateRequest{StateKey: bagKey("nothing", "k"), Request: get}); err == nil {
		t.Error("an undeclared cell was read")
	}
	own := coder.KeyGroup(nested("k"), testGroups)
	delete(h.txs.byID, own)
	if _, err := h.HandleState(t.Context(), &fnpb.StateRequest{StateKey: bagKey("bag", "k"), Request: get}); err == nil {
		t.Error("state of a key group that the bundle does not own was read")
	}
	if _, err := h.HandleState(t.Context(), &fnpb.StateRequest{}); err == nil {
		t.Error("a request without a key was answered")
	}
}
