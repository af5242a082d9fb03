package sim

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// turns is where whatever may happen next waits for its turn. Safe for concurrent use.
type turns struct {
	arrived chan struct{} // 1-buffered: there is something new to look at

	mu struct {
		sync.Mutex
		waiting []*turn
		free    bool // nobody waits any more
	}
}

type turn struct {
	name    string
	about   func() string // more of it, for people; may be nil
	granted chan struct{}
}

func (t *turn) String() string {
	if t.about == nil {
		return t.name
	}
	return t.name + " " + t.about()
}

func newTurns() *turns { return &turns{arrived: make(chan struct{}, 1)} }

// wait waits for the turn of the name, or the end of ctx.
func (t *turns) wait(ctx context.Context, name string) error {
	return t.await(ctx, &turn{name: name, granted: make(chan struct{})})
}

func (t *turns) await(ctx context.Context, me *turn) error {
	t.mu.Lock()
	if t.mu.free {
		t.mu.Unlock()
		return context.Cause(ctx)
	}
	t.mu.waiting = append(t.mu.waiting, me)
	t.mu.Unlock()
	t.news()
	select {
	case <-me.granted:
		return nil
	case <-ctx.Done():
		t.mu.Lock()
		t.mu.waiting = slices.DeleteFunc(t.mu.waiting, func(o *turn) bool { return o == me })
		t.mu.Unlock()
		return context.Cause(ctx)
	}
}

// news wakes the scheduler.
func (t *turns) news() {
	select {
	case t.arrived <- struct{}{}:
	default:
	}
}

// list is what waits, by name; what has the same name in the order in which it came.
func (t *turns) list() []*turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := slices.Clone(t.mu.waiting)
	slices.SortStableFunc(all, func(a, b *turn) int { return strings.Compare(a.name, b.name) })
	return all
}

// grant lets one go on.
func (t *turns) grant(one *turn) {
	t.mu.Lock()
	t.mu.waiting = slices.DeleteFunc(t.mu.waiting, func(o *turn) bool { return o == one })
	t.mu.Unlock()
	close(one.granted)
}

// release lets all go on, now and from now on.
func (t *turns) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.free = true
	for _, w := range t.mu.waiting {
		close(w.granted)
	}
	t.mu.waiting = nil
}
