package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"padstone/connector"
	"padstone/internal/fault"
)

// outside is what the job's sources read and its sinks write: it outlives every crash. A sink's topic is like Kafka's with
// transactions: what is published and the mark come together or not at all, and who has been replaced cannot write any more.
type outside struct {
	sim *sim
	mu  struct {
		sync.Mutex
		topics map[string]*topic
		// faults count down.
		polls, sent, publications, opens       int
		sourceDown, sinkDown, unknown, notOpen int
		wrong                                  []string
	}
}

// topic is what one sink has written.
type topic struct {
	name    string
	epoch   int
	mark    uint64
	seqs    []uint64 // of the blocks, in order
	zombies []*request
}

// request is a publication on its way.
type request struct {
	w      *simWriter
	blocks []connector.OutboxBlock
}

func newOutside(s *sim) *outside {
	o := &outside{sim: s}
	o.mu.topics = map[string]*topic{}
	return o
}

func (o *outside) wrongLocked(format string, args ...any) {
	o.mu.wrong = append(o.mu.wrong, fmt.Sprintf(format, args...))
}

// down says whether this call fails: the faults of a kind that are due make the next ones fail.
func (o *outside) down(k Kind, left *int, count int) bool {
	for _, f := range o.sim.due(k, count) {
		*left += f.N
	}
	if *left == 0 {
		return false
	}
	*left--
	o.sim.hit(k)
	return true
}

func errDown() error {
	return fault.New(fault.Environment, "source-read", "the outside is not available")
}

// natives is the outside as one life of the server sees it. It implements connector.Registry.
type natives struct {
	life  *life
	inner connector.Registry
}

func (n natives) Source(urn connector.URN) (connector.Source, bool) {
	s, ok := n.inner.Source(urn)
	return simSource{s, n.life}, ok
}

func (n natives) Sink(urn connector.URN) (connector.Sink, bool) {
	s, ok := n.inner.Sink(urn)
	return simSink{s, n.life}, ok
}

func nameOf(config []byte) string {
	var c struct{ Name string }
	_ = json.Unmarshal(config, &c) // enginetest's own writing
	return c.Name
}

type simSource struct {
	connector.Source
	life *life
}

func (s simSource) Open(ctx context.Context, config []byte, state []connector.Position) (connector.Reader, error) {
	name := nameOf(config)
	if err := s.life.turn(ctx, "source "+name+" open"); err != nil {
		return nil, err
	}
	if s.life.sim.Sabotage == RewoundSource {
		state = nil
	}
	r, err := s.Source.Open(ctx, config, state)
	if err != nil {
		s.life.sim.wrong("source %s: %v", name, err)
		return nil, err
	}
	return &simReader{r, s.life, name}, nil
}

type simReader struct {
	connector.Reader
	life *life
	name string
}

func (r *simReader) Poll(ctx context.Context, elements, bytes int, wait time.Duration) (connector.Batch, error) {
	if err := r.life.turn(ctx, "source "+r.name+" poll"); err != nil {
		return connector.Batch{}, err
	}
	o := r.life.sim.outside
	o.mu.Lock()
	o.mu.polls++
	down := o.down(SourceDown, &o.mu.sourceDown, o.mu.polls)
	o.mu.Unlock()
	if down {
		return connector.Batch{}, errDown()
	}
	b, err := r.Reader.Poll(ctx, elements, bytes, wait)
	if b.Done {
		r.life.sim.atEnd.Store(true)
	}
	return b, err
}

// Durable is an effect outside: what it is told must not be taken back. The source refuses to be opened before it.
func (r *simReader) Durable(positions []connector.Position) {
	if !r.life.dead.Load() {
		r.Reader.Durable(positions)
		r.life.sim.note("source %s durable %s", r.name, positions[len(positions)-1].State)
	}
}

type simSink struct {
	connector.Sink
	life *life
}

func (s simSink) Open(ctx context.Context, config []byte, as connector.Identity) (connector.Writer, uint64, error) {
	name := nameOf(config)
	if err := s.life.turn(ctx, "sink "+name+" open"); err != nil {
		return nil, 0, err
	}
	w, _, err := s.Sink.Open(ctx, config, as)
	if err != nil {
		return nil, 0, err
	}
	sm := s.life.sim
	o := sm.outside
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.mu.topics[name]
	if t == nil {
		t = &topic{name: name}
		o.mu.topics[name] = t
	}
	if t.mark > 0 { // that of a new job is the user's mistake
		o.mu.opens++
		if o.down(OpenDown, &o.mu.notOpen, o.mu.opens) {
			return nil, 0, errDown()
		}
	}
	t.epoch++
	if t.mark < as.Published {
		o.wrongLocked("sink %s is at %d, but the job has forgotten all up to %d", name, t.mark, as.Published)
	}
	mark := t.mark
	if sm.Sabotage == ForgottenMark {
		mark = 0
	}
	me := &simWriter{Writer: w, life: s.life, topic: t, epoch: t.epoch}
	sm.note("sink %s opened by life %d, epoch %d, mark %d", name, s.life.n, t.epoch, mark)
	for _, z := range t.zombies { // what a former life had sent comes too late
		if err := o.applyLocked(z.w, z.blocks); err == nil && sm.Sabotage != OpenFence {
			o.wrongLocked("sink %s took what was sent by a writer that has been replaced", name)
		}
		sm.hit("zombie fenced")
	}
	t.zombies = nil
	return me, mark, nil
}

