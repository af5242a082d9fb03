package bundle

import (
	"context"
	"errors"
	"sync"

	"padstone/engine/coder"
	"padstone/engine/plan"
	"padstone/internal/fault"
	"padstone/internal/memory"
)

// intake routes what a harness emits while it goes on emitting, so that output of any size passes through without being whole in
// memory. The messages that wait are of one pool for all bundles of all jobs; where it is empty the harness's stream waits. Who routes
// waits for nobody but the disk, so that the pool fills again. put may be called from several goroutines; one goroutine routes, begun by
// start and ended by end.
type intake struct {
	stage   *Stage
	outlets outlets // of the bundle
	router  *router // of the goroutine, until end has returned
	// begun holds, of the goroutine as well, the beginning of an element whose rest the next message of the output brings.
	begun map[*output][]byte
	pool  *memory.Pool
	aside *aside          // of the bundle
	open  context.Context // ends with the intake: nobody waits for room any more
	close context.CancelFunc
	done  chan struct{}
	mu    struct {
		sync.Mutex
		changed *sync.Cond
		queue   []message
		closed  bool // no more messages
		err     error
	}
}

func newIntake(st *Stage, r *router, pool *memory.Pool) *intake {
	in := &intake{stage: st, outlets: st.outlets, router: r, begun: make(map[*output][]byte), pool: pool, done: make(chan struct{})}
	in.open, in.close = context.WithCancel(context.Background())
	in.mu.changed = sync.NewCond(&in.mu)
	return in
}

func (in *intake) start() { go in.run() }

// put takes a message, or drops it when the bundle is at its end or has failed.
func (in *intake) put(m message) {
	from := in.aside.now()
	var err error
	m.held, err = in.pool.Take(in.open, len(m.data))
	if in.aside.add(toRoom, from); err != nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.mu.closed || in.mu.err != nil {
		in.pool.Give(m.held)
		return
	}
	in.mu.queue = append(in.mu.queue, m)
	in.mu.changed.Broadcast()
}

// end waits until everything that was put is routed, and returns why not.
func (in *intake) end() error {
	in.mu.Lock()
	in.mu.closed = true
	in.mu.changed.Broadcast()
	in.mu.Unlock()
	in.close()
	<-in.done
	return in.mu.err
}

func (in *intake) run() {
	defer close(in.done)
	for {
		queue, ok := in.take()
		if !ok {
			in.routed(0, in.whole())
			return
		}
		for i, m := range queue {
			queue[i] = message{} // its data is the router's, which keeps or drops it
			from := in.aside.now()
			err := in.route(m)
			in.aside.add(toRoute, from)
			in.routed(m.held, err)
		}
	}
}

// take waits for messages; ok is false after the last, and after a failure, which gives back what nobody will route.
func (in *intake) take() (queue []message, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.mu.queue) == 0 && !in.mu.closed && in.mu.err == nil {
		in.mu.changed.Wait()
	}
	queue, in.mu.queue = in.mu.queue, nil
	if in.mu.err != nil {
		for _, m := range queue {
			in.pool.Give(m.held)
		}
		return nil, false
	}
	return queue, len(queue) > 0
}

// routed makes room for more.
func (in *intake) routed(held int64, err error) {
	in.pool.Give(held)
	if err == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.mu.err == nil {
		in.mu.err = err
	}
	in.close()
}

func (in *intake) route(m message) error {
	o := in.outlets.byWrite[m.transform]
	if o == nil {
		return fault.New(fault.Environment, "harness-protocol", "the harness sent data for %q, which is no output of %q",
			m.transform, in.stage.Def.Name)
	}
	data, lent := m.data, m.lent
	if begun := in.begun[o]; len(begun) > 0 {
		data = append(begun, data...)
		delete(in.begun, o)
		lent.Release()
		lent = nil
	}
	in.router.kept = false
	err := in.write(o, data)
	if err == nil && !in.router.kept {
		lent.Release()
	}
	return err
}

// write routes data of an output, all of which but for the beginning of an element at its end is there.
func (in *intake) write(o *output, data []byte) error {
	// A side input takes elements one by one, so that it must not be given half of one.
	if len(o.edges) > 0 && o.edges[0].def.Kind == plan.Side {
		return in.routeWhole(o, data)
	}
	err := in.router.write(o, data)
	if errors.Is(err, coder.ErrMalformed) { // nothing was taken: the first consumer frames all of it before it takes any
		return in.routeWhole(o, data)
	}
	return err
}

// begunBytesMax bounds the part of an element that waits for its rest. What SDKs send of larger elements is whole.
const begunBytesMax = 64 << 20

// routeWhole routes the whole elements in data and keeps what is begun: a message is a part of a stream of bytes, and the Python SDK,
// when it also sends by time, may cut an element in two. Spec: beam_fn_api.proto Elements.Data.
func (in *intake) routeWhole(o *output, data []byte) error {
	var el coder.Elem
	var malformed error
	end := 0
	for end < len(data) && malformed == nil {
		var rest []byte
		if rest, malformed = o.edges[0].incoming().Next(data[end:], &el); malformed == nil {
			end = len(data) - len(rest)
		}
	}
	if len(data)-end > begunBytesMax {
		return in.malformed(o, malformed)
	}
	if end < len(data) {
		in.begun[o] = append([]byte(nil), data[end:]...)
	}
	return in.router.write(o, data[:end:end])
}

// whole says whether every element that was begun has been completed.
func (in *intake) whole() error {
	for _, o := range in.outlets.outputs {
		if data := in.begun[o]; len(data) > 0 {
			var el coder.Elem
			_, err := o.edges[0].incoming().Next(data, &el)
			return in.malformed(o, err)
		}
	}
	return nil
}

func (in *intake) malformed(o *output, err error) error {
	return fault.New(fault.Internal, "bad-element-encoding", "output %q does not follow its coder: %w", o.edges[0].def.Name, err)
}
