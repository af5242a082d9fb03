package sim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"padstone/engine"
	"padstone/engine/bundle"
	"padstone/engine/checkpoint"
	"padstone/engine/element"
	"padstone/engine/enginetest"
	"padstone/engine/scheduler"
	"padstone/engine/store/storetest"
	"padstone/fnapi"
	"padstone/jobserver"
)

// life is the server from one start to its end.
type life struct {
	sim     *sim
	n       int
	turns   *turns
	disk    *storetest.Disk
	engine  *engine.Engine
	reports *enginetest.Recorder
	dead    atomic.Bool
	running atomic.Pointer[jobserver.Running] // the job, once it has been taken up
	ctx     context.Context                   // of what is asked of the server; ends with it
	cancel  context.CancelFunc
	ended   chan ending // 1-buffered: the job's, or that of its start

	mu struct {
		sync.Mutex
		wires    []*wire
		requests []*request
		// left is what a crash has left of the disk; outcome says that the job had ended before.
		left    *storetest.Disk
		outcome bool
		changes map[string]int // of the disk, by kind of file
	}
}

// ending is how a job has ended in a life of the server.
type ending struct {
	running jobserver.Running
	err     error
}

// keptStore keeps the store of a job that has ended, to be looked at.
type keptStore struct{ *storetest.Disk }

// RemoveAll implements store.FS.
func (k keptStore) RemoveAll(name string) error {
	if filepath.Base(name) == "store" {
		return nil
	}
	return k.Disk.RemoveAll(name)
}

// begin starts the server on what there is, and with it the job.
func (s *sim) begin(disk *storetest.Disk) *life {
	if s.from != nil {
		disk = s.moved()
	}
	s.lives++
	l := &life{sim: s, n: s.lives, turns: newTurns(), disk: disk, reports: &enginetest.Recorder{}, ended: make(chan ending, 1)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.mu.changes = map[string]int{}
	disk.Watch, disk.Lies = l.watch, s.Sabotage == LyingDisk
	c := s.rig.Config
	c.FS = keptStore{disk}
	c.Natives = natives{l, s.rig.Natives}
	c.Harnesses = harnesses{s.rig.Harnesses, l}
	c.Now = s.now
	c.Checkpoints.Dir = bucketURL
	c.Checkpoints.Open = func(context.Context, string) (*checkpoint.Repository, error) {
		return checkpoint.On(bucketURL, connection{s.bucket, l}), nil
	}
	c.Sizing.Every = time.Hour // by the machine's clock; what a simulation sizes it sets by hand
	c.Turn = func(_ string, at engine.Turn, b scheduler.BundleID) {
		_ = l.turns.wait(context.Background(), fmt.Sprintf("bundle %d %s", b, at))
	}
	l.engine = engine.New(c)
	s.life = l
	s.rig.Harnesses.Dial = l.dial
	s.rig.Harnesses.OnGrow = func(ctx context.Context) error { return l.turn(ctx, "harness comes") }
	start := l.engine.Start
	if s.lives > 1 {
		start = l.engine.Recover
	}
	if s.from != nil {
		start = l.restore
	}
	spec := s.spec
	go func() {
		running, err := start(l.ctx, spec, l.reports)
		if err == nil {
			l.running.Store(&running)
			err = running.Wait(context.Background())
		}
		l.ended <- ending{running, err}
		l.turns.news()
	}()
	return l
}

// turn waits for a turn, or the end of ctx. In a life that is over none comes.
func (l *life) turn(ctx context.Context, name string) error {
	err := l.turns.wait(ctx, name)
	if l.dead.Load() {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return err
}

// watch is told of each change of the disk.
func (l *life) watch(op storetest.Op) error {
	if l.dead.Load() {
		return nil
	}
	s := l.sim
	kind := op.File
	if op.Change == storetest.Remove {
		kind = "obsolete"
	}
	l.mu.Lock()
	l.mu.changes[kind]++
	recovering := l.mu.changes[kind]
	l.mu.Unlock()
	n := s.changed(kind)
	if kind == "log" {
		for _, f := range s.due(CrashLog, n) {
			l.die(CrashLog, f.N, op.String())
		}
	}
	for _, f := range s.dueOf(CrashTables, kind, n) {
		l.die(CrashTables, f.N/len(files), op.String())
	}
	if l.n > 1 {
		for _, f := range s.dueOf(CrashRecovery, kind, recovering) {
			l.die(CrashRecovery, f.N/len(files), op.String())
		}
	}
	if kind == "log" {
		if err := s.diskFails(n); err != nil {
			return err
		}
	}
	// Whatever waits here must hold no lock that others want: the log's own goroutine, and the store while it opens.
	syncs := op == (storetest.Op{Change: storetest.Sync, File: "log"}) && !rotating()
	if syncs || op == (storetest.Op{Change: storetest.Remove, File: "dir"}) {
		_ = l.turns.wait(context.Background(), "disk "+op.String())
	}
	return nil
}

// rotating says that a commit closes the store's log to begin another one, with the store locked.
func rotating() bool {
	var callers [64]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(1, callers[:])])
	for more := true; more; {
		var f runtime.Frame
		if f, more = frames.Next(); strings.HasSuffix(f.Function, "(*DB).rotateWAL") {
			return true
		}
	}
	return false
}

