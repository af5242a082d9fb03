package bundle

import (
	"fmt"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/window"
)

// sideInput serves a side input from the store: rows of encoded values by window, and by key for a multimap. The continuation
// token is the suffix of the next row.
func (h *stateHandler) sideInput(req *fnpb.StateRequest, resp *fnpb.StateResponse) error {
	get := req.GetGet()
	if get == nil {
		return fmt.Errorf("a side input can only be read, not %T", req.GetRequest())
	}
	q, err := h.sideQuery(req.GetStateKey())
	if err != nil {
		return err
	}
	out := &fnpb.StateGetResponse{}
	err = h.store.Side(uint32(q.edge.index), q.prefix, get.GetContinuationToken(), func(suffix, value []byte) bool {
		if len(out.Data) >= pageBytes && !q.whole(suffix) {
			out.ContinuationToken = append([]byte(nil), suffix...)
			return false
		}
		q.add(&out.Data, suffix, value)
		return true
	})
	if err == nil {
		err = q.flush(&out.Data)
	}
	resp.Response = &fnpb.StateResponse_Get{Get: out}
	return err
}

// sideQuery is one read of a side input.
type sideQuery struct {
	edge   *edge
	prefix []byte
	mode   sideMode
	// key and values collect a key's rows when keys are listed.
	key    []byte
	values []byte
	err    error
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
	var window []byte
	switch k := k.GetType().(type) {
	case *fnpb.StateKey_IterableSideInput_:
		transform, local, window = k.IterableSideInput.GetTransformId(), k.IterableSideInput.GetSideInputId(), k.IterableSideInput.GetWindow()
		q.prefix = rows.AppendBytes(nil, window)
	case *fnpb.StateKey_MultimapSideInput_:
		transform, local, window = k.MultimapSideInput.GetTransformId(), k.MultimapSideInput.GetSideInputId(), k.MultimapSideInput.GetWindow()
		q.prefix = rows.AppendBytes(rows.AppendBytes(nil, window), k.MultimapSideInput.GetKey())
	case *fnpb.StateKey_MultimapKeysSideInput_:
		q.mode = sideKeys
		s := k.MultimapKeysSideInput
		transform, local, window = s.GetTransformId(), s.GetSideInputId(), s.GetWindow()
		q.prefix = rows.AppendBytes(nil, window)
	case *fnpb.StateKey_MultimapKeysValuesSideInput_:
		q.mode = sideEntries
		s := k.MultimapKeysValuesSideInput
		transform, local, window = s.GetTransformId(), s.GetSideInputId(), s.GetWindow()
		q.prefix = rows.AppendBytes(nil, window)
	}
	q.edge = h.stage.sides[sideID{transform, local}]
	if q.edge == nil {
		return nil, fmt.Errorf("transform %q has no side input %q", transform, local)
	}
	return q, nil
}

// keyOf returns the key of a row of a multimap: what stands between the window and the sequence number.
func (q *sideQuery) keyOf(suffix []byte) []byte {
	_, rest, ok := rows.TakeBytes(suffix)
	if !ok {
		return nil
	}
	key, _, ok := rows.TakeBytes(rest)
	if !ok {
		return nil
	}
	return key
}

// whole says whether the row must stay on the page because it belongs to the key that is being collected.
func (q *sideQuery) whole(suffix []byte) bool {
	return q.mode != sideValues && string(q.keyOf(suffix)) == string(q.key)
}

// add appends one row to the page.
func (q *sideQuery) add(page *[]byte, suffix, value []byte) {
	if q.mode == sideValues {
		*page = append(*page, value...)
		return
	}
	key := q.keyOf(suffix)
	if q.key == nil || string(key) != string(q.key) {
		q.err = firstError(q.err, q.flush(page))
		q.key = append(make([]byte, 0, len(key)), key...)
	}
	q.values = append(q.values, value...)
}

// flush appends the key that was being collected.
func (q *sideQuery) flush(page *[]byte) error {
	if q.mode == sideValues || q.key == nil || q.err != nil {
		return q.err
	}
	*page = append(*page, q.key...)
	var err error
	if q.mode == sideEntries {
		_, value, _ := q.edge.value.KV()
		*page, err = appendIterable(*page, q.values, value)
	}
	q.key, q.values = nil, q.values[:0]
	return err
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
