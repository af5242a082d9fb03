package fnapi_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/fnapi"
	"padstone/fnapi/fakesdk"
	"padstone/internal/fault"
)

// bags is a state handler that keeps bags in memory and pages of one byte.
type bags struct {
	mu    sync.Mutex
	cells map[string][]byte
	calls []string
	block chan struct{} // non-nil: wait for it or for ctx before answering
}

func (h *bags) HandleState(ctx context.Context, req *fnpb.StateRequest) (*fnpb.StateResponse, error) {
	if h.block != nil {
		select {
		case <-h.block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, fmt.Sprintf("%T", req.GetRequest()))
	var cell string
	switch k := req.GetStateKey().GetType().(type) {
	case *fnpb.StateKey_BagUserState_:
		cell = fmt.Sprintf("bag %s %s %x %s", k.BagUserState.GetTransformId(), k.BagUserState.GetUserStateId(),
			k.BagUserState.GetWindow(), fakesdk.Bytes(k.BagUserState.GetKey()))
	case *fnpb.StateKey_IterableSideInput_:
		cell = "side " + k.IterableSideInput.GetSideInputId()
	default:
		return nil, errors.New("not kept here")
	}
	switch r := req.GetRequest().(type) {
	case *fnpb.StateRequest_Get:
		rest := h.cells[cell]
		if token := r.Get.GetContinuationToken(); len(token) > 0 {
			rest = rest[token[0]:]
		}
		get := &fnpb.StateGetResponse{Data: rest[:min(1, len(rest))]}
		if len(rest) > 1 {
			get.ContinuationToken = []byte{byte(len(h.cells[cell]) - len(rest) + 1)}
		}
		return &fnpb.StateResponse{Response: &fnpb.StateResponse_Get{Get: get}}, nil
	case *fnpb.StateRequest_Append:
		h.cells[cell] = append(h.cells[cell], r.Append.GetData()...)
		return &fnpb.StateResponse{Response: &fnpb.StateResponse_Append{Append: &fnpb.StateAppendResponse{}}}, nil
	case *fnpb.StateRequest_Clear:
		delete(h.cells, cell)
		return &fnpb.StateResponse{Response: &fnpb.StateResponse_Clear{Clear: &fnpb.StateClearResponse{}}}, nil
	}
	return nil, nil
}

func TestKeyedState(t *testing.T) {
	r := newRig(t)
	r.connect(fakesdk.Config{})
	d := r.describe("d", "bytes",
		fakesdk.Step{ID: "key", DoFn: "fakesdk:key", Params: []byte("1"), Output: "kv"},
		fakesdk.Step{ID: "count", DoFn: "fakesdk:count", Bags: []string{"count"}, Output: "kv"})
	h := &bags{cells: make(map[string][]byte)}
	for _, want := range []string{"a=1 b=1 a=2", "a=3 b=2 a=4"} {
		b, out := r.start(fnapi.StartBundle{DescriptorID: d, State: h})
		if err := r.feed(b, "ax", "bx", "ay"); err != nil {
			t.Fatal(err)
		}
		r.wait(b)
		kvs, err := fakesdk.KVs(out.data)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, kv := range kvs {
			got = append(got, fmt.Sprintf("%s=%s", kv[0], kv[1]))
		}
		wantStrings(t, got, want)
	}
}

func TestSideInput(t *testing.T) {
	r := newRig(t)
	r.connect(fakesdk.Config{})
	d := r.describe("d", "bytes", fakesdk.Step{ID: "side", DoFn: "fakesdk:side", Side: true})
	b, out := r.start(fnapi.StartBundle{DescriptorID: d, State: &bags{cells: map[string][]byte{"side side": []byte("12345")}}})
	if err := r.feed(b, "x"); err != nil {
		t.Fatal(err)
	}
	r.wait(b)
	wantStrings(t, out.values(t), "x:5")
}

// TestSlowStateDoesNotBlockOthers: both bundles share the harness's one state stream.
func TestSlowStateDoesNotBlockOthers(t *testing.T) {
	r := newRig(t)
	r.connect(fakesdk.Config{})
	d := r.describe("d", "bytes", fakesdk.Step{ID: "side", DoFn: "fakesdk:side", Side: true})
	stuck := &bags{cells: map[string][]byte{}, block: make(chan struct{})}
	b1, _ := r.start(fnapi.StartBundle{DescriptorID: d, State: stuck})
	if err := r.feed(b1, "x"); err != nil {
		t.Fatal(err)
	}
	b2, out := r.start(fnapi.StartBundle{DescriptorID: d, State: &bags{cells: map[string][]byte{}}})
	if err := r.feed(b2, "y"); err != nil {
		t.Fatal(err)
	}
	r.wait(b2)
	wantStrings(t, out.values(t), "y:0")
	// An abandoned bundle's handler sees its ctx end, and Wait waits for it.
	b1.Abandon(errors.New("enough"))
	if _, err := b1.Wait(r.context()); err == nil || err.Error() != "enough" {
		t.Fatalf("got %v", err)
	}
}

func TestStateWithoutHandler(t *testing.T) {
	r := newRig(t)
	r.connect(fakesdk.Config{})
	d := r.describe("d", "bytes", fakesdk.Step{ID: "side", DoFn: "fakesdk:side", Side: true})
	b, _ := r.start(fnapi.StartBundle{DescriptorID: d})
	if err := r.feed(b, "x"); err != nil {
		t.Fatal(err)
	}
	_, err := b.Wait(r.context())
	wantCode(t, err, fault.Pipeline, "bundle-failed")
}

func TestTimers(t *testing.T) {
	r := newRig(t)
	r.connect(fakesdk.Config{})
	d := r.describe("d", "bytes",
		fakesdk.Step{ID: "key", DoFn: "fakesdk:key", Params: []byte("1"), Output: "kv"},
		fakesdk.Step{ID: "timed", DoFn: "fakesdk:timer", Params: []byte("100"), Timers: []string{"timer"}, Output: "kv"})
	families := []fnapi.TimerKey{{Transform: "timed", Family: "timer"}}
	b, out := r.start(fnapi.StartBundle{DescriptorID: d, TimerFamilies: families})
	if err := r.feed(b, "ax", "by"); err != nil {
		t.Fatal(err)
	}
	r.wait(b)
	if len(out.data) > 0 || len(out.timers) == 0 {
		t.Fatalf("%d bytes of data and %d of timers", len(out.data), len(out.timers))
	}
	again, fired := r.start(fnapi.StartBundle{DescriptorID: d, TimerFamilies: families})
	if err := again.SendTimers(r.context(), "timed", "timer", out.timers); err != nil {
		t.Fatal(err)
	}
	if err := again.Finish(r.context()); err != nil {
		t.Fatal(err)
	}
	r.wait(again)
	kvs, err := fakesdk.KVs(fired.data)
	if err != nil || len(kvs) != 2 || string(kvs[0][0]) != "a" || string(kvs[1][1]) != "fired" {
		t.Fatalf("%q, %v", kvs, err)
	}
}
