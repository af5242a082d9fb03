package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"padstone/connector"
	"padstone/engine/element"
	"padstone/engine/profile"
	"padstone/engine/store"
	"padstone/internal/fault"
)

// outboxBytesMax bounds what waits in a sink's outbox; above it the sink takes no more from its inbox, which holds up its producers.
const outboxBytesMax = 32 << 20

// publishBytesMax bounds what is handed to the writer at a time.
const publishBytesMax = 8 << 20

// codeBehind is the error of a job whose sinks are ahead of it.
const codeBehind fault.Code = "outbox-behind"

// publisher publishes the outbox of one sink stage, in order, once it is durable.
type publisher struct {
	job     *job
	stage   int
	sink    connector.Sink
	resumed bool // the job ran before
	// What the store has dropped as written; of the driver once the job runs.
	dropped published
	// What the store knew when the job began: the highest sequence that it had dropped, and the highest given to a block.
	resumeAt, given uint64
	mu              struct {
		sync.Mutex
		queue []outgoing
		bytes int // in queue
		taken int // batches on their way out, up to the commit that forgets them
		// What is not forgotten yet, for people.
		waiting backlog
		writer  connector.Writer
		failure string // of the last attempt to open or to write, while there will be another
		// How long blocks have waited until they were durable, and then until they were written.
		durable, written profile.Waits
	}
	wake chan struct{} // 1-buffered: the queue has grown
	free chan struct{} // 1-buffered: the queue has shrunk
}

// backlog is what waits for something.
type backlog struct{ elements, bytes int64 }

func (b *backlog) count(o outgoing, sign int64) {
	b.elements += sign * int64(o.block.Count)
	b.bytes += sign * int64(len(o.block.Data))
}

// outgoing is a block of the outbox with the commit that put it there.
type outgoing struct {
	block store.Block
	seq   uint64
	since time.Duration
}

// newPublisher takes up what an earlier run has left in the outbox.
func newPublisher(j *job, stage int) (*publisher, error) {
	def := j.plan.Stages[stage]
	sink, ok := j.cfg.Natives.Sink(connector.URN(def.Native.URN))
	if !ok {
		return nil, fault.New(fault.Internal, "bad-plan", "no native sink %q", def.Native.URN).In(def.Name)
	}
	p := &publisher{
		job: j, stage: stage, sink: sink, resumed: j.resumed, given: j.store.LastBlock(),
		wake: make(chan struct{}, 1), free: make(chan struct{}, 1),
	}
	var err error
	if p.dropped, err = readPublished(j.store, j.metaOf(metaPublished, stage)); err != nil {
		return nil, err
	}
	p.resumeAt = p.dropped.seq
	err = j.store.Outbox(uint32(stage), func(b store.Block) bool {
		o := outgoing{block: b, since: j.cfg.Stopwatch()}
		p.mu.queue = append(p.mu.queue, o)
		p.mu.bytes += len(b.Data)
		p.mu.waiting.count(o, +1)
		return true
	})
	p.wake <- struct{}{} // run opens the sink at once: a broker or topic that is not there shows before the first result
	return p, err
}

// add queues blocks that a commit has put into the outbox.
func (p *publisher) add(blocks []store.Block, seq uint64) {
	now := p.job.cfg.Stopwatch()
	p.mu.Lock()
	for _, b := range blocks {
		o := outgoing{block: b, seq: seq, since: now}
		p.mu.queue = append(p.mu.queue, o)
		p.mu.bytes += len(b.Data)
		p.mu.waiting.count(o, +1)
	}
	p.mu.Unlock()
	signal(p.wake)
}

// room waits until the outbox has room.
func (p *publisher) room(ctx context.Context) error {
	for {
		p.mu.Lock()
		full := p.mu.bytes > outboxBytesMax
		p.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-p.free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pending says whether something waits to be published or forgotten.
func (p *publisher) pending() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.taken > 0 || len(p.mu.queue) > 0
}

// problem says why writing waits for the outside, or "".
func (p *publisher) problem() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.failure != "" {
		return p.mu.failure
	}
	if o, ok := p.mu.writer.(connector.Observed); ok {
		return o.Problem()
	}
	return ""
}

// noting has fn's error, if any, shown as the problem until it has succeeded.
func (p *publisher) noting(fn func() error) func() error {
	return func() error {
		err := fn()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.mu.failure = ""
		if err != nil {
			p.mu.failure = err.Error()
		}
		return err
	}
}

// backlog is what waits in the outbox.
func (p *publisher) backlog() backlog {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.waiting
}

// run publishes until the job ends.
func (p *publisher) run() {
	ctx := p.job.ctx
	def := p.job.plan.Stages[p.stage]
	writer, err := p.open(ctx)
	p.mu.Lock()
	p.mu.writer = writer
	p.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			p.job.post(func() { p.job.end(named(err, def)) })
		}
		return
	}
	for {
		select {
		case <-p.wake:
		case <-ctx.Done():
			return
		}
		for batch := p.take(); len(batch) > 0; batch = p.take() {
			if err := p.publish(ctx, writer, batch); err != nil {
				if ctx.Err() == nil {
					p.job.post(func() { p.job.end(named(err, def)) })
				}
				return
			}
			p.job.post(func() { p.published(batch) })
			signal(p.free)
		}
	}
}

