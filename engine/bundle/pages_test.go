package bundle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"padstone/engine/coder"
)

// next reads one page.
func next(t *testing.T, h *stateHandler, key *fnpb.StateKey, token []byte) *fnpb.StateGetResponse {
	t.Helper()
	return ask(t, h, &fnpb.StateRequest{
		StateKey: key, Request: &fnpb.StateRequest_Get{Get: &fnpb.StateGetRequest{ContinuationToken: token}},
	}).GetGet()
}

// rest reads the pages after a first one.
func rest(t *testing.T, h *stateHandler, key *fnpb.StateKey, first *fnpb.StateGetResponse) []byte {
	t.Helper()
	all := bytes.Clone(first.GetData())
	for token := first.GetContinuationToken(); len(token) > 0; {
		get := next(t, h, key, token)
		all, token = append(all, get.GetData()...), get.GetContinuationToken()
	}
	return all
}

func mapKeyOf(mapKey string) *fnpb.StateKey {
	return &fnpb.StateKey{Type: &fnpb.StateKey_MultimapUserState_{MultimapUserState: &fnpb.StateKey_MultimapUserState{
		TransformId: "t", UserStateId: "map", Window: []byte("w"), Key: nested("k"), MapKey: nested(mapKey),
	}}}
}

// entriesKey asks for the entries of the map cell, by the state key that the Go module does not have.
func entriesKey(t *testing.T) *fnpb.StateKey {
	t.Helper()
	var body []byte
	for i, field := range [][]byte{[]byte("t"), []byte("map"), []byte("w"), nested("k")} {
		body = protowire.AppendBytes(protowire.AppendTag(body, protowire.Number(i+1), protowire.BytesType), field)
	}
	key := &fnpb.StateKey{}
	const entries = 10
	if err := proto.Unmarshal(protowire.AppendBytes(protowire.AppendTag(nil, entries, protowire.BytesType), body), key); err != nil {
		t.Fatal(err)
	}
	return key
}

// TestUnframedPages cuts elements that cannot be framed where appends end, and not within one.
func TestUnframedPages(t *testing.T) {
	h := testState(t)
	key := bagKey("unframed", "k")
	var want []byte
	ends := map[int]bool{}
	for i, size := range []int{700_000, 700_000, 3 << 20, 0, 1, 600_000, 600_000} {
		data := bytes.Repeat([]byte{byte(i)}, size)
		want = append(want, data...)
		ends[len(want)] = true
		add(t, h, key, data)
	}
	var got, token []byte
	pages := 0
	for pages == 0 || len(token) > 0 {
		get := next(t, h, key, token)
		got, token = append(got, get.GetData()...), get.GetContinuationToken()
		pages++
		if !ends[len(got)] {
			t.Errorf("page %d ends within an append", pages)
		}
	}
	if !bytes.Equal(got, want) || pages != 3 {
		t.Errorf("%d bytes in %d pages, not %d in 3", len(got), pages, len(want))
	}
}

// TestElementsWithoutBytes pages through elements that are one byte each on the wire since they encode to none.
func TestElementsWithoutBytes(t *testing.T) {
	h := testState(t)
	var err error
	if h.stage.states[cellID{"t", "bag"}].element, err = coder.Compile("unit"); err != nil {
		t.Fatal(err)
	}
	key := bagKey("bag", "k")
	want := make([]byte, 3<<20)
	add(t, h, key, want)
	if got := rest(t, h, key, next(t, h, key, nil)); len(got) != len(want) {
		t.Errorf("%d elements, not %d", len(got), len(want))
	}
}

// TestReadingIsUndisturbed writes between two pages of a read: it goes on with what it began with, and the next one sees the writes.
func TestReadingIsUndisturbed(t *testing.T) {
	big := nested(string(bytes.Repeat([]byte("x"), 400_000)))
	list := func(from, to int64) *fnpb.StateKey {
		return &fnpb.StateKey{Type: &fnpb.StateKey_OrderedListUserState_{OrderedListUserState: &fnpb.StateKey_OrderedListUserState{
			TransformId: "t", UserStateId: "list", Window: []byte("w"), Key: nested("k"), Range: &fnpb.OrderedListRange{Start: from, End: to},
		}}}
	}
	listed := func(sort int64) []byte { return append(binary.AppendUvarint(nil, uint64(sort)), big...) }
	for name, c := range map[string]struct {
		read, clear *fnpb.StateKey
		write       func(i int) (*fnpb.StateKey, []byte)
	}{
		"bag": {bagKey("bag", "k"), bagKey("bag", "k"), func(int) (*fnpb.StateKey, []byte) { return bagKey("bag", "k"), big }},
		"list": {list(math.MinInt64, math.MaxInt64), list(-2, 6), func(i int) (*fnpb.StateKey, []byte) {
			return list(0, 0), listed(int64(i - 3))
		}},
		"values of a map key": {mapKeyOf("m"), mapKeyOf("m"), func(int) (*fnpb.StateKey, []byte) { return mapKeyOf("m"), big }},
	} {
		t.Run(name, func(t *testing.T) {
			h := testState(t)
			var want []byte
			for i := range 9 {
				key, data := c.write(i)
				add(t, h, key, data)
				want = append(want, data...)
			}
			first := next(t, h, c.read, nil)
			wipe(t, h, c.clear)
			key, data := c.write(1)
			add(t, h, key, data)
			if got := rest(t, h, c.read, first); !bytes.Equal(got, want) {
				t.Errorf("%d bytes, not the %d from before", len(got), len(want))
			}
			after := data
			if name == "list" { // all but -3 is cleared, then comes -2
				after = append(listed(-3), data...)
			}
			if got := rest(t, h, c.read, next(t, h, c.read, nil)); !bytes.Equal(got, after) {
				t.Errorf("then %d bytes, not %d", len(got), len(after))
			}
		})
	}
}

