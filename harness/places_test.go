package harness

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"padstone/fnapi"
	"padstone/internal/fault"
)

// watched is a pool whose changes wake who waits.
type watched struct {
	t       *testing.T
	pool    *Pool
	changed chan struct{}
}

// startWatched starts a pool.
func startWatched(t *testing.T, m *Manager, spec Spec) *watched {
	t.Helper()
	w := &watched{t: t, changed: make(chan struct{}, 1)}
	spec.OnChange = func() {
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
	w.pool = start(t, m, spec)
	return w
}

// await waits until the pool is as it should be.
func (w *watched) await(what string, is func(z Size) bool) {
	w.t.Helper()
	ctx := testContext(w.t)
	for !is(w.pool.Size()) {
		select {
		case <-w.changed:
		case <-ctx.Done():
			w.t.Fatalf("not %s: %+v", what, w.pool.Size())
		}
	}
}

// TestResize: harnesses come into service once they are connected. Those that are too many go on with what holds them, and then end in order.
func TestResize(t *testing.T) {
	m := newManager(t, nil)
	said := make(chan string, 100)
	w := startWatched(t, m, Spec{Environment: processEnv(t, self(t), "plain"), Log: func(e fnapi.LogEntry) { said <- e.Message }})
	w.pool.Resize(3)
	if w.pool.Resize(3); w.pool.Size().Coming > 2 {
		t.Errorf("%+v", w.pool.Size())
	}
	w.await("three", func(z Size) bool { return z.Connected == 3 && z.Coming == 0 })
	third, release := w.pool.Acquire(2)
	if other, done := w.pool.Acquire(5); other != third {
		t.Error("place 5 of 3 is not place 2")
	} else {
		done()
	}
	w.pool.Resize(1)
	w.await("one, and one that retires", func(z Size) bool { return z.InService == 1 && z.Retiring == 1 })
	if len(w.pool.Workers()) != 1 || w.pool.Workers()[0] == third {
		t.Error("what retires is in service")
	}
	if other, done := w.pool.Acquire(2); other == third {
		t.Error("what retires is given to others")
	} else {
		done()
	}
	echo(t, m, third, "held")
	release()
	release() // once more is none
	w.await("one", func(z Size) bool { return z.InService == 1 && z.Retiring == 0 })
	for goodbyes := 0; goodbyes < 2; {
		select {
		case text := <-said:
			if strings.Contains(text, "says goodbye") {
				goodbyes++
			}
		case <-testContext(t).Done():
			t.Fatalf("%d harnesses have ended by themselves", goodbyes)
		}
	}
	echo(t, m, w.pool.Workers()[0], "stays")
	w.pool.Resize(2)
	w.await("two", func(z Size) bool { return z.Connected == 2 })
}

// TestResizeIsOvertaken: harnesses that are not wanted any more when they come retire, and a pool that is closed waits for them.
func TestResizeIsOvertaken(t *testing.T) {
	m := newManager(t, nil)
	w := startWatched(t, m, Spec{Environment: processEnv(t, self(t), "plain")})
	w.pool.Resize(4)
	w.pool.Resize(1)
	w.await("one", func(z Size) bool { return z.Coming == 0 && z.InService == 1 && z.Retiring == 0 })
	w.pool.Resize(4)
	w.pool.Close(context.Background())
	if w.pool.Resize(6); w.pool.Size().Coming != 0 {
		t.Errorf("%+v", w.pool.Size())
	}
}

// TestResizeLost: what is lost while it retires does not come back, and what is lost in service keeps its place.
func TestResizeLost(t *testing.T) {
	m := newManager(t, nil)
	w := startWatched(t, m, Spec{Environment: processEnv(t, self(t), "plain"), Processes: 2})
	second, release := w.pool.Acquire(1)
	w.pool.Resize(1)
	second.Disconnect("the test breaks it")
	w.await("gone", func(z Size) bool { return z.Retiring == 0 && z.InService == 1 })
	release()
	w.pool.Resize(2)
	w.await("two", func(z Size) bool { return z.Connected == 2 })
	first, release := w.pool.Acquire(0)
	release()
	generation := first.Generation()
	first.Disconnect("the test breaks it")
	w.await("back", func(z Size) bool { return z.Connected == 2 && first.Generation() > generation })
	again, release := w.pool.Acquire(0)
	defer release()
	if again != first {
		t.Error("it has lost its place")
	}
}

// TestResizeFails: a harness that cannot be started does no harm to the others, and the pool says why, once.
func TestResizeFails(t *testing.T) {
	m := newManager(t, nil)
	pool := &workerPool{}
	env, _ := pool.serve(t)
	w := startWatched(t, m, Spec{Environment: env, ProcessPool: true})
	pool.refusing("no room")
	w.pool.Resize(3)
	w.await("given up", func(z Size) bool { return z.Coming == 0 && z.Wanted == 1 })
	if f := fault.Of(w.pool.Failure()); f == nil || f.Code != codePool || !strings.Contains(f.Error(), "no room") || w.pool.Failure() != nil {
		t.Errorf("%v", f)
	}
	echo(t, m, w.pool.Workers()[0], "d")
	if err := w.pool.Err(); err != nil {
		t.Errorf("the pool has failed: %v", err)
	}
	pool.refusing("")
	w.pool.Resize(3)
	w.await("three", func(z Size) bool { return z.Connected == 3 })
}

// TestResizeShared: a pool that has all its workers in one process has one.
func TestResizeShared(t *testing.T) {
	m := newManager(t, nil)
	env, _ := (&workerPool{}).serve(t)
	p := start(t, m, Spec{Environment: env})
	p.Resize(3)
	if z := p.Size(); z.Max != 1 || z.Wanted != 1 || z.Coming != 0 {
		t.Errorf("%+v", z)
	}
}

// TestRecycle: another harness takes the place of one that has too much memory, which ends when nobody holds it. One that has too much again
// at once is left alone.
func TestRecycle(t *testing.T) {
	m := newManager(t, func(c *Config) { c.MeasureEvery = 5 * time.Millisecond })
	var mu sync.Mutex
	var told []string
	w := startWatched(t, m, Spec{Environment: processEnv(t, self(t), "hungry"), Log: func(e fnapi.LogEntry) {
		mu.Lock()
		defer mu.Unlock()
		if e.Severity == fnapi.SeverityWarn {
			told = append(told, e.Message)
		}
	}})
	usage := w.pool.Usage()
	if len(usage) == 0 {
		t.Skip("this system does not say what processes use")
	}
	if usage[0].Memory < 256<<20 || usage[0].CPU <= 0 {
		t.Errorf("%+v", usage)
	}
	old, release := w.pool.Acquire(0)
	w.pool.SetMemoryMax(128 << 20)
	w.await("replaced", func(z Size) bool { return z.Recycled == 1 && z.Connected == 1 && z.Retiring == 1 })
	now := w.pool.Workers()[0]
	if now == old {
		t.Error("it has its place still")
	}
	echo(t, m, old, "old")
	release()
	w.await("gone", func(z Size) bool { return z.Retiring == 0 })
	echo(t, m, now, "new")
	w.pool.Close(context.Background()) // what watches the memory has ended, too
	if z := w.pool.Size(); z.Recycled != 1 {
		t.Errorf("%+v", z)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(told) != 2 || !strings.Contains(told[0], "more than the limit of 128 MiB") || !strings.Contains(told[1], "the limit is too low") {
		t.Errorf("%q", told)
	}
}

// TestMemoryUnseen: who bounds memory that cannot be seen is told so, once.
func TestMemoryUnseen(t *testing.T) {
	m := newManager(t, func(c *Config) { c.MeasureEvery = time.Millisecond })
	env, _ := (&workerPool{}).serve(t)
	told := make(chan string, 10)
	p := start(t, m, Spec{Environment: env, MemoryMax: 1, Log: func(e fnapi.LogEntry) { told <- e.Message }})
	select {
	case text := <-told:
		if !strings.Contains(text, "harness_memory_limit has no effect") {
			t.Error(text)
		}
	case <-testContext(t).Done():
		t.Fatal("nobody says so")
	}
	p.Close(context.Background())
	if len(told) != 0 {
		t.Error(<-told)
	}
}