// take takes the next blocks off the queue.
func (p *publisher) take() []outgoing {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, bytes := 0, 0
	for n < len(p.mu.queue) && bytes < publishBytesMax {
		bytes += len(p.mu.queue[n].block.Data)
		n++
	}
	batch := p.mu.queue[:n:n]
	p.mu.queue = p.mu.queue[n:]
	p.mu.bytes -= bytes
	if n > 0 {
		p.mu.taken++
	}
	return batch
}

// publish waits until the batch is durable and writes it, again and again while the environment is to blame.
func (p *publisher) publish(ctx context.Context, w connector.Writer, batch []outgoing) error {
	if err := p.job.store.WaitDurable(ctx, batch[len(batch)-1].seq); err != nil {
		return err
	}
	durable := p.job.cfg.Stopwatch()
	blocks := make([]connector.OutboxBlock, len(batch))
	for i, o := range batch {
		blocks[i] = connector.OutboxBlock{
			Seq:   o.block.Seq,
			Block: element.Block{Data: o.block.Data, Count: o.block.Count, MinTS: o.block.MinTS, MaxTS: o.block.MaxTS},
		}
	}
	doing := fmt.Sprintf("writing to %q", p.job.plan.Stages[p.stage].Name)
	err := p.job.home.again(ctx, doing, p.noting(func() error { return w.Publish(ctx, blocks) }))
	if err == nil {
		p.waited(batch, durable)
	}
	return err
}

// waited counts how long the blocks of a batch that has been written have waited.
func (p *publisher) waited(batch []outgoing, durable time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.job.cfg.Stopwatch()
	for _, o := range batch {
		p.mu.durable.Add(durable - o.since)
		p.mu.written.Add(now - durable)
	}
}

// waits is how long blocks have waited to be durable, and then to be written.
func (p *publisher) waits() (durable, written profile.Waits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.durable, p.mu.written
}

// open opens the sink and drops what it says is written already. That it cannot be opened when the job is new is a mistake that its
// user is still there to correct; later it is an outage, which ends. The writer is to be closed even after an error.
func (p *publisher) open(ctx context.Context) (w connector.Writer, err error) {
	def := p.job.plan.Stages[p.stage]
	var mark uint64
	as := p.job.fitted.identity(p.stage, p.resumeAt)
	as.Admit = p.admit
	open := func() error {
		w, mark, err = p.sink.Open(ctx, def.Native.Config, as)
		return err
	}
	if p.resumed {
		err = p.job.home.again(ctx, fmt.Sprintf("opening %q", def.Name), p.noting(open))
	} else {
		err = open()
	}
	if err != nil {
		return nil, err
	}
	if err := p.admit(mark); err != nil {
		return w, err
	}
	if written := p.trim(mark); len(written) > 0 {
		p.job.post(func() { p.published(written) })
	}
	p.job.log.Info("the sink is open", zap.String("stage", def.Name), zap.Uint64("mark", mark))
	return w, nil
}

// admit refuses a mark beyond what the store has: another copy of it has gone on, and written what this one would compute anew, and
// perhaps otherwise.
func (p *publisher) admit(mark uint64) error {
	if mark <= p.given {
		return nil
	}
	return fault.New(fault.Corruption, codeBehind, "block %d has been written, but the job's store ends at block %d",
		mark, p.given).WithHint("run the job on the data directory that it ran on last, or start it as a new job")
}

// trim takes the blocks up to mark off the queue, as a batch that has been written.
func (p *publisher) trim(mark uint64) []outgoing {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.mu.queue) && p.mu.queue[n].block.Seq <= mark {
		p.mu.bytes -= len(p.mu.queue[n].block.Data)
		n++
	}
	batch := p.mu.queue[:n:n]
	p.mu.queue = p.mu.queue[n:]
	if n > 0 {
		p.mu.taken++
	}
	return batch
}

// published forgets blocks that the outside has acknowledged. On the driver.
func (p *publisher) published(batch []outgoing) {
	if p.job.over {
		return
	}
	c := &store.Commit{Stage: uint32(p.stage)}
	for _, o := range batch {
		c.Published = append(c.Published, o.block.Seq)
		p.dropped.seq = o.block.Seq
		p.dropped.records += int64(o.block.Count)
	}
	c.Meta = []store.Entry{p.dropped.entry(p.job.metaOf(metaPublished, p.stage))}
	if _, err := p.job.store.Commit(c); err != nil {
		p.job.end(err)
		return
	}
	p.mu.Lock()
	p.mu.taken--
	for _, o := range batch {
		p.mu.waiting.count(o, -1)
	}
	p.mu.Unlock()
	p.job.settle()
}

// close closes the writer. run has ended.
func (p *publisher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.writer != nil {
		p.job.warn(p.mu.writer.Close(), "closing a sink")
		p.mu.writer = nil
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
