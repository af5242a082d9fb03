package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/element"
	"padstone/engine/enginetest"
	"padstone/engine/rows"
	"padstone/fnapi/fakesdk"
)

// ledger is a job whose user code does not give the same twice, and has effects elsewhere: each attempt to process an element gives it
// another number, and a step that requires stable input writes it down. Finalisation says that what was written down holds for ever.
type ledger struct {
	sim    *sim
	ids    []string
	sink   *enginetest.Sink
	source *enginetest.Source
	mu     struct {
		sync.Mutex
		attempts  int
		written   map[string]string // number by id
		finalized map[string]bool
		wrong     []string
	}
}

func newLedger(s *sim, rng *rand.Rand) *ledger {
	l := &ledger{sim: s}
	l.mu.written, l.mu.finalized = map[string]string{}, map[string]bool{}
	src := &enginetest.Source{Unbounded: rng.IntN(2) == 0, Ends: true, Split: "in"}
	for range 3 + rng.IntN(12) {
		var b enginetest.Batch
		for range rng.IntN(5) {
			id := fmt.Sprint("id", len(l.ids))
			l.ids = append(l.ids, id)
			b.Elements = append(b.Elements, enginetest.Element{At: element.Time(len(l.ids)), Value: enginetest.Pair(id, "")})
		}
		src.Batches = append(src.Batches, b)
	}
	l.source = src
	p := s.rig.Pipeline()
	numbered := p.Map("number", p.Read("in", src, enginetest.TextPair), "", l.number)
	if rng.IntN(2) == 0 {
		numbered = p.Reshuffle("shuffle", numbered)
	}
	written := p.ParDo("write down", numbered, enginetest.ParDo{
		Stable: true, Finalizes: true, Fn: func() fakesdk.DoFn { return fakesdk.DoFn{Process: l.write} },
	})
	l.sink = p.Write("out", written)
	s.spec.Pipeline = p.Proto
	return l
}

func (l *ledger) number(c *fakesdk.Context, e fakesdk.Element) error {
	id, _ := enginetest.PairOf(e)
	l.mu.Lock()
	l.mu.attempts++
	n := fmt.Sprint("n", l.mu.attempts)
	l.mu.Unlock()
	c.Count("seen", 1)
	return enginetest.EmitPair(c, e, id, n)
}

func (l *ledger) write(c *fakesdk.Context, e fakesdk.Element) error {
	id, n := enginetest.PairOf(e)
	c.Count("seen", 1)
	l.mu.Lock()
	if life := l.sim.life; !life.dead.Load() {
		if had, ok := l.mu.written[id]; ok && had != n {
			l.mu.wrong = append(l.mu.wrong, fmt.Sprintf("%s was %s before it was %s, for a step that requires stable input", id, had, n))
		}
		if l.mu.finalized[id] {
			l.mu.wrong = append(l.mu.wrong, fmt.Sprintf("%s is processed again after the finalisation of its bundle", id))
		}
		l.mu.written[id] = n
	}
	l.mu.Unlock()
	c.OnFinalize(func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.sim.life.dead.Load() {
			l.mu.finalized[id] = true
		}
		return nil
	})
	return c.Emit("", e)
}

func (l *ledger) String() string { return fmt.Sprintf("ledger of %d", len(l.ids)) }

// lost forgets what was written down, and the promises that go with it: a checkpoint does not know of them.
func (l *ledger) lost() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.mu.written)
	clear(l.mu.finalized)
}

// read are the ids of the batches that were read.
func (l *ledger) read(batches int) []string {
	n := 0
	for _, b := range l.source.Batches[:batches] {
		n += len(b.Elements)
	}
	return l.ids[:n]
}

func (l *ledger) check(r *result) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	wrong := slices.Clone(l.mu.wrong)
	ids := l.ids
	if r.state == jobpb.JobState_DRAINED {
		ids = l.read(r.read["in"])
	}
	var want, got []string
	for _, id := range ids {
		if !r.lost {
			id += "=" + l.mu.written[id]
		}
		want = append(want, id)
	}
	for _, text := range l.sink.Texts() {
		if r.lost {
			text, _, _ = strings.Cut(text, "=")
		}
		got = append(got, text)
	}
	slices.Sort(got)
	slices.Sort(want)
	if text := r.compare(want, got); text != "" {
		wrong = append(wrong, text)
	}
	if r.state == jobpb.JobState_CANCELLED {
		return wrong
	}
	for _, step := range []string{"number", "write down"} {
		if n := r.counter(step, "seen"); n != int64(len(ids)) {
			wrong = append(wrong, fmt.Sprintf("%q has counted %d elements, not %d", step, n, len(ids)))
		}
	}
	return wrong
}

func (l *ledger) emptied() map[string]rows.Table { return tables() }
