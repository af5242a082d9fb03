package engine

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"

	"padstone/engine/bundle"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/scheduler"
	"padstone/engine/store"
	"padstone/internal/fault"
)

// replay keeps the script of a job's TestStream: its place, the watermarks of its outputs, and the clock that it moves.
//
// The scheduler starts an event when nothing else can go on; the engine holds it back until all effects of what has been committed
// have happened, too. The place is committed with the event's elements.
type replay struct {
	stage   int
	script  *plan.Script
	wall    func() element.Time
	service *eventService    // nil without an endpoint
	held    *scheduler.Start // driver only: an event that waits for effects
	mu      struct {
		sync.Mutex
		at       place
		runsFrom element.Time // the wall clock when the script ended; time runs on from there
	}
}

// now is the processing time of the job.
func (j *job) now() element.Time {
	if j.replay != nil {
		return j.replay.Now()
	}
	return j.clock.Now()
}

// place is a place in a script.
type place struct {
	next    uint64 // index of the next event
	now     element.Time
	outputs []element.Time // watermarks
	done    bool
}

// replayPosition is the name of the source position that a place is stored under.
const replayPosition = "script"

// newReplay returns the replay of a plan at its beginning, or nil. The clock starts at 0, as that of Beam's direct runner does.
func newReplay(p *plan.Plan, wall func() element.Time) *replay {
	i := p.Replay()
	if i < 0 {
		return nil
	}
	r := &replay{stage: i, script: p.Stages[i].Script, wall: wall}
	if r.script.Endpoint != "" {
		r.service = newEventService(r.script)
	}
	r.mu.at.outputs = slices.Repeat([]element.Time{element.MinTime}, len(r.script.Tags))
	return r
}

// Now is the processing time of the job: the script's while it lasts, then it runs on.
func (r *replay) Now() element.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.mu.at.done {
		return r.mu.at.now
	}
	return r.mu.at.now.Add(int64(r.wall() - r.mu.runsFrom))
}

// still says that time waits for the script to move it. A job without a TestStream has no replay.
func (r *replay) still() bool {
	return r != nil && !r.place().done
}

// restore goes to the stored place, if there is one, and returns it.
func (r *replay) restore(st *store.Store, done bool) (place, error) {
	entries, err := st.Positions(uint32(r.stage))
	if err != nil {
		return place{}, err
	}
	at := r.place()
	for _, e := range entries {
		if at, err = parsePlace(e.Value, len(r.script.Tags)); err != nil {
			return place{}, err
		}
	}
	at.done = done
	r.moveTo(at)
	return at, nil
}

func (r *replay) place() place {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.at
}

// moveTo goes to a place that is committed.
func (r *replay) moveTo(at place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.done && !r.mu.at.done {
		r.mu.runsFrom = r.wall()
	}
	r.mu.at = at
}

// run runs the bundle of the next event. One at a time.
func (r *replay) run(ctx context.Context, runner *bundle.Runner, start *scheduler.Start) (*bundle.Result, error) {
	at := r.place()
	ev, err := r.event(ctx, at.next)
	if err != nil {
		return nil, err
	}
	if at, err = at.after(ev); err != nil {
		return nil, err
	}
	res, err := runner.Replay(start, ev)
	if err != nil {
		return nil, err
	}
	res.Outputs, res.Done = at.outputs, at.done
	res.Watermark = element.MinTime
	res.Commit.Positions = []store.Entry{{Name: replayPosition, Value: at.append(nil)}}
	return res, nil
}

// event returns the event with the index; nil at the end of the script.
func (r *replay) event(ctx context.Context, index uint64) (*plan.ScriptEvent, error) {
	if r.service != nil {
		return r.service.event(ctx, index)
	}
	if index >= uint64(len(r.script.Events)) {
		return nil, nil
	}
	return &r.script.Events[index], nil
}

// committed goes to the place that a bundle has reached.
func (r *replay) committed(res *bundle.Result) error {
	at, err := parsePlace(res.Commit.Positions[0].Value, len(r.script.Tags))
	at.done = res.Done
	if err == nil {
		r.moveTo(at)
	}
	return err
}

// drain ends the script where it is: a service may be waited for.
func (r *replay) drain() {
	if r.service != nil {
		r.service.stop()
	}
}

// close lets go of the service. No bundle may be in flight.
func (r *replay) close() error {
	if r.service == nil {
		return nil
	}
	return r.service.close()
}

// after returns the place after an event; nil is the end, where all watermarks go to the end of time.
func (p place) after(ev *plan.ScriptEvent) (place, error) {
	p.next++
	p.outputs = slices.Clone(p.outputs)
	switch {
	case ev == nil:
		p.done = true
		for i := range p.outputs {
			p.outputs[i] = element.MaxTime
		}
	case ev.Kind == plan.AdvanceWatermark:
		if ev.To < p.outputs[ev.Output] {
			return p, fault.New(fault.Pipeline, "test-stream-event", "event %d takes the watermark back from %v to %v",
				p.next-1, p.outputs[ev.Output], ev.To).WithHint("let watermarks advance only")
		}
		p.outputs[ev.Output] = ev.To
	case ev.Kind == plan.AdvanceProcessingTime:
		p.now = p.now.Add(ev.ByMs)
	}
	return p, nil
}

// append encodes the place: the next event as a uvarint, then processing time and watermarks, 8 bytes each.
func (p place) append(dst []byte) []byte {
	dst = rows.AppendTime(binary.AppendUvarint(dst, p.next), p.now)
	for _, w := range p.outputs {
		dst = rows.AppendTime(dst, w)
	}
	return dst
}

func parsePlace(b []byte, outputs int) (place, error) {
	next, n := binary.Uvarint(b)
	if n <= 0 || len(b) != n+8*(1+outputs) {
		return place{}, fault.New(fault.Corruption, "store-corrupt", "the place in the script of the TestStream is malformed")
	}
	b = b[n:]
	p := place{next: next, now: rows.Time(b)}
	for b = b[8:]; len(b) > 0; b = b[8:] {
		p.outputs = append(p.outputs, rows.Time(b))
	}
	return p, nil
}
