package fnapi

import (
	"errors"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
)

// receive takes an entry that the harness sent for the bundle.
//
// Data and the response come on different streams in any order. A callback runs outside the lock, so that it may abandon the bundle;
// delivering, which is raised under the lock and only while the bundle lives, is what makes Wait wait for it. The end marker counts
// after the callback, else the bundle could be complete before its last data has been taken.
func (b *Bundle) receive(e *entry) {
	p := e.port()
	b.recv.Lock()
	if b.recv.finished {
		b.recv.Unlock()
		return
	}
	open, known := b.recv.open[p]
	if !known || !open {
		b.recv.Unlock()
		if !known {
			b.finish(protocol("bundle %s: the harness sent %s, which is not an output", b.spec.InstructionID, p))
		} else {
			b.finish(protocol("bundle %s: the harness sent %s after its end marker", b.spec.InstructionID, p))
		}
		return
	}
	if e.last {
		b.recv.open[p] = false
	}
	b.delivering.Add(1)
	b.recv.Unlock()
	b.decoded.Add(int64(e.decoded))
	b.emit(e)
	b.delivering.Done()
	if e.last {
		b.recv.Lock()
		b.recv.left--
		b.recv.Unlock()
		b.completeIfAll()
	}
}

// emit runs the bundle's callback for an entry.
func (b *Bundle) emit(e *entry) {
	switch {
	case len(e.payload) == 0:
		e.lent.Release()
	case e.timers && b.spec.OnTimers != nil:
		b.spec.OnTimers(e.transform, e.family, e.payload)
	case !e.timers && b.spec.OnData != nil:
		b.spec.OnData(e.transform, e.payload, e.lent)
	}
}

// respond takes the answer to the ProcessBundle request. Data that the harness embedded in it counts as if it had come on the data
// stream just before. Spec: beam_runner_api.proto StandardRunnerProtocols.CONTROL_RESPONSE_ELEMENTS_EMBEDDING.
func (b *Bundle) respond(resp *fnpb.InstructionResponse) {
	if text := resp.GetError(); text != "" {
		if tellsOfStream(text) {
			b.failWithStream(text)
		} else {
			b.finish(bundleFailed(text))
		}
		return
	}
	pb := resp.GetProcessBundle()
	if pb == nil {
		b.finish(protocol("bundle %s: the harness answered with %T", b.spec.InstructionID, resp.GetResponse()))
		return
	}
	for _, e := range entriesOf(pb.GetElements()) {
		if e.instruction != string(b.spec.InstructionID) {
			b.finish(protocol("bundle %s: the response carries data of instruction %q", b.spec.InstructionID, e.instruction))
			return
		}
		b.receive(&e)
	}
	pb.Elements = nil
	b.send.Lock()
	unread := len(b.send.open) > 0
	b.send.Unlock()
	b.recv.Lock()
	switch {
	case b.recv.response != nil:
		b.recv.Unlock()
		b.finish(protocol("bundle %s: the harness answered twice", b.spec.InstructionID))
		return
	case unread && !b.recv.split:
		b.recv.Unlock()
		b.finish(protocol("bundle %s: the harness answered before the end of its input", b.spec.InstructionID))
		return
	}
	b.recv.response = pb
	b.recv.Unlock()
	b.completeIfAll()
}

// failWithStream fails the bundle with what its harness says of a broken stream: unless the bundle's data stream, or another one that
// takes the generation along, is found to be broken in a moment, it was a stream of user code's own. Streams race.
func (b *Bundle) failWithStream(text string) {
	const foundWithin = 500 * time.Millisecond
	b.recv.Lock()
	if b.recv.finished {
		b.recv.Unlock()
		return
	}
	b.delivering.Add(1)
	b.recv.Unlock()
	b.send.Lock()
	var ended <-chan struct{}
	if b.send.stream != nil {
		ended = b.send.stream.done
	}
	b.send.Unlock()
	go func() {
		defer b.delivering.Done()
		t := time.NewTimer(foundWithin)
		defer t.Stop()
		select {
		case <-ended:
			b.finish(lost(b.sess.worker.spec.ID, "its data stream ended, and the harness says: "+text))
		case <-b.sess.done:
			b.finish(lost(b.sess.worker.spec.ID, "a stream of it ended, and the harness says: "+text))
		case <-b.done: // what has ended tells its bundles
		case <-t.C:
			b.finish(bundleFailed(text))
		}
	}()
}

// errComplete is finish's way to say success.
var errComplete = errors.New("complete")

// completeIfAll finishes the bundle if nothing is missing.
func (b *Bundle) completeIfAll() {
	b.recv.Lock()
	all := b.recv.response != nil && b.recv.left == 0
	b.recv.Unlock()
	if all {
		b.finish(errComplete)
	}
}

// finish ends the bundle, with success for errComplete. The first call counts.
func (b *Bundle) finish(err error) {
	b.recv.Lock()
	if b.recv.finished {
		b.recv.Unlock()
		return
	}
	b.recv.finished = true
	if !errors.Is(err, errComplete) {
		b.recv.err = err
	}
	b.recv.Unlock()
	b.sess.remove(b)
	b.state.close()
	close(b.done)
}
