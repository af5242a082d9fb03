package bundle

import (
	"fmt"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/window"
)

// bulkBytesMax bounds the values of one key that are read together with those of other keys. A harness that is refused looks its keys
// up one by one, and has their values in pages.
const bulkBytesMax = 8 << 20

// bulkKeysFirst bounds the keys of the first page of keys and values. Harnesses look at some 100 and have the values of others one by
// one: what the first bundle that looks up a key costs does not grow with the side input.
// Spec: bundle_processor.py StateBackedSideInputMap._BULK_READ_LIMIT; Java MultimapSideInput.BULK_READ_SIZE.
const bulkKeysFirst = 128

// sideInput serves a side input from the bundle's snapshot: rows of encoded values by window, and by key for a multimap. The
// continuation token is the suffix of the next row. Who asks for a page of many is given the next one the sooner: it is read meanwhile.
func (h *stateHandler) sideInput(req *fnpb.StateRequest, resp *fnpb.StateResponse) error {
	get := req.GetGet()
	if get == nil {
		return fmt.Errorf("a side input can only be read, not %T", req.GetRequest())
	}
	at := get.GetContinuationToken()
	page, err, read := h.ahead.take(req.GetStateKey(), at)
	if !read {
		page, err = h.sidePage(req.GetStateKey(), at)
	}
	if err != nil {
		return err
	}
	if token := page.GetContinuationToken(); len(token) > 0 && (len(at) > 0 || !isBulk(req.GetStateKey())) {
		h.ahead.start(req.GetStateKey(), token, h.sidePage)
	}
	resp.Response = &fnpb.StateResponse_Get{Get: page}
	return nil
}

// isBulk says that a reader is likely to want the beginning only.
func isBulk(k *fnpb.StateKey) bool { return k.GetMultimapKeysValuesSideInput() != nil }

// sidePage reads a page. It may be called on several goroutines at a time.
func (h *stateHandler) sidePage(key *fnpb.StateKey, at []byte) (*fnpb.StateGetResponse, error) {
	q, err := h.sideQuery(key)
	if err != nil {
		return nil, err
	}
	if isBulk(key) && len(at) == 0 {
		q.keysMax = bulkKeysFirst
	}
	page := &fnpb.StateGetResponse{}
	err = h.view.Side(uint32(q.edge.index), q.prefix, at, func(suffix, values []byte) ([]byte, bool) {
		if q.full(page.Data) && !q.whole(suffix) {
			page.ContinuationToken = append([]byte(nil), suffix...)
			return nil, false
		}
		return q.add(&page.Data, suffix, values), q.err == nil
	})
	if err == nil {
		err = q.flush(&page.Data)
	}
	return page, err
}

// full says that a page takes no more keys, or values.
func (q *sideQuery) full(page []byte) bool {
	return len(page) >= pageBytes || q.keysMax > 0 && q.keys >= q.keysMax
}

// sideQuery is one read of a side input.
type sideQuery struct {
	edge   *edge
	scope  int // length of what stands before the key in the suffix of a row
	prefix []byte
	mode   sideMode
	// key and values collect a key's rows when keys are listed.
	key     []byte
	values  []byte
	keys    int // that have been begun
	keysMax int // at which the page ends; 0: no bound
	err     error
}

type sideMode uint8

const (
	sideValues  sideMode = iota // the values, one after another
	sideKeys                    // the distinct keys
	sideEntries                 // KV<key, iterable<value>>
)

func (h *stateHandler) sideQuery(k *fnpb.StateKey) (*sideQuery, error) {
	q := &sideQuery{}
	var transform, local string
	var window, key []byte
	switch k := k.GetType().(type) {
	case *fnpb.StateKey_IterableSideInput_:
		transform, local, window = k.IterableSideInput.GetTransformId(), k.IterableSideInput.GetSideInputId(), k.IterableSideInput.GetWindow()
	case *fnpb.StateKey_MultimapSideInput_:
		transform, local, window = k.MultimapSideInput.GetTransformId(), k.MultimapSideInput.GetSideInputId(), k.MultimapSideInput.GetWindow()
		key = rows.AppendBytes(nil, k.MultimapSideInput.GetKey())
	case *fnpb.StateKey_MultimapKeysSideInput_:
		q.mode = sideKeys
		s := k.MultimapKeysSideInput
		transform, local, window = s.GetTransformId(), s.GetSideInputId(), s.GetWindow()
	case *fnpb.StateKey_MultimapKeysValuesSideInput_:
		q.mode = sideEntries
		s := k.MultimapKeysValuesSideInput
		transform, local, window = s.GetTransformId(), s.GetSideInputId(), s.GetWindow()
	}
	q.edge = h.stage.sides[sideID{transform, local}]
	if q.edge == nil {
		return nil, fmt.Errorf("transform %q has no side input %q", transform, local)
	}
	q.prefix = rows.AppendBytes(nil, window)
	var err error
	if q.edge.def.Panes == plan.WindowPane {
		q.prefix, err = h.newestPane(q.edge, q.prefix)
	}
	q.scope = len(q.prefix)
	q.prefix = append(q.prefix, key...)
	return q, err
}

