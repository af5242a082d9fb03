package fnapi

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/internal/buffers"
	"padstone/internal/fault"
)

// TimerKey names a timer family of a descriptor.
type TimerKey struct {
	Transform string
	Family    string
}

// StartBundle describes a bundle. The transform ids are those of the descriptor.
type StartBundle struct {
	InstructionID InstructionID
	DescriptorID  DescriptorID
	CacheTokens   []*fnpb.ProcessBundleRequest_CacheToken
	// DataStreamID gives the bundle a data stream that no other bundle in flight shares. The Python SDK reads a stream with one
	// thread and queues 5 messages a bundle, so that on a shared one a slow bundle holds up the others. "" is the default stream.
	// Only for harnesses with CapabilityNamedDataStreams. Streams live as long as the generation: reuse a few ids.
	DataStreamID string
	// HasNoState promises that the bundle's keys have no state yet, OnlyBundleForKeys that no other bundle will come for them.
	HasNoState, OnlyBundleForKeys bool

	Inputs        []string   // data sources
	TimerFamilies []TimerKey // all of the descriptor: each carries timers in both directions and needs its end marker
	Outputs       []string   // data sinks

	State StateHandler // nil: every state request is answered with an error

	// OnData and OnTimers take what the harness emits, whole encoded elements or timers, concatenated. The bytes belong to the
	// callee; who needs large ones no longer may release what they are lent in, which is nil for others. Calls for one bundle come
	// one at a time for one channel, in order. They must not block for long, because the stream's other bundles wait meanwhile, and
	// must not call Wait. They may call Abandon.
	OnData   func(transformID string, data []byte, lent *buffers.Buffer)
	OnTimers func(transformID, family string, data []byte)
}

// Bundle is one ProcessBundle instruction on one generation of a worker. Safe for concurrent use, but what is sent for one channel
// keeps its order only if one goroutine sends it.
type Bundle struct {
	sess *session
	spec StartBundle
	done chan struct{} // closed by finish
	// state answers the bundle's state requests.
	state stateQueue
	// delivering counts callbacks that run; it only grows while recv.finished is unset.
	delivering sync.WaitGroup
	// What its data messages took to encode and to decode, in nanoseconds.
	encoded, decoded atomic.Int64

	send struct {
		sync.Mutex
		open   map[port]bool // channels that have had no end marker
		stream *dataStream   // nil until the harness has opened it
	}
	recv struct {
		sync.Mutex
		open     map[port]bool // true: the end marker is yet to come
		left     int           // number of true values in open
		response *fnpb.ProcessBundleResponse
		split    bool // a split was asked for: the harness need not read its input to the end
		finished bool
		err      error
	}
}

// newBundle registers a bundle with its session.
func newBundle(sess *session, sb StartBundle) (*Bundle, error) {
	if sb.InstructionID == "" {
		return nil, misuse("a bundle without instruction id")
	}
	b := &Bundle{sess: sess, spec: sb, done: make(chan struct{})}
	b.send.open = make(map[port]bool)
	b.recv.open = make(map[port]bool)
	for _, in := range sb.Inputs {
		b.send.open[port{transform: in}] = true
	}
	for _, out := range sb.Outputs {
		b.recv.open[port{transform: out}] = true
	}
	for _, f := range sb.TimerFamilies {
		p := port{transform: f.Transform, family: f.Family, timers: true}
		b.send.open[p], b.recv.open[p] = true, true
	}
	b.recv.left = len(b.recv.open)
	b.state.init(sb.State)
	if err := sess.add(b); err != nil {
		return nil, err
	}
	return b, nil
}

// ID returns the bundle's instruction id.
func (b *Bundle) ID() InstructionID { return b.spec.InstructionID }

// Done returns a channel that is closed when the bundle is complete or has failed; Wait then returns at once or after a short
// exchange about metrics.
func (b *Bundle) Done() <-chan struct{} { return b.done }

// SendData sends encoded elements to a data source of the bundle. The element boundaries must lie on the message's (the Python SDK
// decodes each message alone), 1 to 4 MB is a good size, and data must not change afterwards. It blocks while the stream's budget is
// spent or the harness has not opened the stream yet. Errors: ctx's cause, or why the bundle has failed.
func (b *Bundle) SendData(ctx context.Context, transformID string, data []byte) error {
	return b.sendOn(ctx, port{transform: transformID}, data, nil)
}

// SendLent is SendData for data that is lent to the caller, who gives it up. It is released when the transport has written it, and not at
// all if it is never written.
func (b *Bundle) SendLent(ctx context.Context, transformID string, data []byte, lent *buffers.Buffer) error {
	return b.sendOn(ctx, port{transform: transformID}, data, lent)
}

// SendTimers sends encoded timers to a timer family of the bundle, like SendData.
func (b *Bundle) SendTimers(ctx context.Context, transformID, family string, data []byte) error {
	return b.sendOn(ctx, port{transform: transformID, family: family, timers: true}, data, nil)
}