// Marks implements connector.Marker.
func (s simSink) Marks([]byte) bool { return true }

// Mark implements connector.Marker.
func (s simSink) Mark(ctx context.Context, config []byte, _ connector.Identity) (connector.Mark, error) {
	name := nameOf(config)
	if err := s.life.turn(ctx, "sink "+name+" mark"); err != nil {
		return connector.Mark{}, err
	}
	o := s.life.sim.outside
	o.mu.Lock()
	defer o.mu.Unlock()
	m := connector.Mark{Kept: true, Target: name}
	if t := o.mu.topics[name]; t != nil {
		m.Seq = t.mark
	}
	return m, nil
}

type simWriter struct {
	connector.Writer
	life  *life
	topic *topic
	epoch int
	mark  uint64 // how far it has come itself: what came before it is left out by the engine
	// unsure: the outcome of the last publication is not known.
	unsure bool
}

var errFenced = errors.New("another writer has taken this one's place")

// Publish implements connector.Writer.
func (w *simWriter) Publish(ctx context.Context, blocks []connector.OutboxBlock) error {
	r := &request{w, blocks}
	w.life.sent(r)
	o := w.life.sim.outside
	o.mu.Lock()
	o.mu.sent++
	n := o.mu.sent
	o.mu.Unlock()
	if !w.life.dead.Load() {
		for _, f := range w.life.sim.due(CrashSend, n) {
			w.life.die(CrashSend, f.N, "publication sent")
		}
	}
	err := w.life.turn(ctx, "sink "+w.topic.name+" publish")
	if w.life.dead.Load() {
		return err // what becomes of it, bury decides
	}
	w.life.answered(r)
	if err != nil {
		return err
	}
	unknown, err := o.publish(w, blocks)
	if err != nil {
		return err
	}
	if err := w.life.turn(ctx, "sink "+w.topic.name+" answer"); err != nil {
		return err
	}
	if unknown {
		return errDown()
	}
	return nil
}

func (o *outside) publish(w *simWriter, blocks []connector.OutboxBlock) (unknown bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.publications++
	if o.down(SinkDown, &o.mu.sinkDown, o.mu.publications) {
		return false, errDown()
	}
	unknown = o.down(SinkUnknown, &o.mu.unknown, o.mu.publications)
	had := w.mark
	err = o.applyLocked(w, blocks)
	if w.unsure = unknown; unknown {
		w.mark = had // nobody has told it
	}
	return unknown, err
}

// applyLocked is the transaction.
func (o *outside) applyLocked(w *simWriter, blocks []connector.OutboxBlock) error {
	t := w.topic
	if w.epoch != t.epoch && o.sim.Sabotage != OpenFence {
		return errFenced
	}
	if w.unsure && o.sim.Sabotage != BlindRetry {
		w.mark = t.mark
	}
	for _, b := range blocks {
		if b.Seq <= w.mark {
			continue
		}
		if err := w.Writer.Publish(context.Background(), []connector.OutboxBlock{b}); err != nil {
			o.wrongLocked("sink %s: %v", t.name, err)
			return err
		}
		t.seqs = append(t.seqs, b.Seq)
		w.mark, t.mark = b.Seq, max(t.mark, b.Seq)
		o.sim.note("sink %s takes block %d of %d elements", t.name, b.Seq, b.Block.Count)
	}
	return nil
}

// lose decides what becomes of requests that were on their way when their sender died: they have arrived, or come when another writer
// has taken its place, or never.
func (o *outside) lose(requests []*request, choose func(n int) int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	slices.SortFunc(requests, func(a, b *request) int { return strings.Compare(a.w.topic.name, b.w.topic.name) })
	for _, r := range requests {
		switch choose(3) {
		case 0:
			if o.applyLocked(r.w, r.blocks) == nil {
				o.sim.hit("published, and died")
			}
		case 1:
			r.w.topic.zombies = append(r.w.topic.zombies, r)
		}
	}
}

// checkLog checks that every sink has taken every block once, in the order of the outbox.
func (o *outside) checkLog() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	wrong := slices.Clone(o.mu.wrong)
	for _, t := range o.mu.topics {
		for i, seq := range t.seqs {
			if i > 0 && seq <= t.seqs[i-1] {
				wrong = append(wrong, fmt.Sprintf("sink %s took block %d after block %d", t.name, seq, t.seqs[i-1]))
			}
		}
	}
	return wrong
}

// shown is the highest sequence that is outside.
func (o *outside) shown() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	var most uint64
	for _, t := range o.mu.topics {
		most = max(most, t.mark)
	}
	return most
}

var _ connector.Registry = natives{}
