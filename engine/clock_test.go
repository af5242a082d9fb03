package engine

import (
	"testing"
	"time"

	"padstone/engine/element"
)

// TestClock jumps the wall clock forward and back. The job's goes on by what has elapsed, forward with the wall clock, and never back.
func TestClock(t *testing.T) {
	const hour = 3_600_000
	wall, elapsed := element.Time(1_000_000), 7*time.Hour
	c := newClock(func() element.Time { return wall }, func() time.Duration { return elapsed })
	pass := func(ms int64) { wall, elapsed = wall.Add(ms), elapsed+time.Duration(ms)*time.Millisecond }
	is := func(want element.Time, ahead int64) {
		t.Helper()
		if now, a := c.Now(), c.ahead(); now != want || a != ahead {
			t.Fatalf("the clock is at %d, %d ahead; want %d, %d", now, a, want, ahead)
		}
	}
	is(1_000_000, 0)
	pass(10)
	is(1_000_010, 0)
	wall -= hour
	is(1_000_010, hour)
	pass(500)
	is(1_000_510, hour)
	if at, ok := c.keep(); !ok || at != 1_000_510 {
		t.Fatal(at, ok)
	}
	pass(999)
	if at, ok := c.keep(); ok {
		t.Fatal(at, ok)
	}
	wall += 2 * hour
	is(1_001_509+hour, 0)
	pass(1)
	is(1_001_510+hour, 0)
	at, ok := c.keep()
	if !ok || at != 1_001_510+hour {
		t.Fatal(at, ok)
	}
	wall, elapsed = wall-5*hour, 0 // another process, on a clock that was put back
	c = newClock(func() element.Time { return wall }, func() time.Duration { return elapsed })
	c.restore(at)
	is(at, 5*hour)
	pass(20)
	is(at+20, 5*hour)
	c = newClock(func() element.Time { return wall }, nil) // only the wall clock is known
	is(wall, 0)
	wall -= 100
	is(wall+100, 100)
	wall += 101
	is(wall, 0)
}
