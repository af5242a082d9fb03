package engine

import (
	"sync"
	"time"

	"padstone/engine/element"
)

// clock is the processing time of a job. It goes on by the time that has elapsed, never back, and forward with the wall clock when that
// is ahead. So a wall clock that is put back by an hour neither takes decisions back nor holds timers up for an hour: the job's clock is
// ahead of it from then on, by what it was put back. It is kept with the job's commits, so that a restart does not take it back either.
// Safe for concurrent use.
type clock struct {
	wall    func() element.Time
	elapsed func() time.Duration // does not jump; nil: the clock stands still while the wall clock is behind it

	mu struct {
		sync.Mutex
		now  element.Time
		at   time.Duration // elapsed when now was
		kept element.Time  // what the last commit with it holds
	}
}

// clockKeptEvery is how often a job's clock is kept, in milliseconds of it.
const clockKeptEvery = 1000

func newClock(wall func() element.Time, elapsed func() time.Duration) *clock {
	c := &clock{wall: wall, elapsed: elapsed}
	c.mu.now, c.mu.kept = element.MinTime, element.MinTime
	return c
}

// Now is the processing time.
func (c *clock) Now() element.Time {
	now, _ := c.read()
	return now
}

// ahead is by how many milliseconds the clock is ahead of the wall clock, which harnesses go by.
func (c *clock) ahead() int64 {
	now, wall := c.read()
	return int64(now - wall)
}

func (c *clock) read() (now, wall element.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall = c.wall()
	if c.elapsed != nil {
		at := c.elapsed()
		if ms := (at - c.mu.at).Milliseconds(); ms > 0 && c.mu.now > element.MinTime {
			c.mu.now = c.mu.now.Add(ms)
			c.mu.at += time.Duration(ms) * time.Millisecond
		}
		if wall > c.mu.now {
			c.mu.at = at
		}
	}
	c.mu.now = max(c.mu.now, wall)
	return c.mu.now, wall
}

// restore goes on from where an earlier run has kept it.
func (c *clock) restore(at element.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.now, c.mu.kept = max(c.mu.now, at), at
	if c.elapsed != nil {
		c.mu.at = c.elapsed()
	}
}

// keep returns the time that a commit is to keep, if it is worth it.
func (c *clock) keep() (at element.Time, ok bool) {
	now := c.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.kept > element.MinTime && now < c.mu.kept.Add(clockKeptEvery) {
		return 0, false
	}
	c.mu.kept = now
	return now, true
}
