package engine

import (
	"errors"
	"fmt"
	"strings"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"

	"padstone/engine/bundle"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/profile"
	"padstone/engine/scheduler"
	"padstone/internal/fault"
)

// Back-off of what is run again. It doubles from the first to the last: for the environment's fault, and for user code's while the same
// input fails; a half of it has waited enough.
const (
	backoffMin     = 200 * time.Millisecond
	backoffMax     = 10 * time.Second
	backoffUserMin = 100 * time.Millisecond
)

// attemptsMax is how often bundles that hold the same element may fail in user code, or for a harness that answers wrongly.
const attemptsMax = 4

// lonelyFrom is from how many losses on an input is run on a process of its own.
const lonelyFrom = 3

// warnEvery bounds the warnings about failed bundles of a stage.
const warnEvery = 10 * time.Second

// codeHarnessLost is the only code of a loss. codesUser are those of what user code may do, or not do, the next time.
const codeHarnessLost = "harness-lost"

var codesUser = map[fault.Code]bool{"bundle-failed": true, "split-failed": true, "accumulator-merge": true, "window-merge": true}

// failure is what a bundle's failure amounts to.
type failure struct {
	err   error
	blame scheduler.Blame
	again bool // the bundle runs again; else the job ends with the error
	items int  // elements or timers that it had for user code
	only  string
	watch *profile.Watch
}

// runHarness runs a bundle of a Harness stage. An input that has lost its harness several times is preceded by nothing at all: a harness
// that does not survive an empty bundle has not been killed by an element.
func (j *job) runHarness(start *scheduler.Start, link *bundle.Link) (*bundle.Result, error) {
	if start.Losses >= lonelyFrom {
		if err := j.fleet.Probe(j.ctx, j.runner, start); fault.KindOf(err) == fault.Environment && err != nil {
			return nil, &bundle.Attempt{Err: err}
		}
		j.fleet.Progressed(j.plan.Stages[start.Stage].Env)
	}
	return j.fleet.Run(j.ctx, j.runner, start, link)
}

// examine finds out what is to blame for a bundle's failure, and puts into the error what its user should know. It runs on the bundle's
// goroutine: it may try out an empty bundle.
func (j *job) examine(start *scheduler.Start, err error) *failure {
	def := j.plan.Stages[start.Stage]
	f := &failure{err: err}
	var a *bundle.Attempt
	if errors.As(err, &a) {
		f.items, f.only = a.Items, a.Only
	}
	code := fault.Code("")
	if e := fault.Of(err); e != nil {
		code = e.Code
	}
	switch kind := fault.KindOf(err); {
	case def.Kind != plan.Harness && def.Kind != plan.Group:
		f.again = kind == fault.Environment
	case kind == fault.Pipeline && codesUser[code]:
		f.blame, f.again = scheduler.UserCode, true
	case kind == fault.Environment && code == codeHarnessLost:
		f.again = true
		if a == nil || a.Begun {
			f.blame = scheduler.LostHarness
		}
	case kind == fault.Environment && (def.Kind == plan.Harness || code == "harness-protocol"):
		f.blame, f.again = scheduler.WrongAnswer, true
	default:
		f.again = kind == fault.Environment
	}
	if (f.blame == scheduler.UserCode || f.blame == scheduler.WrongAnswer) && start.Failures+1 >= attemptsMax {
		j.judge(start, f, a != nil)
	}
	return f
}

// judge decides on an input that has failed often enough: the job ends unless less of it can be run.
func (j *job) judge(start *scheduler.Start, f *failure, harness bool) {
	def := j.plan.Stages[start.Stage]
	times := start.Failures + 1
	verdict := ""
	switch {
	case harness && f.blame == scheduler.UserCode && f.items > 0 && codesUser[codeOf(j.fleet.Probe(j.ctx, j.runner, start))]:
		f.again = false
		verdict = "The same bundle fails without any element, too, so it is set-up, the start or the end of a bundle that fails."
	case harness && f.items > 1 && f.blame == scheduler.UserCode && j.replay == nil:
		return // a half of it is next
	case harness && f.items == 1 && start.Raised == 0 && f.blame == scheduler.UserCode:
		return // it may have been others that failed before
	case harness && f.items == 1 && f.only != "":
		f.again = false
		verdict = fmt.Sprintf("Bundles with this element for %q have failed %d times, the last one had no other:\n  %s",
			first(def), times, f.only)
	case harness && f.items == 1:
		f.again = false
		verdict = fmt.Sprintf("Bundles with the same element, which is not to be shown, have failed %d times; the last one had no other.", times)
	default:
		f.again = false
		verdict = fmt.Sprintf("The bundle has failed %d times, with the same input.", times)
	}
	f.err = fault.Named(fault.Amended(f.err, func(e *fault.Error) { e.Msg += "\n\n" + verdict }), def.Name)
}

// first is the transform that takes a stage's input. What fails further down got what became of it.
func first(def *plan.Stage) string {
	if len(def.Transforms) > 0 {
		return def.Transforms[0].Name
	}
	return def.Name
}

func codeOf(err error) fault.Code {
	if e := fault.Of(err); e != nil {
		return e.Code
	}
	return ""
}

