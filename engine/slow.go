package engine

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/bundle"
	"padstone/engine/metrics"
	"padstone/engine/scheduler"
	"padstone/engine/threads"
)

// A bundle that does not get on is told of, with the stack of the thread that processes it: an element that takes minutes mostly waits for
// something outside, and only the stack says for what. Dataflow's workers do the same, in these words.

// lull is what is known of a bundle's getting on. Times are the stopwatch's.
type lull struct {
	flight *bundle.Flight
	began  time.Duration
	since  time.Duration // it last got on, or began
	mark   uint64        // of what it told then
	spent  map[string]metrics.Execution
	told   bool // it has told of itself at all
	now    map[string]metrics.Execution
	heard  int64
	// heardAt is when its harness last answered.
	heardAt time.Duration
	// due is after which time without getting on its user hears of it next; 0: at the limit.
	due time.Duration
}

// progressed takes what a bundle has told.
func (l *lull) progressed(f *bundle.Flight, infos []*pipepb.MonitoringInfo, now time.Duration) {
	l.board(f, now)
	mark := metrics.Mark(infos)
	l.now = metrics.Spent(infos)
	if !l.told || mark != l.mark {
		l.told, l.mark, l.since, l.spent, l.due = true, mark, now, l.now, 0
	}
}

// board begins anew where the bundle does.
func (l *lull) board(f *bundle.Flight, now time.Duration) {
	if l.flight != f {
		*l = lull{flight: f, began: now, since: now, heardAt: now}
	}
}

// ongoing is a bundle that does not get on.
type ongoing struct {
	step, state string // of the transform's id; "" while none is known
	lasts       time.Duration
	unanswered  bool // its harness says nothing any more
}

// look says whether the bundle has taken too long with one thing. idle says that it may wait for more input.
func (l *lull) look(f *bundle.Flight, now, limit time.Duration, idle bool) *ongoing {
	if f == nil {
		l.flight = nil
		return nil
	}
	l.board(f, now)
	if n := f.Heard.Load(); n != l.heard {
		l.heard, l.heardAt = n, now
	}
	o := &ongoing{lasts: now - l.since}
	switch {
	case o.lasts < max(limit, l.due) || f.Refused.Load():
		return nil
	case now-l.heardAt >= limit:
		o.unanswered = true
	case l.told:
		var most int64
		for id, e := range l.now {
			if state, millis := e.Less(l.spent[id]).Longest(); millis > most {
				o.step, o.state, most = id, state, millis
			}
		}
		// Else no user code runs: the bundle waits for its input.
		if time.Duration(most)*time.Millisecond < o.lasts/2 {
			return nil
		}
	}
	if !l.told && idle {
		return nil
	}
	return o
}

// slowEvery is how often bundles are looked at: several times within the limit.
func slowEvery(limit time.Duration) time.Duration {
	const least, most = 200 * time.Millisecond, 5 * time.Second
	if limit == 0 {
		return most
	}
	return min(max(limit/4, least), most)
}

// watchLulls has the driver look at bundles in flight now and then.
func (j *job) watchLulls() {
	var every atomic.Int64
	every.Store(int64(slowEvery(0)))
	look := func() { every.Store(int64(slowEvery(j.lookForLulls()))) }
	for j.postLive(look); rest(j.ctx, time.Duration(every.Load())) == nil; j.postLive(look) {
	}
}

// lookForLulls tells of bundles that do not get on, of one of a stage at a time. It returns the limit, 0 for none.
func (j *job) lookForLulls() time.Duration {
	seconds, _ := j.chosen.value(SettingSlowElement)
	limit, now := time.Duration(seconds)*time.Second, j.cfg.Stopwatch()
	if limit == 0 {
		return 0
	}
	type found struct {
		bundle scheduler.BundleID
		*ongoing
	}
	longest, count := make(map[int]found), make(map[int]int)
	for id, a := range j.attending {
		o := a.lull.look(a.link.Flight.Load(), now, limit, !a.more.Closed())
		if o == nil {
			continue
		}
		count[a.stage]++
		if f := longest[a.stage]; f.ongoing == nil || o.lasts > f.lasts {
			longest[a.stage] = found{id, o}
		}
	}
	for stage, f := range longest {
		if last, told := j.slowTold[stage]; told && now-last < limit {
			continue
		}
		j.slowTold[stage] = now
		a := j.attending[f.bundle]
		a.lull.due = 2 * f.lasts
		j.tellOfLull(f.bundle, a, f.ongoing, count[stage]-1)
	}
	return limit
}

// statusFor bounds the wait for a harness that is asked to describe itself: it may hang, or be stopped.
const statusFor = 5 * time.Second

// tellOfLull asks the harness where its threads are, beside the driver, and tells the user.
func (j *job) tellOfLull(id scheduler.BundleID, a *attended, o *ongoing, more int) {
	flight, def := a.lull.flight, j.plan.Stages[a.stage]
	pool := j.pools[def.Env].pool
	j.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(j.ctx, statusFor)
		defer cancel()
		text, err := statusOf(ctx, pool, flight.Worker)
		if j.ctx.Err() != nil {
			return
		}
		seconds, known := threads.Of(text, flight.Instruction)
		if known && seconds.Timed && !seconds.Creating && seconds.Idle < o.lasts/2 {
			return // it goes from method to method: its timers, say, put out nothing
		}
		where := func() string {
			name := transformNames(j.plan)[o.step]
			if name == "" {
				name = def.Name
			}
			return name
		}
		j.postLive(func() {
			if j.attending[id] == a && a.link.Flight.Load() == flight { // else it has got on meanwhile
				j.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING, o.words(where(), flight, more)+stackWords(seconds, err))
			}
		})
	})
}

// words is what the user is told of the bundle.
func (o *ongoing) words(name string, f *bundle.Flight, more int) string {
	var text string
	switch {
	case o.unanswered:
		text = fmt.Sprintf("Operation ongoing in step %q for at least %s, and its harness says nothing of it: "+
			"user code may hold the interpreter's lock, or the process hangs", name, minutes(o.lasts))
	case o.step == "":
		text = fmt.Sprintf("Operation ongoing in step %q for at least %s: its DoFns are being made and set up", name, minutes(o.lasts))
	default:
		text = fmt.Sprintf("Operation ongoing in step %q for at least %s without outputting or completing in state %s",
			name, minutes(o.lasts), o.state)
	}
	text += fmt.Sprintf(" (worker %s, bundle %s", f.Worker, f.Instruction)
	if more > 0 {
		text += fmt.Sprintf("; %d more of the stage", more)
	}
	return text + ")"
}

// stackWords is the stack, or why there is none.
func stackWords(t threads.Thread, err error) string {
	switch {
	case err != nil:
		return fmt.Sprintf(". Where it is cannot be told: %v", err)
	case t.Stack == "":
		return ". Its harness does not tell where its thread is"
	case t.Name != "":
		return fmt.Sprintf(". Its thread %s is at:\n%s", t.Name, t.Stack)
	default:
		return ". At:\n" + t.Stack
	}
}

// minutes prints a span as Dataflow does, 05m00s.
func minutes(d time.Duration) string {
	s := int64(d / time.Second)
	text := fmt.Sprintf("%02dm%02ds", s/60%60, s%60)
	if s >= 3600 {
		text = fmt.Sprintf("%dh", s/3600) + text
	}
	return text
}