// newestPane appends the pane of a window that is there: a snapshot has the rows of one.
func (h *stateHandler) newestPane(e *edge, window []byte) ([]byte, error) {
	const paneLen = 8
	prefix := append(make([]byte, 0, len(window)+paneLen), window...)
	err := h.view.Side(uint32(e.index), window, nil, func(suffix, _ []byte) ([]byte, bool) {
		prefix = append(prefix[:0], suffix[:min(len(window)+paneLen, len(suffix))]...)
		return nil, false
	})
	return prefix, err
}

// keyOf returns the key of a row of a multimap, and where it ends.
func (q *sideQuery) keyOf(suffix []byte) (key []byte, end int) {
	key, rest, ok := rows.TakeBytes(suffix[min(q.scope, len(suffix)):])
	if !ok {
		return nil, len(suffix)
	}
	return key, len(suffix) - len(rest)
}

// whole says whether the row must stay on the page because it belongs to the key that is being collected.
func (q *sideQuery) whole(suffix []byte) bool {
	if q.mode == sideValues {
		return false
	}
	key, _ := q.keyOf(suffix)
	return string(key) == string(q.key)
}

// add appends one row to the page. It may return a prefix whose other rows it does not need.
func (q *sideQuery) add(page *[]byte, suffix, values []byte) (skip []byte) {
	if q.mode == sideValues {
		*page = append(*page, values...)
		return nil
	}
	key, end := q.keyOf(suffix)
	if q.key == nil || string(key) != string(q.key) {
		q.err = firstError(q.err, q.flush(page))
		q.key = append(make([]byte, 0, len(key)), key...)
		q.keys++
	}
	if q.mode == sideKeys {
		return suffix[:end]
	}
	if len(q.values)+len(values) > bulkBytesMax {
		q.err = firstError(q.err, fmt.Errorf("a key of %q has more than %d bytes of values: read it by itself", q.edge.def.Name, bulkBytesMax))
	}
	q.values = append(q.values, values...)
	return nil
}

// flush appends the key that was being collected.
func (q *sideQuery) flush(page *[]byte) error {
	if q.mode == sideValues || q.key == nil || q.err != nil {
		return q.err
	}
	*page = append(*page, q.key...)
	var err error
	if q.mode == sideEntries {
		*page, err = appendIterable(*page, q.values, q.edge.multimapValue())
	}
	q.key, q.values = nil, q.values[:0]
	return err
}

// multimapValue returns the framing program of the values that readers look up.
func (e *edge) multimapValue() *coder.Program {
	_, value, _ := e.value.KV()
	if e.def.Grouped {
		_, value, _ = value.Element().KV()
	}
	return value
}

// cacheTokens lets harnesses keep side inputs from bundle to bundle. Those of a bounded collection do not change any more when a bundle of
// the stage begins, so that one token serves them for as long as the job runs here; others get none, and are read anew by each bundle.
// Spec: beam_fn_api.proto ProcessBundleRequest.CacheToken.
func (s *Stage) cacheTokens(run string) (tokens []*fnpb.ProcessBundleRequest_CacheToken) {
	for _, si := range s.Def.SideInputs {
		if !s.sides[sideID{si.Transform, si.Local}].def.Bounded {
			continue
		}
		tokens = append(tokens, &fnpb.ProcessBundleRequest_CacheToken{
			Type: &fnpb.ProcessBundleRequest_CacheToken_SideInput_{SideInput: &fnpb.ProcessBundleRequest_CacheToken_SideInput{
				TransformId: si.Transform, SideInputId: si.Local,
			}},
			Token: []byte(run),
		})
	}
	return tokens
}

// SideReadyAt returns the watermark that a side input must reach before a main element whose windows end at mainMax at the latest
// may be processed: the end of the side window that such an element looks at.
func SideReadyAt(si plan.SideInput, mainMax element.Time) element.Time {
	w := si.Windowing
	if w == nil || w.Kind == plan.Global {
		return element.MaxTime
	}
	encoded, err := window.Side(w, mainMax)
	if err != nil {
		return element.MaxTime // an unknown mapping: wait for all of it
	}
	end, err := window.Max(w.Coding, encoded)
	if err != nil {
		return element.MaxTime
	}
	return end.Add(1)
}
