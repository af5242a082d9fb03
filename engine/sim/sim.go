package sim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/engine/store/storetest"
	"padstone/internal/fault"
	"padstone/jobserver"
)

// Sabotage is a lie of the world around the engine that no engine can bear: a simulation that does not notice it is of no use.
type Sabotage string

// The lies.
const (
	Honest        Sabotage = ""
	LyingDisk     Sabotage = "the disk says it has synced"
	ForgottenMark Sabotage = "the sink forgets its mark"
	BlindRetry    Sabotage = "the sink does not look what became of a publication"
	OpenFence     Sabotage = "the sink takes what a replaced writer has sent"
	RewoundSource Sabotage = "the source begins anew"
)

// Sabotages are all of them.
var Sabotages = []Sabotage{LyingDisk, ForgottenMark, BlindRetry, OpenFence, RewoundSource}

// Run is one simulation.
type Run struct {
	Seed     uint64
	Job      string // the kind of job, see kinds; "": the seed's
	Plan     Plan   // what goes wrong; nil: the seed's
	Quiet    bool   // nothing goes wrong
	Sabotage Sabotage
	// Trace takes what happens, line by line. May be nil.
	Trace func(line string)
}

// Outcome is what a run has come to.
type Outcome struct {
	Wrong  []string // empty: all is right
	Hash   string   // of all that happened
	Plan   Plan
	Job    string // what ran
	Steps  int
	Lives  int // of the server
	Hits   map[string]int
	Points map[string]int // changes of the disk at which it crashed
	Tail   []string       // the last lines of the trace
}

// sim is a run at work.
type sim struct {
	Run
	rng     *rand.Rand // of the scheduler
	rig     *enginetest.Rig
	outside *outside
	bucket  *bucket
	from    *origin // of the next life; nil: the disk
	rewound bool    // something has been written again
	lost    bool    // a checkpoint was gone back to
	base    string  // of the directories of all machines
	job     workload
	spec    jobserver.Spec
	life    *life
	lives   int
	steps   int
	began   time.Time
	jumped  atomic.Int64 // by how much the server's clock is off, in ms
	ahead   atomic.Int64 // the most that it ever was
	atEnd   atomic.Bool  // a source has said that it is at its end
	starved struct {
		name  string
		until int
	}

	mu struct {
		sync.Mutex
		plan    Plan // what is left of it
		wishes  wishes
		bad     []int
		hash    hash.Hash
		tail    []string
		wrong   []string
		hits    map[string]int
		points  map[string]int
		changes map[string]int // of disks, by kind of file
		failing int            // changes of logs that are yet to fail, for the reason
		reason  error
	}
}

// Bounds of a run.
const (
	stepsMax = 200_000
	// stuckFor is how long nothing may happen on a clock that stands for nothing.
	stuckFor = time.Hour
	tailMax  = 60
)

// everything is for pictures of a disk of which everything survives: it decides nothing.
var everything = rand.New(rand.NewPCG(0, 0))

// Do runs it. It must be called outside of any bubble.
func (r Run) Do(t *testing.T) (o Outcome) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { o = r.do(t) })
	return o
}

func (r Run) do(t *testing.T) Outcome {
	s := &sim{Run: r, rng: rand.New(rand.NewPCG(r.Seed, 11)), began: time.Now()}
	plan := r.Plan
	if plan == nil && !r.Quiet {
		plan = randomPlan(rand.New(rand.NewPCG(r.Seed, 12)))
	}
	s.mu.wishes.drains, s.mu.wishes.cancels = -1, -1
	s.mu.plan, s.mu.hash = slices.Clone(plan), sha256.New()
	s.mu.hits, s.mu.points, s.mu.changes = map[string]int{}, map[string]int{}, map[string]int{}
	s.outside, s.bucket = newOutside(s), newBucket(s)
	s.rig = enginetest.NewOffline(t, func(c *engine.Config) { c.Logger = zap.NewNop() })
	s.rig.Harnesses.Fault = s.misdeed
	s.spec.ID, s.spec.Name = "job", "job"
	s.base = t.TempDir()
	s.spec.Dir = filepath.Join(s.base, "machine1")
	s.job = newWorkload(s, rand.New(rand.NewPCG(r.Seed, 13)))
	s.note("%s", s.job)
	s.live()
	o := Outcome{Plan: plan, Job: s.job.String(), Steps: s.steps, Lives: s.lives}
	s.mu.Lock()
	defer s.mu.Unlock()
	o.Wrong, o.Hits, o.Points, o.Tail = s.mu.wrong, s.mu.hits, s.mu.points, s.mu.tail
	o.Hash = hex.EncodeToString(s.mu.hash.Sum(nil)[:8])
	return o
}

