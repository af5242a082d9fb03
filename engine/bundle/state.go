package bundle

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/group"
	"padstone/engine/rows"
	"padstone/engine/store"
	"padstone/fnapi"
)

// stateHandler answers the state requests of one bundle: user state out of the bundle's rows, side inputs out of the store. The
// SDK's requests of one bundle come one at a time, in order.
type stateHandler struct {
	stage *Stage
	store *store.Store
	view  *store.Snapshot // the side inputs, as they were when the bundle began; nil when the stage has none
	txs   *transactions
	key   []byte // scratch
	ahead readAhead

	readings []*reading // cells whose next page may be asked for; the last one used is last
	reads    uint16
	writes   uint64

	mu struct {
		sync.Mutex // held while a request is handled
		closed     bool
	}
}

// close makes the handler refuse requests, and returns once none is being handled. A cancelled bundle does not wait for its harness,
// so that a request may come or run when the bundle's rows are discarded and the store is closed.
func (h *stateHandler) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.readings = nil
	h.ahead.end()
	if h.mu.closed || h.view == nil {
		h.mu.closed = true
		return nil
	}
	h.mu.closed = true
	return h.view.Close()
}

// Prompt implements fnapi.PromptState: what a request reads is in the store.
func (h *stateHandler) Prompt() {}

// HandleState answers one request.
func (h *stateHandler) HandleState(_ context.Context, req *fnpb.StateRequest) (*fnpb.StateResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.closed {
		return nil, errors.New("the bundle has ended")
	}
	resp := &fnpb.StateResponse{Id: req.GetId()}
	if req.GetGet() == nil {
		h.writes++
	}
	var err error
	switch k := req.GetStateKey().GetType().(type) {
	case *fnpb.StateKey_BagUserState_:
		c := k.BagUserState
		err = h.bag(req, resp, cellKey{c.GetTransformId(), c.GetUserStateId(), c.GetWindow(), c.GetKey()})
	case *fnpb.StateKey_MultimapUserState_:
		c := k.MultimapUserState
		err = h.multimap(req, resp, cellKey{c.GetTransformId(), c.GetUserStateId(), c.GetWindow(), c.GetKey()}, c.GetMapKey())
	case *fnpb.StateKey_MultimapKeysUserState_:
		c := k.MultimapKeysUserState
		err = h.multimapKeys(req, resp, cellKey{c.GetTransformId(), c.GetUserStateId(), c.GetWindow(), c.GetKey()})
	case *fnpb.StateKey_OrderedListUserState_:
		c := k.OrderedListUserState
		err = h.orderedList(req, resp, cellKey{c.GetTransformId(), c.GetUserStateId(), c.GetWindow(), c.GetKey()}, c.GetRange())
	case *fnpb.StateKey_IterableSideInput_, *fnpb.StateKey_MultimapSideInput_,
		*fnpb.StateKey_MultimapKeysSideInput_, *fnpb.StateKey_MultimapKeysValuesSideInput_:
		err = h.sideInput(req, resp)
	case *fnpb.StateKey_Runner_:
		err = h.content(req, resp, k.Runner.GetKey())
	default:
		if e, ok := fnapi.MultimapEntries(req.GetStateKey()); ok {
			err = h.multimapEntries(req, resp, cellKey{e.Transform, e.State, e.Window, e.Key})
			break
		}
		err = fmt.Errorf("state key %T is not known", k)
	}
	if err != nil {
		return nil, fmt.Errorf("stage %q: %w", h.stage.Def.Name, err)
	}
	return resp, nil
}

// content serves the values of a state-backed iterable, a page at a time. The continuation token is the number of the next page.
func (h *stateHandler) content(req *fnpb.StateRequest, resp *fnpb.StateResponse, token []byte) error {
	get := req.GetGet()
	if get == nil {
		return fmt.Errorf("a grouped iterable can only be read, not %T", req.GetRequest())
	}
	id, pages, ok := group.ParseToken(token)
	if !ok {
		return fmt.Errorf("the token %x of an iterable is not ours", token)
	}
	n := uint64(0)
	if at := get.GetContinuationToken(); len(at) == 8 {
		n = binary.BigEndian.Uint64(at)
	}
	data, err := h.store.Page(id, n)
	if err != nil {
		return err
	}
	out := &fnpb.StateGetResponse{Data: data}
	if n+1 < pages {
		out.ContinuationToken = binary.BigEndian.AppendUint64(nil, n+1)
	}
	resp.Response = &fnpb.StateResponse_Get{Get: out}
	return nil
}

// cellKey names a user state cell of one key and window.
type cellKey struct {
	transform, cell string
	window, key     []byte
}

