package scheduler

import (
	"cmp"
	"container/heap"
	"slices"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/watermark"
)

// stage is the scheduler's picture of one stage.
type stage struct {
	index     int
	def       *plan.Stage
	upstream  []producer // of the input edge
	consumers []*stage   // of the output edges that are not side inputs
	sides     []side
	mapped    int     // how many of the sides have their windows mapped by the SDK
	unmapped  []Block // to be asked for once there is a harness
	keyed     bool
	batch     bool // a Group that collects its bounded input and groups it once
	deferred  bool // a Group that evaluates its triggers at the end of its bounded input
	spread    bool // each element may be much work
	ordered   bool // bundles are to be committed in the order of their blocks

	queues  []queue // one a key group; FIFO stages have one
	delayed delayHeap
	pending struct {
		count int64
		bytes int64
	}
	waitTS watermark.Multiset // holds of blocks that wait, are delayed or run
	holds  watermark.Multiset // holds of state, timers and triggers

	timers  []StageTimers // earliest timers by key group; keyed stages only
	busy    []bool        // key groups owned by a bundle; keyed stages only
	running int           // bundles in flight
	broken  bool          // of an ordered stage: one has failed, and none begins before those behind it have been given back
	retryAt element.Time
	on      []int // bundles in flight by process, without those that are kept open; Harness stages only
	few     int   // bounds a bundle's elements, or timers, while the stage starts slowly; 0: it does not

	cost       costs
	pacing     pacing
	cutting    bool         // a block of it is being cut
	unmeasured int          // bundles committed since one whose cost is known
	gap        float64      // between two commits that brought something, in milliseconds; the last few decide
	arrivedAt  element.Time // the last of them

	suspects []*suspect // inputs that failed and are run again by themselves
	// heldData and heldTimers mark key groups of whose data, or timers, a suspect comes first; keyed stages only.
	heldData, heldTimers []bool

	in, out  element.Time
	sourceWM element.Time   // Source and Impulse
	outputs  []element.Time // TestStream: watermarks by output
	done     bool           // Source, Impulse and TestStream: exhausted
}

// producer is what puts elements on an edge: a stage, or one output of a TestStream stage.
type producer struct {
	*stage
	output int
}

// watermark is that of what the producer puts out.
func (p producer) watermark() element.Time {
	if p.def.Kind == plan.TestStream {
		return p.outputs[p.output]
	}
	return p.out
}

// queue is a FIFO of blocks.
type queue struct {
	blocks []Block
	head   int
}

func (q *queue) len() int     { return len(q.blocks) - q.head }
func (q *queue) first() Block { return q.blocks[q.head] }

func (q *queue) push(b Block) { q.blocks = append(q.blocks, b) }

// unshift puts blocks back in front, in their old order.
func (q *queue) unshift(bs []Block) {
	rest := q.blocks[q.head:]
	q.blocks = append(append(make([]Block, 0, len(bs)+len(rest)), bs...), rest...)
	q.head = 0
}

// sort puts blocks in the order in which they came.
func (q *queue) sort() {
	slices.SortFunc(q.blocks[q.head:], func(a, b Block) int { return cmp.Compare(a.Seq, b.Seq) })
}

func (q *queue) pop() Block {
	b := q.blocks[q.head]
	q.head++
	if q.head > 64 && q.head*2 > len(q.blocks) {
		q.blocks = append(q.blocks[:0], q.blocks[q.head:]...)
		q.head = 0
	}
	return b
}

// queueOf returns the queue that takes blocks of the key group.
func (s *stage) queueOf(group uint16) *queue {
	if !s.keyed {
		return &s.queues[0]
	}
	return &s.queues[group]
}

// receive takes a new block into the inbox.
func (s *stage) receive(b Block, now element.Time) {
	if s.mapped > 0 && b.SideEnds == nil {
		s.unmapped = append(s.unmapped, b)
	}
	s.account(b, 1)
	if b.AvailableAt > now {
		heap.Push(&s.delayed, b)
		return
	}
	s.queueOf(b.Group).push(b)
}

// release moves delayed blocks whose time has come into their queues.
func (s *stage) release(now element.Time, all bool) {
	for len(s.delayed) > 0 && (all || s.delayed[0].AvailableAt <= now) {
		b := heap.Pop(&s.delayed).(Block)
		s.queueOf(b.Group).push(b)
	}
}

// consumed forgets blocks whose bundle has committed.
func (s *stage) consumed(blocks []Block) {
	for _, b := range blocks {
		s.account(b, -1)
	}
}

// account counts a block that waits or runs: n is 1 when it comes, -1 when it goes.
func (s *stage) account(b Block, n int) {
	s.waitTS.Add(b.Hold, n)
	s.pending.count += int64(n * b.Count)
	s.pending.bytes += int64(n * b.Bytes)
}

// nextTimer returns the earliest timers over all key groups.
func (s *stage) nextTimer() (event, processing element.Time) {
	event, processing = NoTimer, NoTimer
	for i := range s.timers {
		event = min(event, s.timers[i].Event)
		processing = min(processing, s.timers[i].Processing)
	}
	return event, processing
}

// refresh recomputes the watermarks; upstream stages must have been refreshed before.
func (s *stage) refresh() {
	switch s.def.Kind {
	case plan.TestStream:
		s.out = element.MaxTime
		for i := range s.outputs {
			if s.done && s.running == 0 { // an event in flight may still bring elements
				s.outputs[i] = element.MaxTime
			}
			s.out = min(s.out, s.outputs[i])
		}
		s.in = s.out
		return
	case plan.Source, plan.Impulse:
		s.in = max(s.in, s.sourceWM)
		if s.done && s.running == 0 { // a bundle in flight may still bring elements
			s.in = element.MaxTime
		}
		s.out = s.in
		return
	}
	in := element.MaxTime
	for _, u := range s.upstream {
		in = min(in, u.watermark())
	}
	waiting := s.waitTS.Min()
	if !s.batch {
		in = min(in, waiting)
	}
	s.in = max(s.in, in)
	out := min(s.in, waiting, s.holds.Min())
	if out > element.EndOfGlobalTime && s.timed() {
		out = element.EndOfGlobalTime
	}
	s.out = max(s.out, out)
}

// timed says whether a timer is set. Timers need not hold the watermark, but what they put out must not miss the end of the input.
func (s *stage) timed() bool {
	event, processing := s.nextTimer()
	return event != NoTimer || processing != NoTimer
}

// idle says that nothing waits, runs or is set to fire, and nothing will come.
func (s *stage) idle() bool {
	if s.running > 0 || s.pending.count > 0 || s.out < element.MaxTime || (s.def.Kind == plan.TestStream && !s.done) {
		return false
	}
	return !s.timed()
}

// delayHeap orders blocks by the time they become available, then by sequence.
type delayHeap []Block

func (h delayHeap) Len() int { return len(h) }
func (h delayHeap) Less(i, j int) bool {
	if h[i].AvailableAt != h[j].AvailableAt {
		return h[i].AvailableAt < h[j].AvailableAt
	}
	return h[i].Seq < h[j].Seq
}
func (h delayHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *delayHeap) Push(x any)   { *h = append(*h, x.(Block)) }
func (h *delayHeap) Pop() any {
	old := *h
	b := old[len(old)-1]
	*h = old[:len(old)-1]
	return b
}
