package sizing

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Config says when a pool grows and shrinks.
type Config struct {
	// Every is the time from one look to the next; default 1 s.
	Every time.Duration
	// IdleFor is how long processes must have had little to do before there are fewer; default 60 s.
	IdleFor time.Duration
	// BacklogMin is what must be waiting for a pool to grow, in the time that its processes would take for it; default 2 s. Much less is
	// worked off before another process is there.
	BacklogMin time.Duration
}

// WithDefaults fills what is zero.
func (c Config) WithDefaults() Config {
	if c.Every == 0 {
		c.Every = time.Second
	}
	if c.IdleFor == 0 {
		c.IdleFor = time.Minute
	}
	if c.BacklogMin == 0 {
		c.BacklogMin = 2 * time.Second
	}
	return c
}

const (
	// looksBusy is how many looks in a row must say that a pool is too small.
	looksBusy = 3
	// looksAfter is for how many looks a pool is left alone after it has changed.
	looksAfter = 3
	// busyFrom is from which share of the time processes have too much to do, idleBelow below which too little.
	busyFrom, idleBelow = 0.8, 0.3
	// busyThen is the share of the time for which there are processes after a pool has shrunk.
	busyThen = 0.6
	// coresFrom is from which share of the cores on all of them are taken: one more process would only share them.
	coresFrom = 0.95
	// failedMin and failedMax bound the wait after a process could not be started; it doubles each time.
	failedMin, failedMax = 10 * time.Second, 5 * time.Minute
)

// Bounds of a pool. Where both are the same it has so many processes.
type Bounds struct{ Min, Max int }

// Fixed says that there is nothing to decide.
func (b Bounds) Fixed() bool { return b.Min == b.Max }

// words says what the settings say.
func (b Bounds) words() string {
	if b.Fixed() {
		return fmt.Sprintf("its settings say %d", b.Min)
	}
	return fmt.Sprintf("its settings say %d to %d", b.Min, b.Max)
}

func (b Bounds) clamp(n int) int { return max(b.Min, min(n, b.Max)) }

// Signals is what was measured since the last look.
type Signals struct {
	// At is the time of the look, on a clock that does not go back.
	At time.Duration
	// Ready processes take bundles.
	Ready int
	// Backlog is how long they would take for what waits.
	Backlog time.Duration
	// Busy is the share of the time in which a process had a bundle at work, from 0 to 1, on average.
	Busy float64
	// CPU is how many cores they have used, all together; -1 where that cannot be seen.
	CPU float64
	// Cores of the machine; 0: not known.
	Cores int
	// Trouble is what makes the rest say nothing, in words: a process is lost, or bundles wait for something outside. "" for none.
	Trouble string
}

// Decision is a new size.
type Decision struct {
	Size int
	// Reason of the change; "" when nothing changes.
	Reason string
}

// Controller decides for one pool. Not for concurrent use.
type Controller struct {
	cfg     Config
	size    int
	busy    int           // looks in a row that say that the pool is too small
	idle    time.Duration // since when it has too little to do; negative: it has not
	most    float64       // the largest share of the time that processes were at work since then
	quiet   int           // looks for which the pool is left alone
	until   time.Duration // no process is started before: one could not be
	wait    time.Duration // after the next that cannot be
	holding string        // why a pool that is too small does not grow
}

// New returns the controller of a pool that begins with so many processes.
func New(c Config, size int) *Controller {
	return &Controller{cfg: c.WithDefaults(), size: size, idle: -1}
}

// Size is how many processes there should be.
func (c *Controller) Size() int { return c.size }

// Holding says in words why a pool that is too small does not grow; "" when it is not.
func (c *Controller) Holding() string { return c.holding }

// Failed says that a process could not be started at that time, and there are so many: the pool is not to grow for a while.
func (c *Controller) Failed(at time.Duration, size int) {
	c.size = size
	c.wait = min(max(2*c.wait, failedMin), failedMax)
	c.until = at + c.wait
	c.calm()
}

// Started says that processes could be started: one that cannot be next time is tried again soon.
func (c *Controller) Started() { c.wait = 0 }

// Look decides.
func (c *Controller) Look(b Bounds, s Signals) Decision {
	c.holding = ""
	if size := b.clamp(c.size); size != c.size && (size < c.size || s.At >= c.until) {
		return c.change(size, b.words())
	}
	if s.Trouble != "" || s.Ready < c.size {
		c.calm()
		return Decision{Size: c.size}
	}
	if c.quiet > 0 {
		c.quiet--
		return Decision{Size: c.size}
	}
	if d := c.shrink(b, s); d.Reason != "" {
		return d
	}
	return c.grow(b, s)
}

// calm forgets what has been seen.
func (c *Controller) calm() { c.busy, c.idle = 0, -1 }

func (c *Controller) change(size int, why string) Decision {
	c.size, c.quiet = size, looksAfter
	c.calm()
	return Decision{Size: size, Reason: why}
}

// grow adds a half where the processes are not enough.
func (c *Controller) grow(b Bounds, s Signals) Decision {
	if s.Busy < busyFrom || s.Backlog < c.cfg.BacklogMin {
		c.busy = 0
		return Decision{Size: c.size}
	}
	if c.busy++; c.busy < looksBusy {
		return Decision{Size: c.size}
	}
	switch {
	case c.size >= b.Max:
		c.holding = fmt.Sprintf("%s, but %d is the most there may be", c.full(s), b.Max)
	case s.At < c.until:
		c.holding = fmt.Sprintf("%s, but another process could not be started; that is tried again in %s", c.full(s), words(c.until-s.At))
	case s.Cores > 0 && s.CPU >= coresFrom*float64(s.Cores):
		c.holding = fmt.Sprintf("%s of %d: another one would only share them", c.full(s), s.Cores)
	default:
		return c.change(b.clamp(c.size+(c.size+1)/2), c.full(s))
	}
	return Decision{Size: c.size}
}

// full says that the processes have too much to do.
func (c *Controller) full(s Signals) string {
	text := fmt.Sprintf("what waits would take %s, and the processes are busy %.0f %% of the time", words(s.Backlog), 100*s.Busy)
	if s.CPU >= 0 {
		text += fmt.Sprintf(" on %.1f cores", s.CPU)
	}
	return text
}

// shrink takes away at most a half of the processes where there are too many.
func (c *Controller) shrink(b Bounds, s Signals) Decision {
	used := s.Busy
	if s.CPU >= 0 {
		used = max(used, min(1, s.CPU/float64(c.size)))
	}
	if c.size <= b.Min || used >= idleBelow || s.Backlog >= c.cfg.BacklogMin {
		c.idle = -1
		return Decision{Size: c.size}
	}
	if c.idle < 0 {
		c.idle, c.most = s.At, used
	}
	c.most = max(c.most, used)
	since := s.At - c.idle
	if since < c.cfg.IdleFor {
		return Decision{Size: c.size}
	}
	enough := int(math.Ceil(float64(c.size) * c.most / busyThen))
	size := b.clamp(max(enough, (c.size+1)/2))
	return c.change(size, fmt.Sprintf("for %s the processes were busy %.0f %% of the time at most", words(since), 100*c.most))
}

// words writes a time for people.
func words(d time.Duration) string {
	if d < 10*time.Second {
		return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Seconds()), ".0") + " s"
	}
	return d.Round(time.Second).String()
}