func (b *Bundle) sendOn(ctx context.Context, p port, payload []byte, lent *buffers.Buffer) error {
	b.send.Lock()
	open := b.send.open[p]
	b.send.Unlock()
	if !open {
		return misuse("bundle %s: %s is not an open input", b.spec.InstructionID, p)
	}
	if len(payload) == 0 {
		return nil
	}
	ds, err := b.dataStream(ctx)
	if err != nil {
		return b.sendError(err)
	}
	e := b.entry(p, payload, false)
	e.lent = lent
	return b.sendError(ds.send(ctx, b.done, elements{e}))
}

// Finish sends the end marker of every input and every timer family that has had none, each without data: harnesses drop data that
// comes with it. Spec: python data_plane.py _GrpcDataChannel.input_elements. Idempotent.
func (b *Bundle) Finish(ctx context.Context) error {
	b.send.Lock()
	none := len(b.send.open) == 0
	b.send.Unlock()
	if none {
		return nil
	}
	ds, err := b.dataStream(ctx)
	if err != nil {
		return b.sendError(err)
	}
	return b.sendError(ds.send(ctx, b.done, b.endMarkers()))
}

// endMarkers closes the open inputs and returns their end markers.
func (b *Bundle) endMarkers() elements {
	b.send.Lock()
	defer b.send.Unlock()
	els := make(elements, 0, len(b.send.open))
	mark := func(p port) {
		if b.send.open[p] {
			els = append(els, b.entry(p, nil, true))
			delete(b.send.open, p)
		}
	}
	for _, f := range b.spec.TimerFamilies {
		mark(port{transform: f.Transform, family: f.Family, timers: true})
	}
	for _, in := range b.spec.Inputs {
		mark(port{transform: in})
	}
	return els
}

func (b *Bundle) entry(p port, payload []byte, last bool) entry {
	return entry{
		instruction: string(b.spec.InstructionID), transform: p.transform, family: p.family, timers: p.timers,
		payload: payload, last: last, encoded: &b.encoded,
	}
}

// Coded is what its data messages have taken to encode and to decode so far. A message that carries data of several bundles counts for
// the first.
func (b *Bundle) Coded() (encoded, decoded time.Duration) {
	return time.Duration(b.encoded.Load()), time.Duration(b.decoded.Load())
}

// dataStream waits for the bundle's data stream.
func (b *Bundle) dataStream(ctx context.Context) (*dataStream, error) {
	b.send.Lock()
	ds := b.send.stream
	b.send.Unlock()
	if ds != nil {
		return ds, nil
	}
	ds, err := b.sess.waitStream(ctx, b.spec.DataStreamID, b.done)
	if err != nil {
		return nil, err
	}
	b.send.Lock()
	defer b.send.Unlock()
	if b.send.stream == nil {
		b.send.stream = ds
	}
	return b.send.stream, nil
}

// usesStream says whether the bundle sends on the stream.
func (b *Bundle) usesStream(ds *dataStream) bool {
	b.send.Lock()
	defer b.send.Unlock()
	return b.send.stream == ds
}

// sendError replaces errSendAborted with the reason.
func (b *Bundle) sendError(err error) error {
	if !errors.Is(err, errSendAborted) {
		return err
	}
	b.recv.Lock()
	defer b.recv.Unlock()
	switch {
	case b.recv.err != nil:
		return b.recv.err
	case b.recv.finished:
		return misuse("bundle %s is complete already", b.spec.InstructionID)
	default: // the stream has ended; the bundle fails for it in a moment
		return lost(b.sess.worker.spec.ID, "its data stream ended")
	}
}

// Wait waits until the bundle is complete: the response and the end markers of all outputs and timer families are in. The response
// carries full MonitoringInfos, and its Elements are empty: they have gone to OnData. No callback runs after Wait has returned
// without ctx's cause. Errors: the harness's own (kind Pipeline, with its traceback), a breach of the protocol, ErrWorkerLost, what
// Abandon was given, or ctx's cause; after the latter the bundle is still in flight.
func (b *Bundle) Wait(ctx context.Context) (*fnpb.ProcessBundleResponse, error) {
	select {
	case <-b.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	b.delivering.Wait()
	b.state.wait()
	b.recv.Lock()
	resp, err := b.recv.response, b.recv.err
	b.recv.Unlock()
	if err != nil {
		return nil, err
	}
	infos, err := b.sess.infos.expand(ctx, b.sess, resp.GetMonitoringInfos(), resp.GetMonitoringData())
	if err != nil {
		return nil, err
	}
	resp.MonitoringInfos = infos
	return resp, nil
}

// Abandon fails the bundle with cause, which Wait then returns: later output is dropped, state requests are answered with an error.
// The harness is told that there is no more input, so that it can end the bundle. Without effect on a bundle that is complete or has
// failed.
func (b *Bundle) Abandon(cause error) {
	if cause == nil {
		cause = fault.New(fault.Internal, codeMisuse, "bundle %s was abandoned", b.spec.InstructionID)
	}
	b.finish(cause)
	if els := b.endMarkers(); len(els) > 0 {
		b.sess.farewell(b.spec.DataStreamID, els)
	}
}
