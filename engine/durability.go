package engine

import (
	"context"

	"slices"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/connector"
	"padstone/engine/plan"
	"padstone/engine/store"
	"padstone/internal/fault"
	"padstone/internal/option"
)

// Durability says when a commit counts as durable.
type Durability = store.Durability

// Durabilities lists the values that a server and a job may choose from.
var Durabilities = store.Durabilities

// durability is the job's own choice, or the server's.
func durability(options *structpb.Struct, server Durability) (Durability, error) {
	text := option.Text(options, optionDurability)
	if text == "" {
		return server, nil
	}
	d := Durability(text)
	if !slices.Contains(Durabilities, d) {
		return "", fault.New(fault.Pipeline, "invalid-option", "--durability=%.100q is none of %v", text, Durabilities).
			WithHint("leave the option out to take the server's")
	}
	return d, nil
}

// checkDurability refuses to keep no log where that would break a promise.
func checkDurability(d Durability, natives connector.Registry, p *plan.Plan) error {
	if d != store.None {
		return nil
	}
	for _, s := range p.Stages {
		if s.Kind != plan.Sink {
			continue
		}
		sink, _ := natives.Sink(connector.URN(s.Native.URN))
		if m, ok := sink.(connector.Marker); ok && m.Marks(s.Native.Config) {
			return fault.New(fault.Pipeline, codeDurabilityNone, "exactly-once writes need the log that durability none leaves out").
				In(s.Name).WithHint("run the job with --durability=frontier, or write at least once (docs/kafka.md)")
		}
	}
	return nil
}

// codeDurabilityNone says what a job that keeps no log cannot have.
const codeDurabilityNone fault.Code = "durability-none"

// openRun opens the job's store. One without a log that was not closed in order is lost: the job begins again, if its input does not
// go on without it.
func (l *lasting) openRun() (*job, error) {
	var starting *plan.Plan // whose harnesses start at once
	if run, failed := l.present(); run == nil && failed == nil && l.recovered {
		starting = l.compiled.Plan
	}
	j, err := l.engine.newJob(l.cfg, l.spec, l.home, starting)
	if f := fault.Of(err); f == nil || f.Code != store.CodeUnclean {
		return j, err
	}
	if !l.compiled.Plan.Bounded {
		return nil, fault.New(fault.Environment, codeDurabilityNone,
			"the job kept no log and was not stopped in order: what it had read is lost").
			WithHint("submit it again, with --durability=frontier if that must not happen")
	}
	if err := store.Remove(l.cfg.FS, l.home.storeDir()); err != nil {
		return nil, err
	}
	if err := l.engine.takeUp(context.Background(), l.spec, l.home.reporter); err != nil {
		return nil, err
	}
	l.home.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING, "the job kept no log (durability none) and was not stopped in order: "+
		"it runs again from its beginning, and writes again what it had written")
	return l.engine.newJob(l.cfg, l.spec, l.home, nil)
}
