package scheduler

import (
	"fmt"
	"testing"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/internal/ratio"
)

// chain is a source and a chain of stages behind it.
func chain(stages int) *plan.Plan {
	p := &plan.Plan{KeyGroups: 64, Environments: []*plan.Environment{{ID: "env"}}}
	add := func(id plan.StageID, kind plan.StageKind) *plan.Stage {
		s := &plan.Stage{ID: id, Name: string(id), Kind: kind, Env: "env"}
		p.Stages = append(p.Stages, s)
		return s
	}
	from := add("source", plan.Source)
	for i := range stages {
		s := add(plan.StageID(fmt.Sprint("stage-", i)), plan.Harness)
		e := &plan.Edge{ID: plan.EdgeID("->" + string(s.ID)), Kind: plan.FIFO, Consumer: s.ID, Name: s.Name, Producers: []plan.StageID{from.ID}}
		p.Edges = append(p.Edges, e)
		from.Outputs = append(from.Outputs, plan.Output{Edges: []plan.EdgeID{e.ID}})
		s.Input, from = e.ID, s
	}
	return p
}

// BenchmarkWatermarks has a source put out a block, and each stage pass it on to the next one: an iteration is one block on its way through
// the whole chain, a commit, watermarks of every stage and a start for each stage.
func BenchmarkWatermarks(b *testing.B) {
	for _, stages := range []int{3, 30, 300} {
		for _, waiting := range []int{0, 10_000} {
			b.Run(fmt.Sprintf("%d stages, %d blocks wait", stages, waiting), func(b *testing.B) {
				r := newRelay(b, stages, waiting)
				b.ReportAllocs()
				for b.Loop() {
					r.pass(b)
				}
				ratio.Each(b, stages+1, "commit")
			})
		}
	}
}

// relay passes blocks along a chain.
type relay struct {
	sched   *Scheduler
	now     element.Time
	seq     uint64
	stages  int
	started []Start
}

func newRelay(b *testing.B, stages, waiting int) *relay {
	r := &relay{stages: stages, sched: New(chain(stages), Config{BacklogBytesMax: 1 << 40})}
	r.step(b, Restored{})
	var added []StageBlock
	for range waiting { // of the last stage, in windows of their own
		added = append(added, r.block(stages))
	}
	r.step(b, Capacity{Env: "env", Processes: 1, PerProcess: 1})
	r.commit(b, added...)
	return r
}

func (r *relay) block(stage int) StageBlock {
	r.seq++
	return StageBlock{Stage: stage, Block: Block{
		Edge: stage - 1, Seq: r.seq, Count: 100, Bytes: 1000, MaxWindow: element.MinTime, AvailableAt: element.MinTime, Hold: r.now,
	}}
}

func (r *relay) step(b *testing.B, ev Event) {
	actions, err := r.sched.Step(r.now, ev)
	if err != nil {
		b.Fatal(err)
	}
	for _, a := range actions {
		if s, ok := a.(Start); ok {
			r.started = append(r.started, s)
		}
	}
}

// commit ends the bundle that was started first.
func (r *relay) commit(b *testing.B, added ...StageBlock) Start {
	if len(r.started) == 0 {
		b.Fatal("nothing was started")
	}
	s := r.started[0]
	r.started = r.started[1:]
	r.step(b, Committed{Bundle: s.Bundle, Added: added, Watermark: r.now})
	return s
}

// pass has bundles end until one of the last stage has.
func (r *relay) pass(b *testing.B) {
	r.now++
	for {
		next := r.started[0].Stage + 1
		var added []StageBlock
		if next <= r.stages {
			added = append(added, r.block(next))
		}
		if s := r.commit(b, added...); s.Stage == r.stages {
			return
		}
	}
}
