package memory_test

import (
	"context"
	"errors"
	"math"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"padstone/internal/memory"
)

// TestPool takes, waits and gives back.
func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		p := memory.NewPool("test", 100)
		taken, err := p.Take(ctx, 60)
		if err != nil || taken != 60 || p.Try(41) || !p.Try(40) {
			t.Fatalf("took %d: %v, then %+v", taken, err, p.Stats())
		}
		p.Give(40)
		waited := make(chan int64)
		go func() {
			all, err := p.Take(ctx, 1000) // more than there is: it waits for all of it
			if err != nil {
				t.Error(err)
			}
			waited <- all
		}()
		synctest.Wait()
		if s := p.Stats(); s.Waiting != 1 || s.Waits != 1 || s.Used != 60 || s.Peak != 100 || s.Refused != 1 {
			t.Errorf("%+v", s)
		}
		p.Give(60)
		if all := <-waited; all != 100 || p.Stats().Used != 100 {
			t.Errorf("took %d: %+v", all, p.Stats())
		}
		if n, err := p.TakeWithin(ctx, 1, time.Second); n != 0 || err != nil {
			t.Errorf("an empty pool has given %d: %v", n, err)
		}
		gone, cancel := context.WithCancelCause(ctx)
		why := errors.New("why")
		cancel(why)
		for _, take := range []func() (int64, error){
			func() (int64, error) { return p.Take(gone, 1) },
			func() (int64, error) { return p.TakeWithin(gone, 1, time.Second) },
		} {
			if n, err := take(); n != 0 || !errors.Is(err, why) {
				t.Errorf("took %d: %v", n, err)
			}
		}
		p.Give(100)
		if s := p.Stats(); s.Used != 0 || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestDetect: a flag counts before GOMEMLIMIT, and that before what the machine says.
func TestDetect(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64))
	if n, from := memory.Detect(300 << 20); n != 300<<20 || from != memory.FromFlag {
		t.Errorf("%d from %s", n, from)
	}
	if n, from := memory.Detect(0); n > memory.LimitDefault || n < memory.LimitMin || from != memory.FromDefault && from != memory.FromCgroup {
		t.Errorf("%d from %s", n, from)
	}
	memory.Apply(400<<20, 100<<20)
	if n, from := memory.Detect(0); n != 300<<20 || from != memory.FromRuntime {
		t.Errorf("%d from %s", n, from)
	}
}

// TestApply: the collector's pace is the server's own, unless $GOGC says otherwise.
func TestApply(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64))
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	t.Setenv("GOGC", "100")
	memory.Apply(400<<20, 0)
	if percent := debug.SetGCPercent(100); percent != 100 {
		t.Errorf("$GOGC is overruled by %d", percent)
	}
	t.Setenv("GOGC", "")
	memory.Apply(400<<20, 0)
	if percent := debug.SetGCPercent(100); percent >= 100 {
		t.Errorf("collected at %d percent", percent)
	}
}

// TestShare: the pools leave half of the limit to what has no pool.
func TestShare(t *testing.T) {
	b := memory.Share(memory.LimitDefault)
	sum := b.StoreCache
	for _, p := range b.Pools() {
		sum += p.Max()
	}
	if sum > b.Limit/2 {
		t.Errorf("%d of %d bytes are shared out", sum, b.Limit)
	}
}

// TestCollector: every pool has its metrics.
func TestCollector(t *testing.T) {
	b := memory.Share(memory.LimitDefault)
	if !b.Outputs.Try(1000) {
		t.Fatal("an empty pool gives nothing")
	}
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(memory.NewCollector(b)); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, f := range families {
		if f.GetName() != "padstone_memory_pool_bytes" {
			continue
		}
		for _, m := range f.GetMetric() {
			found++
			if m.GetLabel()[0].GetValue() == "outputs" && m.GetGauge().GetValue() != 1000 {
				t.Errorf("%v", m)
			}
		}
	}
	if found != len(b.Pools()) {
		t.Errorf("%d of %d pools are shown", found, len(b.Pools()))
	}
}