// locate returns the cell, the rows of its key group and its row prefix: window, key, cell. Window comes first so that the rows of a
// window lie together. The cell stands there by name, so that it keeps its rows when the pipeline is changed.
func (h *stateHandler) locate(k cellKey) (*cell, rows.Tx, []byte, error) {
	c := h.stage.states[cellID{k.transform, k.cell}]
	if c == nil {
		return nil, nil, nil, fmt.Errorf("transform %q has no state cell %q", k.transform, k.cell)
	}
	tx, err := h.txs.of(k.key)
	if err != nil {
		return nil, nil, nil, err
	}
	h.key = appendCell(h.key[:0], k.window, k.key, k.cell)
	return c, tx, h.key, nil
}

// appendCell appends the row prefix of a state cell.
func appendCell(dst, window, key []byte, name string) []byte {
	dst = appendScope(dst, window, key)
	return append(binary.AppendUvarint(dst, uint64(len(name))), name...)
}

// appendScope appends the row prefix of all state of one window and key.
func appendScope(dst, window, key []byte) []byte {
	return rows.AppendBytes(rows.AppendBytes(dst, window), key)
}

func (h *stateHandler) bag(req *fnpb.StateRequest, resp *fnpb.StateResponse, k cellKey) error {
	c, tx, key, err := h.locate(k)
	if err != nil {
		return err
	}
	return h.access(req, resp, tx, key, c.element)
}

// access gets, appends to or clears the one row at key, which is scratch.
func (h *stateHandler) access(req *fnpb.StateRequest, resp *fnpb.StateResponse, tx rows.Tx, key []byte, elem *coder.Program) error {
	switch r := req.GetRequest().(type) {
	case *fnpb.StateRequest_Get:
		return h.page(resp, r.Get.GetContinuationToken(), func(to *reading) error {
			to.elem = elem
			row, err := tx.Get(rows.State, key)
			if err != nil {
				return err
			}
			return to.takeRow(row)
		})
	case *fnpb.StateRequest_Append:
		tx.Merge(rows.State, key, appendRow(nil, r.Append.GetData()))
		resp.Response = &fnpb.StateResponse_Append{Append: &fnpb.StateAppendResponse{}}
	case *fnpb.StateRequest_Clear:
		tx.Delete(rows.State, key)
		resp.Response = &fnpb.StateResponse_Clear{Clear: &fnpb.StateClearResponse{}}
	default:
		return fmt.Errorf("state request %T is not known", r)
	}
	return nil
}

func (h *stateHandler) multimap(req *fnpb.StateRequest, resp *fnpb.StateResponse, k cellKey, mapKey []byte) error {
	c, tx, key, err := h.locate(k)
	if err != nil {
		return err
	}
	return h.access(req, resp, tx, rows.AppendBytes(key, mapKey), c.element)
}

// multimapKeys lists or clears the keys of a multimap cell.
func (h *stateHandler) multimapKeys(req *fnpb.StateRequest, resp *fnpb.StateResponse, k cellKey) error {
	_, tx, prefix, err := h.locate(k)
	if err != nil {
		return err
	}
	switch r := req.GetRequest().(type) {
	case *fnpb.StateRequest_Get:
		return h.page(resp, r.Get.GetContinuationToken(), func(to *reading) error {
			return eachMapEntry(tx, prefix, func(mapKey, _ []byte) error {
				to.take(mapKey)
				return nil
			})
		})
	case *fnpb.StateRequest_Clear:
		tx.DeletePrefix(rows.State, prefix)
		resp.Response = &fnpb.StateResponse_Clear{Clear: &fnpb.StateClearResponse{}}
		return nil
	default:
		return fmt.Errorf("request %T does not suit the keys of a multimap", r)
	}
}

