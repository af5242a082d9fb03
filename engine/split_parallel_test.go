package engine_test

import (
	"fmt"
	"sync"
	"testing"

	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// separation holds up each of the offsets that it is told of until all of them are held up: until as many bundles run at once.
type separation struct {
	mu   sync.Mutex
	far  map[int64]bool // yet to come
	open chan struct{}
}

func newSeparation(t *testing.T, offsets ...int64) *separation {
	s := &separation{far: map[int64]bool{}, open: make(chan struct{})}
	for _, n := range offsets {
		s.far[n] = true
	}
	t.Cleanup(func() { s.arrive(offsets...) })
	return s
}

// arrive takes them off and says whether any of them was one to wait for.
func (s *separation) arrive(offsets ...int64) (wait bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range offsets {
		if !s.far[n] {
			continue
		}
		wait = true
		if delete(s.far, n); len(s.far) == 0 {
			close(s.open)
		}
	}
	return wait
}

func (s *separation) claim(n int64) {
	if s.arrive(n) {
		<-s.open
	}
}

// TestParallelProcess has one process, which processes bundles in parallel. What is held up ends only when the other elements or offsets that
// are held up run at the same time; the first of them tells of no progress, and adjacent ones leave a part no more to give than one.
func TestParallelProcess(t *testing.T) {
	for name, held := range map[string][]int64{"from the first on": {0, 3, 9}, "adjacent": {4, 5, 6}, "the last": {7, 8, 9}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, eager)
			r.Harnesses.OnClaim = newSeparation(t, held...).claim
			p := r.Pipeline()
			p.Parallel = true
			out := p.Write("out", p.ParDo("hot", p.Read("in", bounded(texts("a")), "bytes"), enginetest.ParDo{
				Splittable: true, Fn: ranges(fakesdk.Ranges{To: 10}),
			}))
			j := r.Run(p, nil)
			want(t, out, offsets("a", 0, 10)...)
			wantSplit(t, j, "hot")
		})
		t.Run(name+", elements", func(t *testing.T) {
			r := newRig(t, eager)
			sep := newSeparation(t, held...)
			p := r.Pipeline()
			p.Parallel = true
			out := p.Write("out", p.Map("slow", p.Read("in", bounded(numberTexts(10)), "bytes"), "bytes", func(c *fakesdk.Context, e fakesdk.Element) error {
				var n int64
				fmt.Sscan(string(fakesdk.Bytes(e.Value)), &n)
				sep.claim(n)
				return c.Emit("", e)
			}))
			j := r.Run(p, nil)
			want(t, out, countTo(10)...)
			wantSplit(t, j, "slow")
		})
	}
}
