package memory

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// Pool is a part of the limit. Safe for concurrent use.
type Pool struct {
	name   string
	max    int64
	weight *semaphore.Weighted

	used, peak     atomic.Int64
	waiting, waits atomic.Int64
	refused        atomic.Int64
}

// NewPool makes a pool of so many bytes.
func NewPool(name string, bytes int64) *Pool {
	return &Pool{name: name, max: bytes, weight: semaphore.NewWeighted(bytes)}
}

// Max returns the size of the pool.
func (p *Pool) Max() int64 { return p.max }

// Take waits for n bytes and returns what to give back: less than n for more than the pool has. The error is ctx's cause.
func (p *Pool) Take(ctx context.Context, n int) (taken int64, err error) {
	taken = min(int64(n), p.max)
	if !p.weight.TryAcquire(taken) {
		p.waits.Add(1)
		p.waiting.Add(1)
		err := p.weight.Acquire(ctx, taken)
		p.waiting.Add(-1)
		if err != nil {
			return 0, context.Cause(ctx)
		}
	}
	p.took(taken)
	return taken, nil
}

// TakeWithin is Take for those whose holders may be slow: after the time it goes without, and gives back nothing.
func (p *Pool) TakeWithin(ctx context.Context, n int, patience time.Duration) (taken int64, err error) {
	if n == 0 {
		return 0, nil
	}
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	taken, err = p.Take(short, n)
	if err != nil && ctx.Err() == nil {
		p.refused.Add(1)
		return 0, nil
	}
	return taken, err
}

// Try takes n bytes if they are there.
func (p *Pool) Try(n int) bool {
	if !p.weight.TryAcquire(int64(n)) {
		p.refused.Add(1)
		return false
	}
	p.took(int64(n))
	return true
}

// Give gives bytes back.
func (p *Pool) Give(n int64) {
	if n > 0 {
		p.used.Add(-n)
		p.weight.Release(n)
	}
}

func (p *Pool) took(n int64) {
	used := p.used.Add(n)
	for peak := p.peak.Load(); used > peak && !p.peak.CompareAndSwap(peak, used); peak = p.peak.Load() {
	}
}

// Stats is what a pool looks like now.
type Stats struct {
	Name            string
	Max, Used, Peak int64
	Waiting         int64 // requests that wait now
	Waits           int64 // requests that have had to wait
	Refused         int64 // requests that were not granted: what they were for went to disk, or came over the limit
}

// Stats returns what the pool looks like now.
func (p *Pool) Stats() Stats {
	return Stats{
		Name: p.name, Max: p.max, Used: p.used.Load(), Peak: p.peak.Load(), Waiting: p.waiting.Load(), Waits: p.waits.Load(),
		Refused: p.refused.Load(),
	}
}
