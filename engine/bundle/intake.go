package bundle

import (
	"sync"

	"padstone/internal/fault"
)

// intakeBytesMax bounds the messages of a bundle that wait to be routed; the harness's stream waits when it is reached.
const intakeBytesMax = 32 << 20

// intake routes what a harness emits while it goes on emitting, so that output of any size passes through without being whole in
// memory. put may be called from several goroutines; one goroutine routes, begun by start and ended by end.
type intake struct {
	stage  *Stage
	router *router // of the goroutine, until end has returned
	done   chan struct{}
	mu     struct {
		sync.Mutex
		changed *sync.Cond
		queue   []message
		bytes   int  // in the queue, and being routed
		closed  bool // no more messages
		err     error
	}
}

func newIntake(st *Stage, r *router) *intake {
	in := &intake{stage: st, router: r, done: make(chan struct{})}
	in.mu.changed = sync.NewCond(&in.mu)
	return in
}

func (in *intake) start() { go in.run() }

// put takes a message, or drops it when the bundle is at its end or has failed.
func (in *intake) put(m message) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.mu.bytes > intakeBytesMax && !in.mu.closed && in.mu.err == nil {
		in.mu.changed.Wait()
	}
	if in.mu.closed || in.mu.err != nil {
		return
	}
	in.mu.queue = append(in.mu.queue, m)
	in.mu.bytes += len(m.data)
	in.mu.changed.Broadcast()
}

// end waits until everything that was put is routed, and returns why not.
func (in *intake) end() error {
	in.mu.Lock()
	in.mu.closed = true
	in.mu.changed.Broadcast()
	in.mu.Unlock()
	<-in.done
	return in.mu.err
}

func (in *intake) run() {
	defer close(in.done)
	for {
		queue, ok := in.take()
		if !ok {
			return
		}
		for _, m := range queue {
			in.routed(len(m.data), in.route(m))
		}
	}
}

// take waits for messages; ok is false after the last, and after a failure.
func (in *intake) take() (queue []message, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.mu.queue) == 0 && !in.mu.closed && in.mu.err == nil {
		in.mu.changed.Wait()
	}
	queue, in.mu.queue = in.mu.queue, nil
	return queue, len(queue) > 0 && in.mu.err == nil
}

// routed makes room for more.
func (in *intake) routed(size int, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.mu.bytes -= size
	if in.mu.err == nil {
		in.mu.err = err
	}
	in.mu.changed.Broadcast()
}

func (in *intake) route(m message) error {
	o := in.stage.byWrite[m.transform]
	if o == nil {
		return fault.New(fault.Environment, "harness-protocol", "the harness sent data for %q, which is no output of %q",
			m.transform, in.stage.Def.Name)
	}
	return in.router.write(o, m.data)
}