// multimapEntries lists KV<key, iterable<value>> of a multimap cell, or clears it.
func (h *stateHandler) multimapEntries(req *fnpb.StateRequest, resp *fnpb.StateResponse, k cellKey) error {
	c, tx, prefix, err := h.locate(k)
	if err != nil {
		return err
	}
	get := req.GetGet()
	if get == nil {
		return h.multimapKeys(req, resp, k)
	}
	if c.element == nil {
		return fmt.Errorf("entries of state cell %q: its values cannot be framed", k.cell)
	}
	return h.page(resp, get.GetContinuationToken(), func(to *reading) error {
		return eachMapEntry(tx, prefix, func(mapKey, row []byte) error {
			var values reading
			if err := values.takeRow(row); err != nil {
				return err
			}
			entry, err := appendIterable(bytes.Clone(mapKey), values.run, c.element)
			if err != nil {
				return fmt.Errorf("entries of state cell %q: %w", k.cell, err)
			}
			to.take(entry)
			return nil
		})
	})
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// eachMapEntry calls fn for the entries of a multimap cell. Values may take no bytes: those of a set in the Java SDK do.
func eachMapEntry(tx rows.Tx, prefix []byte, fn func(mapKey, row []byte) error) error {
	prefix = bytes.Clone(prefix)
	var failed error
	err := tx.Scan(rows.State, prefix, nil, func(key, row []byte) bool {
		mapKey, _, ok := rows.TakeBytes(key[len(prefix):])
		if !ok {
			failed = fmt.Errorf("a row of map state is malformed")
		} else {
			failed = fn(mapKey, row)
		}
		return failed == nil
	})
	return firstError(err, failed)
}

// appendIterable appends a run of elements as an iterable of known length.
func appendIterable(dst, run []byte, elem *coder.Program) ([]byte, error) {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	count := uint32(0)
	for rest := run; len(rest) > 0; count++ {
		n, err := elem.Len(rest)
		if err != nil {
			return dst, err
		}
		dst = append(dst, rest[:n]...)
		rest = rest[max(n, 1):] // see elementLen
	}
	binary.BigEndian.PutUint32(dst[at:], count)
	return dst, nil
}

// orderedList serves KV<varint sort key, value> elements by range [start, end). Rows are keyed by the sort key.
func (h *stateHandler) orderedList(req *fnpb.StateRequest, resp *fnpb.StateResponse, k cellKey, r *fnpb.OrderedListRange) error {
	c, tx, prefix, err := h.locate(k)
	if err != nil {
		return err
	}
	prefix = append([]byte(nil), prefix...)
	at := func(sort int64) []byte { return rows.AppendTime(append([]byte(nil), prefix...), element.Time(sort)) }
	switch q := req.GetRequest().(type) {
	case *fnpb.StateRequest_Append:
		return h.orderedAppend(resp, tx, at, q.Append.GetData(), c.element)
	case *fnpb.StateRequest_Get:
		return h.page(resp, q.Get.GetContinuationToken(), func(to *reading) error {
			to.elem = c.element
			return tx.Scan(rows.State, prefix, at(r.GetStart()), func(key, value []byte) bool {
				if int64(rows.Time(key[len(prefix):])) >= r.GetEnd() {
					return false
				}
				to.take(value)
				return true
			})
		})
	case *fnpb.StateRequest_Clear:
		var gone [][]byte
		err := tx.Scan(rows.State, prefix, at(r.GetStart()), func(key, _ []byte) bool {
			if int64(rows.Time(key[len(prefix):])) >= r.GetEnd() {
				return false
			}
			gone = append(gone, append([]byte(nil), key...))
			return true
		})
		for _, key := range gone {
			tx.Delete(rows.State, key)
		}
		resp.Response = &fnpb.StateResponse_Clear{Clear: &fnpb.StateClearResponse{}}
		return err
	default:
		return fmt.Errorf("state request %T is not known", q)
	}
}

func (h *stateHandler) orderedAppend(
	resp *fnpb.StateResponse, tx rows.Tx, at func(int64) []byte, data []byte, elem *coder.Program,
) error {
	if elem == nil {
		return fmt.Errorf("the elements of an ordered list cannot be framed")
	}
	for len(data) > 0 {
		n, err := elem.Len(data)
		if err != nil || n == 0 {
			return fmt.Errorf("appended ordered-list element does not follow its coder: %w", err)
		}
		sort, w := binary.Uvarint(data[:n]) // Beam's varint is unsigned, two's complement
		if w <= 0 {
			return fmt.Errorf("appended ordered-list element has no sort key")
		}
		tx.Merge(rows.State, at(int64(sort)), data[:n])
		data = data[n:]
	}
	resp.Response = &fnpb.StateResponse_Append{Append: &fnpb.StateAppendResponse{}}
	return nil
}

// transactions hands out the rows of the key groups that a bundle owns.
type transactions struct {
	bundle *store.Bundle
	groups int
	byID   map[uint16]rows.Tx
}

func newTransactions(b *store.Bundle, keyGroups int, owned []uint16) *transactions {
	t := &transactions{bundle: b, groups: keyGroups, byID: make(map[uint16]rows.Tx, len(owned))}
	t.own(owned)
	return t
}

// own adds key groups.
func (t *transactions) own(groups []uint16) {
	for _, g := range groups {
		t.byID[g] = t.bundle.Group(g)
	}
}

// of returns the rows of the key's group. A key of a group that the bundle does not own is the harness's fault: it may have
// changed the key of an element, or encodes keys of state otherwise than keys of elements.
func (t *transactions) of(key []byte) (rows.Tx, error) {
	g := coder.KeyGroup(key, t.groups)
	tx := t.byID[g]
	if tx == nil {
		return nil, fmt.Errorf("state or timer of key %x, whose key group %d this bundle does not own", key, g)
	}
	return tx, nil
}
