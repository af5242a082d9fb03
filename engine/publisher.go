package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/connector"
	"padstone/engine/element"
	"padstone/engine/store"
	"padstone/internal/fault"
)

// outboxBytesMax bounds what waits in a sink's outbox; above it the sink takes no more from its inbox, which holds up its producers.
const outboxBytesMax = 32 << 20

// publishBytesMax bounds what is handed to the writer at a time.
const publishBytesMax = 8 << 20

// publisher publishes the outbox of one sink stage, in order, once it is durable.
type publisher struct {
	job   *job
	stage int
	sink  connector.Sink
	// resumed: an earlier run of the job has committed something.
	resumed bool
	mu      struct {
		sync.Mutex
		queue  []outgoing
		bytes  int // in queue
		taken  int // batches on their way out, up to the commit that forgets them
		writer connector.Writer
	}
	wake chan struct{} // 1-buffered: the queue has grown
	free chan struct{} // 1-buffered: the queue has shrunk
}

// outgoing is a block of the outbox with the commit that put it there.
type outgoing struct {
	block store.Block
	seq   uint64
}

// newPublisher takes up what an earlier run has left in the outbox.
func newPublisher(j *job, stage int) (*publisher, error) {
	def := j.plan.Stages[stage]
	sink, ok := j.cfg.Natives.Sink(connector.URN(def.Native.URN))
	if !ok {
		return nil, fault.New(fault.Internal, "bad-plan", "no native sink %q", def.Native.URN).In(def.Name)
	}
	p := &publisher{job: j, stage: stage, sink: sink, resumed: j.resumed, wake: make(chan struct{}, 1), free: make(chan struct{}, 1)}
	err := j.store.Outbox(uint32(stage), func(b store.Block) bool {
		p.mu.queue = append(p.mu.queue, outgoing{block: b})
		p.mu.bytes += len(b.Data)
		return true
	})
	p.wake <- struct{}{} // run opens the sink at once: a broker or topic that is not there shows before the first result
	return p, err
}

// add queues blocks that a commit has put into the outbox.
func (p *publisher) add(blocks []store.Block, seq uint64) {
	p.mu.Lock()
	for _, b := range blocks {
		p.mu.queue = append(p.mu.queue, outgoing{block: b, seq: seq})
		p.mu.bytes += len(b.Data)
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

// run publishes until the job ends.
func (p *publisher) run() {
	ctx := p.job.ctx
	def := p.job.plan.Stages[p.stage]
	writer, err := p.open(ctx)
	if err != nil {
		if ctx.Err() == nil {
			p.job.post(func() { p.job.end(named(err, def)) })
		}
		return
	}
	p.mu.Lock()
	p.mu.writer = writer
	p.mu.Unlock()
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
	blocks := make([]element.Block, len(batch))
	for i, o := range batch {
		blocks[i] = element.Block{Data: o.block.Data, Count: o.block.Count, MinTS: o.block.MinTS, MaxTS: o.block.MaxTS}
	}
	return p.again(ctx, "writing to", func() error { return w.Publish(ctx, blocks) })
}

// open opens the sink. That it cannot be opened when the job is new is a mistake that its user is still there to correct; later it is
// an outage, which ends.
func (p *publisher) open(ctx context.Context) (w connector.Writer, err error) {
	def := p.job.plan.Stages[p.stage]
	open := func() error {
		w, err = p.sink.Open(ctx, def.Native.Config, p.job.spec.ID, string(def.ID))
		return err
	}
	if !p.resumed {
		err = open()
		return w, err
	}
	err = p.again(ctx, "opening", open)
	return w, err
}

// again calls fn until it succeeds, again and again while the environment is to blame; the first failure is a warning to the user.
func (p *publisher) again(ctx context.Context, doing string, fn func() error) error {
	for wait := backoffMin; ; wait = min(wait*2, backoffMax) {
		err := fn()
		if err == nil || ctx.Err() != nil || fault.KindOf(err) != fault.Environment {
			return err
		}
		if wait == backoffMin {
			p.job.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING,
				fmt.Sprintf("%s %q failed and will be tried again: %v", doing, p.job.plan.Stages[p.stage].Name, err))
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

// published forgets blocks that the outside has acknowledged. On the driver.
func (p *publisher) published(batch []outgoing) {
	if p.job.over {
		return
	}
	c := &store.Commit{Stage: uint32(p.stage)}
	for _, o := range batch {
		c.Published = append(c.Published, o.block.Seq)
	}
	if _, err := p.job.store.Commit(c); err != nil {
		p.job.end(err)
		return
	}
	p.mu.Lock()
	p.mu.taken--
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