// die ends the machine at this very moment: what is on its disk is what survives, and nothing leaves it any more.
func (l *life) die(k Kind, how int, at string) {
	if !l.dead.CompareAndSwap(false, true) {
		return
	}
	s := l.sim
	left, err := s.survives(l.disk, how)
	if err != nil {
		s.wrong("the disk after a crash: %v", err)
	}
	_, missing := os.Stat(filepath.Join(s.spec.Dir, "engine", "outcome.json"))
	l.mu.Lock()
	l.mu.left, l.mu.outcome = left, missing == nil
	l.mu.Unlock()
	s.hit(k)
	s.hitPoint(at)
	s.note("life %d ends: %s %s, %s", l.n, k, at, survival(how))
	l.turns.news()
}

// survival names how much of what was not synced survives.
func survival(how int) string {
	return []string{"what was synced survives", "what was written survives", "a part of the log survives"}[how%3]
}

func (s *sim) survives(d *storetest.Disk, how int) (*storetest.Disk, error) {
	switch how % 3 {
	case 0:
		return d.Crashed(0, nil), nil
	case 1:
		return d.Crashed(100, everything), nil
	default:
		share := int64(how / 3 % 1000)
		return d.Torn(func(unsynced int64) int64 { return unsynced * share / 1000 })
	}
}

// bury waits until nothing of a life is left, which was cut off before, and returns the disk for the next one.
func (l *life) bury() *storetest.Disk {
	s := l.sim
	l.mu.Lock()
	requests, wires := l.mu.requests, slices.Clone(l.mu.wires)
	left, outcome := l.mu.left, l.mu.outcome
	l.mu.Unlock()
	s.outside.lose(requests, s.rng.IntN)
	l.cancel()
	l.turns.release()
	for _, w := range wires {
		_ = w.Close()
	}
	if err := l.engine.Close(context.Background()); err != nil {
		s.wrong("closing what has crashed: %v", err)
	}
	<-l.ended
	if outcome { // what a checkpoint has does not matter any more
		s.from = nil
	} else { // the job had not ended: what the dead have written after the crash is not there
		if err := os.RemoveAll(filepath.Join(s.spec.Dir, "engine", "outcome.json")); err != nil {
			s.wrong("%v", err)
		}
	}
	return left
}

// sent and answered keep account of the publications on their way.
func (l *life) sent(r *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dead.Load() {
		l.mu.requests = append(l.mu.requests, r)
	}
}

func (l *life) answered(r *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.requests = slices.DeleteFunc(l.mu.requests, func(o *request) bool { return o == r })
}

// dial connects a harness process.
func (l *life) dial(server *fnapi.Server, env string, process int) grpc.ClientConnInterface {
	l.mu.Lock()
	defer l.mu.Unlock()
	generation := 0
	for _, w := range l.mu.wires {
		if w.env == env && w.process == process {
			generation++
		}
	}
	w := &wire{life: l, server: server, env: env, process: process, name: fmt.Sprintf("%s/%d.%d", env, process, generation)}
	w.mu.broken = l.dead.Load()
	l.mu.wires = append(l.mu.wires, w)
	return w
}

// alive are the connections that are not broken.
func (l *life) alive() []*wire {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.mu.wires), (*wire).isBroken)
}

// harnesses are the rig's as one life sees them. It implements engine.Harnesses.
type harnesses struct {
	*enginetest.Harnesses
	life *life
}

// Start implements engine.Harnesses.
func (h harnesses) Start(ctx context.Context, spec engine.HarnessSpec) (engine.HarnessPool, error) {
	if err := h.life.turn(ctx, "harness "+string(spec.EnvID)+" start"); err != nil {
		return nil, err
	}
	changed := spec.OnChange
	spec.OnChange = func() {
		_ = h.life.turns.wait(ctx, "harness "+string(spec.EnvID)+" changed")
		changed()
	}
	return h.Harnesses.Start(ctx, spec)
}

var (
	_ engine.Harnesses = harnesses{}
	_ bundle.Pool      = engine.HarnessPool(nil)
)

// now is the server's clock.
func (s *sim) now() element.Time { return element.Time(s.clock().UnixMilli() + s.jumped.Load()) }

// latest is as late as the server can take it to be: its clock never goes back.
func (s *sim) latest() int64 { return s.clock().UnixMilli() + s.ahead.Load() }