// TestManyReadings has more large cells read side by side than are kept.
func TestManyReadings(t *testing.T) {
	h := testState(t)
	var keys []*fnpb.StateKey
	var firsts []*fnpb.StateGetResponse
	for i := range 2 * readingsMax {
		keys = append(keys, bagKey("bag", fmt.Sprint("k", i)))
		for range 30 {
			add(t, h, keys[i], nested(string(bytes.Repeat([]byte{byte('a' + i)}, 100_000))))
		}
	}
	for _, key := range keys {
		firsts = append(firsts, next(t, h, key, nil))
	}
	for i, key := range keys {
		if got := rest(t, h, key, firsts[i]); len(got) != 30*100_003 || bytes.Count(got, []byte{byte('a' + i)}) < 30*100_000 {
			t.Errorf("cell %d: %d bytes", i, len(got))
		}
	}
	if len(h.readings) != 0 {
		t.Errorf("%d readings are kept after their ends", len(h.readings))
	}
}

// TestLargeMap lists keys and entries of a map in pages that end between them.
func TestLargeMap(t *testing.T) {
	h := testState(t)
	const n = 30_000
	pad := bytes.Repeat([]byte("v"), 50)
	for i := range n {
		add(t, h, mapKeyOf(fmt.Sprintf("key %s %d", pad, i)), nested(string(pad)))
	}
	keys := &fnpb.StateKey{Type: &fnpb.StateKey_MultimapKeysUserState_{MultimapKeysUserState: &fnpb.StateKey_MultimapKeysUserState{
		TransformId: "t", UserStateId: "map", Window: []byte("w"), Key: nested("k"),
	}}}
	for name, c := range map[string]struct {
		key  *fnpb.StateKey
		elem string
	}{"keys": {keys, "lp"}, "entries": {entriesKey(t), "kv(lp,iter(lp))"}} {
		got, pages := read(t, h, c.key, c.elem)
		prog, err := coder.Compile(c.elem)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for len(got) > 0 {
			size, err := prog.Len(got)
			if err != nil {
				t.Fatal(err)
			}
			got, count = got[size:], count+1
		}
		if count != n || pages < 2 {
			t.Errorf("%d %s in %d pages", count, name, pages)
		}
	}
}

// TestListBounds asks for ranges at the edges: the smallest and the largest sort key, ranges of nothing, and ranges the wrong way round.
func TestListBounds(t *testing.T) {
	h := testState(t)
	list := func(from, to int64) *fnpb.StateKey {
		return &fnpb.StateKey{Type: &fnpb.StateKey_OrderedListUserState_{OrderedListUserState: &fnpb.StateKey_OrderedListUserState{
			TransformId: "t", UserStateId: "list", Window: []byte("w"), Key: nested("k"), Range: &fnpb.OrderedListRange{Start: from, End: to},
		}}}
	}
	elem := func(sort int64) []byte { return append(binary.AppendUvarint(nil, uint64(sort)), nested("")...) }
	var all []byte
	for _, sort := range []int64{math.MinInt64, -1, 0, 1, math.MaxInt64 - 1} {
		add(t, h, list(0, 0), elem(sort))
		all = append(all, elem(sort)...)
	}
	for _, c := range []struct {
		from, to int64
		want     []byte
	}{
		{math.MinInt64, math.MaxInt64, all},
		{math.MinInt64, math.MinInt64 + 1, elem(math.MinInt64)},
		{-1, 1, append(elem(-1), elem(0)...)},
		{1, 1, nil},
		{5, -5, nil},
	} {
		if got, _ := read(t, h, list(c.from, c.to), "kv(varint,lp)"); !bytes.Equal(got, c.want) {
			t.Errorf("[%d, %d): %x, not %x", c.from, c.to, got, c.want)
		}
	}
	wipe(t, h, list(5, -5))
	wipe(t, h, list(math.MinInt64, 0))
	if got, _ := read(t, h, list(math.MinInt64, math.MaxInt64), "kv(varint,lp)"); !bytes.Equal(got, all[len(elem(math.MinInt64))+len(elem(-1)):]) {
		t.Errorf("after clearing what is negative: %x", got)
	}
}

// TestHundredMegabytes reads a cell of that size, in time that grows with it and not with its square.
func TestHundredMegabytes(t *testing.T) {
	if testing.Short() {
		t.Skip("moves some hundred megabytes")
	}
	h := testState(t)
	key := bagKey("bag", "k")
	piece := bytes.Repeat(nested(string(bytes.Repeat([]byte("x"), 1020))), 1024)
	for range 100 {
		add(t, h, key, piece)
	}
	size, pages, get := 0, 0, next(t, h, key, nil)
	for {
		size, pages = size+len(get.GetData()), pages+1
		if len(get.GetContinuationToken()) == 0 {
			break
		}
		get = next(t, h, key, get.GetContinuationToken())
	}
	if size != 100*len(piece) || pages < 90 {
		t.Errorf("%d bytes in %d pages, not %d", size, pages, 100*len(piece))
	}
}
