package sim

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing/synctest"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/engine"
	"padstone/engine/store"
	"padstone/fnapi/fakesdk"
	"padstone/internal/fault"
	"padstone/jobserver"
)

// strike does what the plan has for this step.
func (s *sim) strike(l *life) {
	for _, f := range s.due(CrashStep, s.steps) {
		l.die(CrashStep, f.N, "between two steps")
	}
	for _, f := range s.due(LoseDisk, s.steps) {
		if s.from == nil && s.loseDisk(f.N/2) {
			l.die(LoseDisk, 0, "disk lost")
		} else { // without a checkpoint all is lost: it comes later
			s.later(f, 40)
		}
	}
	s.ask(l)
	for _, f := range s.due(Suspend, s.steps) {
		_ = f
		s.hit(Suspend)
		s.note("the server is to stop")
		go l.engine.Close(context.Background())
	}
	for _, f := range s.due(LoseHarness, s.steps) {
		if wires := l.alive(); len(wires) > 0 {
			w := wires[f.N%len(wires)]
			s.hit(LoseHarness)
			s.note("%s is lost", w.name)
			_ = w.Close()
		}
	}
	for _, f := range s.due(LoseData, s.steps) {
		var open []*stream
		for _, w := range l.alive() {
			open = append(open, w.data()...)
		}
		if len(open) > 0 {
			s.hit(LoseData)
			open[f.N%len(open)].cancel()
		}
	}
	for _, f := range s.due(ClockJump, s.steps) {
		s.hit(ClockJump)
		s.ahead.Store(max(s.ahead.Load(), s.jumped.Add(int64(f.N))))
	}
	for _, f := range s.due(Pause, s.steps) {
		s.hit(Pause)
		time.Sleep(time.Duration(f.N) * time.Millisecond)
	}
	for _, f := range s.due(Resize, s.steps) {
		s.resize(l, 1+f.N%4)
	}
	for _, f := range s.due(Starve, s.steps) {
		s.hit(Starve)
		what := []string{"disk", "source", "sink", "bundle", "py/0", "py/"}
		s.starved.name, s.starved.until = what[f.N%len(what)], s.steps+f.N
	}
	synctest.Wait()
}

// resize has the job have so many processes in each environment.
func (s *sim) resize(l *life, processes int) {
	running := l.running.Load()
	if running == nil {
		return
	}
	s.hit(Resize)
	s.note("there are to be %d processes", processes)
	go func() {
		values := map[string]string{engine.SettingWorkers: fmt.Sprint(processes)}
		_, err := (*running).(jobserver.Adjustable).Set(context.Background(), values)
		if f := fault.Of(err); err != nil && !store.Failed(err) && (f == nil || f.Code != "job-over") && !l.dead.Load() {
			s.note("that is refused: %v", err)
		}
	}()
}

// misdeeds are how a harness may go wrong without being lost, or in being lost, or how user code may fail once.
var misdeeds = []fakesdk.Fault{
	fakesdk.DropConnection, fakesdk.DropDataStream, fakesdk.CloseDataStream, fakesdk.UnknownInstruction, fakesdk.AnswerTwice, fakesdk.Fail,
}

// misdeed is how the nth bundle goes wrong.
func (s *sim) misdeed(n int, _ *fnpb.ProcessBundleRequest) fakesdk.Fault {
	for _, f := range s.due(BadBundle, n) {
		s.hit(BadBundle)
		bad := misdeeds[f.N%len(misdeeds)]
		s.note("bundle %d on a harness goes wrong: %d", n, bad)
		return bad
	}
	return fakesdk.NoFault
}

// due takes the faults of a kind from the plan whose time has come.
func (s *sim) due(k Kind, n int) []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []Fault
	s.mu.plan = slices.DeleteFunc(s.mu.plan, func(f Fault) bool {
		if f.Kind != k || f.At > n {
			return false
		}
		due = append(due, f)
		return true
	})
	return due
}

// later puts a fault off by some steps.
func (s *sim) later(f Fault, steps int) {
	f.At = s.steps + steps
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.plan = append(s.mu.plan, f)
}

// dueOf takes the first fault of a kind that has to do with a kind of file, when its time is exactly now.
func (s *sim) dueOf(k Kind, file string, n int) []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.mu.plan {
		if f.Kind == k && files[f.N%len(files)] == file && f.At == n {
			s.mu.plan = slices.Delete(s.mu.plan, i, i+1)
			return []Fault{f}
		}
	}
	return nil
}

// diskFails says whether a change of a log fails, and why. A checkpoint copies logs while others write to one.
func (s *sim) diskFails(n int) error {
	for _, k := range []Kind{DiskFull, DiskBroken} {
		for _, f := range s.due(k, n) {
			s.hit(k)
			s.fail(f.N, map[Kind]error{DiskFull: syscall.ENOSPC, DiskBroken: syscall.EIO}[k])
		}
	}
	reason := s.fails()
	if reason != nil {
		s.note("the disk fails: %v", reason)
	}
	return reason
}

func (s *sim) fail(times int, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.failing, s.mu.reason = s.mu.failing+times, reason
}

// fails takes one of the failures that are to come.
func (s *sim) fails() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.failing == 0 {
		return nil
	}
	s.mu.failing--
	return s.mu.reason
}

// changed counts the changes of a kind of file.
func (s *sim) changed(file string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.changes[file]++
	return s.mu.changes[file]
}
