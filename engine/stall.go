package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"

	"padstone/engine/store"
	"padstone/internal/fault"
	"padstone/jobserver"
)

// codeStalled is the code of a disk that does not answer.
const codeStalled fault.Code = "disk-stalled"

// StalledAfterDefault is how long an operation of a disk may take.
const StalledAfterDefault = 10 * time.Second

// describeFor bounds the wait for the driver of a job whose disk does not answer: it may wait for the disk itself.
const describeFor = 200 * time.Millisecond

// stall watches the disk of a job that lasts: what was asked of it and is not answered. A job can do nothing about that, as an operation
// that has begun cannot be given up, and may yet happen; but it says what it waits for.
type stall struct {
	after   time.Duration
	waiting *store.Outstanding
	home    home
	told    chan string // messages, whose log lies on the same disk, perhaps
	quit    chan struct{}

	mu struct {
		sync.Mutex
		why error // nil while the disk answers
		age time.Duration
	}
}

// watchDisk begins to watch. The caller closes quit.
func watchDisk(after time.Duration, h home) *stall {
	s := &stall{after: after, waiting: new(store.Outstanding), home: h, told: make(chan string, 16), quit: make(chan struct{})}
	go s.watch()
	go s.tell()
	return s
}

func (s *stall) watch() {
	tick := time.NewTicker(max(s.after/8, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.look()
		case <-s.quit:
			return
		}
	}
}

// look sees whether the disk answers, and says so when that has changed.
func (s *stall) look() {
	what, age := s.waiting.Oldest()
	s.mu.Lock()
	was, longest := s.mu.why, s.mu.age
	s.mu.why, s.mu.age = nil, 0
	if age >= s.after {
		s.mu.why, s.mu.age = stalled(what, age), age
	}
	now := s.mu.why
	s.mu.Unlock()
	switch {
	case was == nil && now != nil:
		s.home.log.Error("the disk does not answer", zap.String("operation", what), zap.Duration("for", age))
		s.say(now.Error())
	case was != nil && now == nil:
		s.home.log.Info("the disk answers again", zap.Duration("after", longest))
		s.say(fmt.Sprintf("the disk answers again, after %v: the job goes on", longest.Round(100*time.Millisecond)))
	}
}

func stalled(what string, age time.Duration) error {
	return fault.New(fault.Environment, codeStalled, "the disk of the data directory does not answer: the %s has taken %v", what,
		age.Round(100*time.Millisecond)).
		WithHint("check the disk, or the network to it; the job waits and goes on by itself when it answers")
}

func (s *stall) say(text string) {
	select {
	case s.told <- text:
	default: // nobody takes them, since the disk does not
	}
}

func (s *stall) tell() {
	for {
		select {
		case text := <-s.told:
			s.home.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING, text)
		case <-s.quit:
			return
		}
	}
}

// why is for how long the job has waited for its disk, and why it does; nil while the disk answers.
func (s *stall) why() (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.age, s.mu.why
}

// answered waits until what was asked of the job has been done, as long as the disk may take to answer. kept is closed when the request is
// durable: whatever it does to the job then comes in any case.
func (s *stall) answered(ctx context.Context, kept <-chan struct{}, done <-chan error) error {
	timer := time.NewTimer(s.after)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
	}
	select {
	case <-kept:
		return nil
	default:
		what, age := s.waiting.Oldest()
		return fault.New(fault.Environment, codeStalled, "the disk of the data directory does not answer: the %s has taken %v", what,
			max(age, s.after).Round(100*time.Millisecond)).WithHint("what was asked for is carried out when the disk answers")
	}
}

// describeStalled describes a job whose disk does not answer, as it looked last if its driver does not answer either.
func (l *lasting) describeStalled(ctx context.Context, run *job, why error, age time.Duration) (*jobserver.Description, error) {
	within, cancel := context.WithTimeout(ctx, describeFor)
	defer cancel()
	d, err := run.Describe(within)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, err
	}
	seen := jobserver.Description{Plan: l.compiled.Plan.String(), Durability: string(l.cfg.Durability)}
	if err == nil {
		seen = *d
	} else if last := l.seen.Load(); last != nil {
		seen = *last
	}
	seen.Waiting, seen.DiskStalledMillis = why.Error(), age.Milliseconds()
	return &seen, nil
}
