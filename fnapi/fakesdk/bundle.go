package fakesdk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/fnapi"
)

// bundle is one ProcessBundle instruction.
type bundle struct {
	harness *Harness
	id      string
	req     *fnpb.ProcessBundleRequest
	fault   Fault
	queue   *queue
	// answered is closed when the bundle is over.
	answered chan struct{}

	stream   *dataStream
	graph    *graph
	contexts map[string]*Context // by transform id
	out      map[string][]byte   // by sink
	timers   map[timerPort][]byte

	mu        sync.Mutex
	running   bool // data may be processed: splits are possible
	index     int64
	stop      int64 // elements from this index on are left to a residual; -1: none
	tracker   *tracker
	residuals []*fnpb.DelayedBundleApplication
	counters  map[counterKey]int64
	finalizes []func() error
}

type timerPort struct{ transform, family string }

// newBundle registers a bundle before its data can come.
func (h *Harness) newBundle(id string, req *fnpb.ProcessBundleRequest) *bundle {
	b := &bundle{
		harness: h, id: id, req: req, queue: newQueue(), answered: make(chan struct{}), index: -1, stop: -1,
		contexts: make(map[string]*Context), out: make(map[string][]byte), timers: make(map[timerPort][]byte),
		counters: make(map[counterKey]int64),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.mu.started
	h.mu.started++
	if h.cfg.Fault != nil {
		b.fault = h.cfg.Fault(n, req)
	}
	if early := h.mu.early[id]; early != nil {
		b.queue = early
		delete(h.mu.early, id)
	}
	h.mu.bundles[id] = b
	return b
}

// serve runs the bundle and answers it.
func (b *bundle) serve(ctx context.Context) {
	defer close(b.answered)
	defer func() {
		b.harness.mu.Lock()
		delete(b.harness.mu.bundles, b.id)
		b.harness.mu.finished[b.id] = true
		b.harness.mu.Unlock()
	}()
	resp, err := b.run(ctx)
	switch {
	case errors.Is(err, errSilent), err != nil && ctx.Err() != nil: // a harness that is lost does not say so
		return
	case err != nil:
		b.harness.respond(failure(b.id, err))
		return
	}
	b.harness.respond(resp)
	if b.fault == AnswerTwice {
		b.harness.respond(resp)
	}
}

// run processes the bundle's input and sends its output.
func (b *bundle) run(ctx context.Context) (*fnpb.InstructionResponse, error) {
	g, err := b.harness.graph(ctx, b.req.GetProcessBundleDescriptorId())
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.graph = g // progress may be asked for already
	b.mu.Unlock()
	ds, err := b.harness.dataStream(ctx, fnapi.DataStreamID(b.req))
	if err != nil {
		return nil, err
	}
	b.stream = ds
	if err := b.before(ctx, ds); err != nil {
		return nil, err
	}
	if err := b.process(ctx); err != nil {
		return nil, err
	}
	els := b.output()
	if err := b.after(ds, els); err != nil {
		return nil, err
	}
	pb := &fnpb.ProcessBundleResponse{}
	if b.harness.cfg.EmbedElements {
		pb.Elements = els
	} else if err := ds.send(els); err != nil {
		return nil, err
	}
	b.mu.Lock()
	pb.ResidualRoots = b.residuals
	pb.RequiresFinalization = len(b.finalizes) > 0
	finalizes := b.finalizes
	b.mu.Unlock()
	pb.MonitoringInfos, pb.MonitoringData = b.metrics()
	if pb.RequiresFinalization {
		b.harness.mu.Lock()
		b.harness.mu.finalizes[b.id] = finalizes
		b.harness.mu.Unlock()
	}
	if b.fault == WrongAnswer {
		return &fnpb.InstructionResponse{InstructionId: b.id}, nil
	}
	return &fnpb.InstructionResponse{InstructionId: b.id, Response: &fnpb.InstructionResponse_ProcessBundle{ProcessBundle: pb}}, nil
}

// process runs all DoFns over the input.
func (b *bundle) process(ctx context.Context) error {
	waiting := make(map[string]bool)
	for _, n := range b.graph.nodes {
		if n.urn == urnSource {
			waiting[n.id] = true
		}
		for f := range n.families {
			waiting[n.id+"\x00"+f] = true
		}
		if n.newFn == nil {
			continue
		}
		fn, err := n.newFn(n.payload)
		if err != nil {
			return fmt.Errorf("DoFn of %q: %w", n.name, err)
		}
		c := &Context{bundle: b, node: n, fn: fn, done: ctx.Done()}
		c.ctx = func() context.Context { return ctx }
		b.contexts[n.id] = c
		if fn.Start != nil {
			if err := fn.Start(c); err != nil {
				return err
			}
		}
	}
	b.setRunning(true)
	defer b.setRunning(false)
	for len(waiting) > 0 {
		it, err := b.queue.take(ctx)
		if err != nil {
			return fmt.Errorf("data stream: %w", err)
		}
		if it.last { // like the Python SDK, drop data that comes with the end marker
			key := it.transform
			if it.timers {
				key += "\x00" + it.family
			}
			delete(waiting, key)
			continue
		}
		if err := b.consume(it); err != nil {
			return err
		}
	}
	for _, n := range b.graph.nodes {
		if c := b.contexts[n.id]; c != nil && c.fn.Finish != nil {
			if err := c.fn.Finish(c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bundle) setRunning(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running = on
}

// consume processes one message's worth of elements or timers.
func (b *bundle) consume(it item) error {
	n := b.graph.byID[it.transform]
	if n == nil {
		return fmt.Errorf("data for unknown transform %q", it.transform)
	}
	data := it.data
	for len(data) > 0 {
		if it.timers {
			f, ok := n.families[it.family]
			if !ok {
				return fmt.Errorf("timers for unknown family %q of %q", it.family, n.name)
			}
			t, rest, err := nextTimer(data, f.key, f.window)
			if err != nil {
				return fmt.Errorf("timer family %q of %q: %w", it.family, n.name, err)
			}
			data = rest
			if c := b.contexts[n.id]; c.fn.OnTimer != nil {
				if err := c.fn.OnTimer(c, it.family, t); err != nil {
					return err
				}
			}
			continue
		}
		e, rest, err := n.port.next(data)
		if err != nil {
			return fmt.Errorf("element for %q: %w", n.name, err)
		}
		data = rest
		b.mu.Lock()
		if b.stop >= 0 && b.index+1 >= b.stop {
			b.mu.Unlock()
			return nil
		}
		b.index++
		b.mu.Unlock()
		if err := b.push(n.outputs[only(n.outputs)], e); err != nil {
			return err
		}
	}
	return nil
}

// push hands an element of a PCollection to its consumers.
func (b *bundle) push(pcollection string, e Element) error {
	b.mu.Lock()
	b.counters[counterKey{pcollection, urnElements}]++
	b.mu.Unlock()
	for _, n := range b.graph.consumers[pcollection] {
		switch {
		case n.urn == urnSink:
			if err := b.emit(n.id, e); err != nil {
				return err
			}
		case n.urn == urnFlatten:
			if err := b.push(n.outputs[only(n.outputs)], e); err != nil {
				return err
			}
		default:
			c := b.contexts[n.id]
			c.Count("elements", 1)
			err := error(nil)
			if c.fn.Ranges != nil {
				err = c.fn.Ranges.step(c, n.urn, e)
			} else if c.fn.Process != nil {
				err = c.fn.Process(c, e)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// flushBytes is the size from which output is sent before the bundle ends, as SDKs do.
const flushBytes = 2 << 20

// emit puts an element into a sink.
func (b *bundle) emit(sink string, e Element) error {
	data := e.Append(b.out[sink])
	if len(data) < flushBytes || b.harness.cfg.EmbedElements || b.fault != NoFault {
		b.out[sink] = data
		return nil
	}
	b.out[sink] = nil
	return b.stream.send(&fnpb.Elements{Data: []*fnpb.Elements_Data{{InstructionId: b.id, TransformId: sink, Data: data}}})
}

// output is what the bundle has emitted and not sent, with the end markers.
func (b *bundle) output() *fnpb.Elements {
	els := &fnpb.Elements{}
	for _, n := range b.graph.nodes {
		if n.urn == urnSink {
			if data := b.out[n.id]; len(data) > 0 {
				els.Data = append(els.Data, &fnpb.Elements_Data{InstructionId: b.id, TransformId: n.id, Data: data})
			}
			els.Data = append(els.Data, &fnpb.Elements_Data{InstructionId: b.id, TransformId: n.id, IsLast: true})
		}
		for _, f := range sortedKeys(n.families) {
			if data := b.timers[timerPort{n.id, f}]; len(data) > 0 {
				els.Timers = append(els.Timers, &fnpb.Elements_Timers{InstructionId: b.id, TransformId: n.id, TimerFamilyId: f, Timers: data})
			}
			els.Timers = append(els.Timers, &fnpb.Elements_Timers{InstructionId: b.id, TransformId: n.id, TimerFamilyId: f, IsLast: true})
		}
	}
	return els
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