// live runs the server, life after life, until the job is done, and checks what came of it.
func (s *sim) live() {
	disk := storetest.NewDisk()
	for {
		l := s.begin(disk)
		end, alive := s.watchOver(l)
		if !alive {
			if disk = l.bury(); disk == nil {
				return // something is wrong
			}
			if s.from == nil {
				s.checkLeft(disk)
			}
		} else if end == nil {
			return // something is wrong
		} else if end.running == nil && fault.KindOf(end.err) == fault.Environment && s.hasHit(DiskFull, DiskBroken) {
			s.note("life %d cannot start the job: %s", l.n, fault.Of(end.err).Code)
			if err := l.engine.Close(context.Background()); err != nil {
				s.wrong("closing: %v", err)
			}
			disk = l.disk
		} else if errors.Is(end.err, context.Canceled) || fault.Of(end.err) != nil && fault.Of(end.err).Code == "server-stopping" {
			s.note("life %d ends in good order", l.n)
			l.cancel()
			l.disk.Watch = nil
			disk = l.disk.Crashed(100, everything)
		} else if l.reports.Last() == jobpb.JobState_UPDATED {
			s.note("life %d ends with a savepoint", l.n)
			l.cancel()
			if err := l.engine.Close(context.Background()); err != nil {
				s.wrong("closing: %v", err)
			}
			s.replaced()
		} else {
			s.finish(l, end)
			l.cancel()
			return
		}
		if len(s.faults()) > 0 {
			return
		}
	}
}

// watchOver lets one thing happen at a time, until the job ends or the machine dies. It is nil when neither comes about.
func (s *sim) watchOver(l *life) (end *ending, alive bool) {
	for {
		synctest.Wait()
		if l.dead.Load() {
			return nil, false
		}
		select {
		case e := <-l.ended:
			return &e, true
		default:
		}
		waiting := l.turns.list()
		if len(waiting) == 0 {
			if !s.idle(l) {
				return s.giveUp(l, "nothing happens any more")
			}
			continue
		}
		if s.steps++; s.steps > stepsMax {
			return s.giveUp(l, "there is no end")
		}
		if s.strike(l); l.dead.Load() {
			return nil, false
		}
		one := s.choose(waiting)
		s.note("%d %s", s.steps, one)
		l.turns.grant(one)
		synctest.Wait()
		time.Sleep(s.takes())
	}
}

// idle lets time pass until something wants a turn.
func (s *sim) idle(l *life) bool {
	t := time.NewTimer(stuckFor)
	defer t.Stop()
	select {
	case <-l.turns.arrived:
		return true
	case <-t.C:
		return len(l.turns.list()) > 0
	}
}

// choose picks who goes on. What starves does so only while there is something else.
func (s *sim) choose(waiting []*turn) *turn {
	one := waiting[s.rng.IntN(len(waiting))]
	if s.steps < s.starved.until {
		others := slices.DeleteFunc(slices.Clone(waiting), func(t *turn) bool { return strings.HasPrefix(t.name, s.starved.name) })
		if len(others) > 0 {
			one = others[s.rng.IntN(len(others))]
		}
	}
	return one
}

// takes is how long a step takes: mostly next to nothing.
func (s *sim) takes() time.Duration {
	switch n := s.rng.IntN(200); {
	case n == 0:
		return time.Duration(s.rng.IntN(1_000_000)) * time.Microsecond
	case n < 10:
		return time.Duration(s.rng.IntN(20_000)) * time.Microsecond
	default:
		return time.Duration(s.rng.IntN(400)) * time.Microsecond
	}
}

func (s *sim) giveUp(l *life, why string) (*ending, bool) {
	s.wrong("%s after step %d", why, s.steps)
	for _, m := range l.reports.Messages(jobpb.JobMessage_JOB_MESSAGE_WARNING) {
		s.note("warning: %s", m)
	}
	s.mu.Lock()
	s.mu.plan = nil
	s.mu.Unlock()
	l.die(CrashStep, 0, "given up")
	l.bury()
	return nil, true
}

// clock is the time of the bubble.
func (s *sim) clock() time.Time { return time.Now() }

func (s *sim) hit(k Kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.hits[string(k)]++
}

func (s *sim) hasHit(kinds ...Kind) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(kinds, func(k Kind) bool { return s.mu.hits[string(k)] > 0 })
}

func (s *sim) hitPoint(at string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.points[at]++
}

// note adds a line to the trace.
func (s *sim) note(format string, args ...any) {
	line := fmt.Sprintf("%9.3f ms  ", float64(time.Since(s.began).Microseconds())/1000) + fmt.Sprintf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.mu.hash, line)
	if s.mu.tail = append(s.mu.tail, line); len(s.mu.tail) > tailMax {
		s.mu.tail = s.mu.tail[1:]
	}
	if s.Trace != nil {
		s.Trace(line)
	}
}

func (s *sim) wrong(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.note("WRONG: %s", text)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.wrong = append(s.mu.wrong, text)
}

func (s *sim) faults() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mu.wrong)
}