// bundleFailed runs the bundle again later, or ends the job.
func (j *job) bundleFailed(start *scheduler.Start, f *failure) {
	def := j.plan.Stages[start.Stage]
	// A source that cannot be opened when the job is new is a mistake that its user is still there to correct; later it is an outage.
	opening := def.Kind == plan.Source && !j.sources[start.Stage].wasOpened() && !j.resumed
	if !f.again || opening {
		j.end(named(f.err, def))
		return
	}
	var wait time.Duration
	switch f.blame {
	case scheduler.NoBlame:
		wait = min(max(j.backoff[start.Stage]*2, backoffMin), backoffMax)
		j.backoff[start.Stage] = wait
	case scheduler.LostHarness:
		j.stages[start.Stage].lost++
		wait = doubled(backoffMin, start.Losses)
	default:
		j.stages[start.Stage].failed++
		wait = doubled(backoffUserMin, start.Tries)
	}
	j.tellFailed(start, f)
	j.log.Info("bundle failed", zap.String("stage", def.Name), zap.Duration("again_in", wait), zap.Int("items", f.items),
		zap.Int("failures", start.Failures), zap.Int("losses", start.Losses), zap.Error(f.err))
	ev := scheduler.Failed{Bundle: start.Bundle, RetryAt: j.now().Add(wait.Milliseconds()), Blame: f.blame, Items: f.items}
	if err := j.isolate(start, f, &ev); err != nil {
		j.end(named(err, def))
		return
	}
	if j.replay != nil {
		j.retryAfter(start.Stage, ev, wait)
		return
	}
	j.tell(ev)
}

// isolate gives an element that keeps losing its harness a block of its own, so that those behind it need not wait. Where keys keep
// their order, they must.
func (j *job) isolate(start *scheduler.Start, f *failure, ev *scheduler.Failed) error {
	def := j.plan.Stages[start.Stage]
	if f.blame != scheduler.LostHarness || start.Limit != 1 || start.Losses < lonelyFrom || start.Timers || start.Blocks[0].Count == 1 ||
		j.replay != nil || def.Kind != plan.Harness || j.plan.Edge(def.Input).Kind == plan.Keyed || j.sched.Ordered(start.Stage) {
		return nil
	}
	c, err := j.runner.Divide(start.Stage, start.Blocks[0], start.Limit)
	if err != nil {
		return err
	}
	defer c.Ahead.Discard() // harmless once committed
	if _, err := j.store.Commit(c); err != nil {
		return err
	}
	for _, a := range j.inCache(c) {
		ev.Parts = append(ev.Parts, a.Block)
	}
	return nil
}

// doubled is the wait after so many before it.
func doubled(first time.Duration, times int) time.Duration {
	return min(first<<min(times, 10), backoffMax)
}

// tellFailed tells the job's user of a failed bundle: of the first one, not too often, and of an element that keeps losing its harness.
func (j *job) tellFailed(start *scheduler.Start, f *failure) {
	def := j.plan.Stages[start.Stage]
	warn := func(format string, args ...any) {
		j.warned[start.Stage] = time.Now()
		j.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING, fmt.Sprintf(format, args...))
	}
	losses := start.Losses + 1
	if f.blame == scheduler.LostHarness && losses > lonelyFrom && f.items <= 1 {
		what := "a bundle without elements"
		switch {
		case f.only != "":
			what = f.only
		case f.items == 1:
			what = "one element, which is not to be shown"
		}
		j.stages[start.Stage].suspect = fmt.Sprintf("lost its harness %d times, the last time with nothing else: %s (%s)",
			losses, what, gist(f.err))
		if losses&(losses-1) == 0 || start.Tries == 0 {
			warn("an input of %q has lost its harness %d times, and will run again: the last time there was nothing else on the process than "+
				"this:\n  %s\n%v", def.Name, losses, what, f.err)
		}
		return
	}
	first := start.Failures+start.Losses == 0 && (f.blame != scheduler.NoBlame || j.backoff[start.Stage] == backoffMin)
	if last, ok := j.warned[start.Stage]; first && (!ok || time.Since(last) >= warnEvery) {
		warn("a bundle of %q failed and will run again: %s", nameOf(f.err, def), gist(f.err))
	}
}

// nameOf is the user's transform that an error names, or the stage.
func nameOf(err error, def *plan.Stage) string {
	if e := fault.Of(err); e != nil && e.Transform != "" {
		return e.Transform
	}
	return def.Name
}

// gist is an error without the frames of a traceback: the last line of what user code raised.
func gist(err error) string {
	const gistMax = 500
	text := strings.TrimSpace(err.Error())
	if e := fault.Of(err); e != nil && codesUser[e.Code] {
		lines := strings.Split(strings.TrimSpace(e.Msg), "\n")
		text = strings.TrimSpace(lines[len(lines)-1])
	}
	if len(text) > gistMax {
		text = strings.ToValidUTF8(text[:gistMax], "") + "…"
	}
	return text
}

// retryAfter tells the scheduler of a failed bundle only when it is time to run it again: a script's clock does not move until then.
func (j *job) retryAfter(stage int, ev scheduler.Failed, wait time.Duration) {
	ev.RetryAt = element.MinTime
	j.tasks.Go(func() {
		if rest(j.ctx, wait) != nil {
			return
		}
		j.post(func() {
			j.giveBackBehind(stage)
			j.tell(ev)
			j.inOrder(stage)
		})
	})
}

// named puts the stage's name, made of the user's transform names, into an error that names none.
func named(err error, def *plan.Stage) error {
	if fault.Of(err) != nil {
		return fault.Named(err, def.Name)
	}
	return fault.New(fault.Internal, "bundle-internal", "%w", err).In(def.Name)
}
