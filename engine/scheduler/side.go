package scheduler

import (
	"math/big"

	"padstone/engine/element"
	"padstone/engine/plan"
)

// side is a side input of a stage.
type side struct {
	def       plan.SideInput
	edge      int
	producers []producer
	mapped    int     // place of the side input in Block.SideEnds; -1 when its windows are not mapped by the SDK
	above     big.Int // bitset of the indices of the stages that it comes from
}

func (sd *side) watermark() element.Time {
	wm := element.MaxTime
	for _, p := range sd.producers {
		wm = min(wm, p.watermark())
	}
	return wm
}

// connectSide resolves a side input. The stages that it comes from are connected.
func (s *Scheduler) connectSide(def plan.SideInput, edge int, byID map[plan.StageID]*stage) side {
	sd := side{def: def, edge: edge, producers: producers(s.plan.Edges[edge], byID)}
	for _, p := range sd.producers {
		sd.comesFrom(p.stage)
	}
	return sd
}

func (sd *side) comesFrom(st *stage) {
	if sd.above.Bit(st.index) == 1 {
		return
	}
	sd.above.SetBit(&sd.above, st.index, 1)
	for _, u := range st.upstream {
		sd.comesFrom(u.stage)
	}
	for i := range st.sides {
		sd.above.Or(&sd.above, &st.sides[i].above)
	}
}

// sideBlocking returns the side input that the block has to wait for, or nil.
func (s *Scheduler) sideBlocking(st *stage, b Block) *side {
	for i := range st.sides {
		sd := &st.sides[i]
		if sd.def.Early && s.sideFilled[sd.edge] { // from the first pane on readers see the latest
			continue
		}
		wm := sd.watermark()
		switch {
		case wm >= element.MaxTime:
			continue
		case sd.mapped < 0 && wm >= s.cfg.SideReadyAt(sd.def, b.MaxWindow):
			continue
		case sd.mapped >= 0 && b.SideEnds != nil && wm > b.SideEnds[sd.mapped]:
			continue
		}
		return sd
	}
	return nil
}

// mapWindows asks for what has to be mapped.
func (s *Scheduler) mapWindows(actions []Action) []Action {
	for _, st := range s.stages {
		if len(st.unmapped) == 0 || s.envs[st.def.Env] == nil {
			continue
		}
		for _, b := range st.unmapped {
			actions = append(actions, MapWindows{Stage: st.index, Block: b})
		}
		st.unmapped = nil
	}
	return actions
}

// mapped tells a block that waits what it waits for. It may have been taken or dropped meanwhile.
func (s *Scheduler) mapped(ev Mapped) {
	st := s.stages[ev.Stage]
	same := func(b *Block) bool {
		return b.Seq == ev.Block.Seq && b.Edge == ev.Block.Edge && b.Group == ev.Block.Group
	}
	q := st.queueOf(ev.Block.Group)
	for _, blocks := range [][]Block{q.blocks[q.head:], st.delayed} {
		for i := range blocks {
			if same(&blocks[i]) {
				blocks[i].SideEnds = ev.SideEnds
				return
			}
		}
	}
}

// asked says whether what the block has to wait for is being asked.
func (sd *side) asked(b Block) bool { return sd.mapped >= 0 && b.SideEnds == nil }

// anyReady says whether some block of the queue waits for no side input.
func (s *Scheduler) anyReady(st *stage, q *queue) bool {
	for _, b := range q.blocks[q.head:] {
		if s.sideBlocking(st, b) == nil {
			return true
		}
	}
	return false
}

// backPressure returns a consumer whose inbox is over its budget, or nil. A batch Group does not count, as it must collect
// everything; neither does one that waits for a side input that comes from the very stage that would be stopped.
func (s *Scheduler) backPressure(st *stage) *stage {
	for _, c := range st.consumers {
		if s.over(c) && !s.starves(st, c) {
			return c
		}
	}
	return nil
}

// over says whether the stage's inbox is over its budget.
func (s *Scheduler) over(st *stage) bool {
	return !st.batch && st.pending.bytes > s.cfg.BacklogBytesMax
}

// starves says whether the consumer, or one further down that holds it up, waits for a side input that comes from the stage.
func (s *Scheduler) starves(st, consumer *stage) bool {
	for i := range consumer.queues {
		if q := &consumer.queues[i]; len(consumer.sides) > 0 && q.len() > 0 {
			if sd := s.sideBlocking(consumer, q.first()); sd != nil && sd.above.Bit(st.index) == 1 {
				return true
			}
		}
	}
	for _, c := range consumer.consumers {
		if s.over(c) && s.starves(st, c) {
			return true
		}
	}
	return false
}

// SideNeeded returns the time from which on the consumer of a side input may read its windows, by their maximum timestamps.
func (s *Scheduler) SideNeeded(edge int) element.Time {
	needed := element.MaxTime
	for _, st := range s.stages {
		for i := range st.sides {
			if sd := &st.sides[i]; sd.edge == edge {
				if !sd.def.Expires {
					return element.MinTime
				}
				needed = min(needed, st.out.Add(-sd.def.KeepMs))
			}
		}
	}
	return needed
}
