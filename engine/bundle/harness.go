package bundle

import (
	"context"
	"errors"
	"sync"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/engine/element"
	"padstone/engine/profile"
	"padstone/engine/scheduler"
	"padstone/engine/store"
	"padstone/fnapi"
	"padstone/internal/buffers"
	"padstone/internal/fault"
)

// Slot is the place on a harness where a bundle runs.
type Slot struct {
	Worker      *fnapi.Worker
	Descriptor  fnapi.DescriptorID
	Instruction fnapi.InstructionID
	Run         string          // of the job: unique among all runs of all jobs
	DataStream  string          // "" for harnesses without named data streams
	Drain       <-chan struct{} // closed when the job begins to drain
	Meter       *meter          // of the process; nil: nobody wants to know
	Straight    bool            // no tables of lifted combines, and the runner assigns the windows of what they would merge
	ItemsMax    int             // of one key and window in a bundle of timers; 0: no bound
	hold        *hold           // of the process; nil: it does not end
}

// Harness runs a bundle of a Harness stage.
func (r *Runner) Harness(ctx context.Context, start *scheduler.Start, slot Slot, link *Link) (*Result, error) {
	st := r.Job.Stages[start.Stage]
	ahead := r.Store.WriteAhead()
	rt := r.newRouter()
	h := &harnessBundle{
		runner: r, stage: st, start: start, slot: slot, link: link, router: rt, intake: newIntake(st, rt, r.Memory.Intake),
		inputs: held{pool: r.Memory.Inputs}, watermark: start.InputWatermark, groups: start.Groups, clock: stopwatch{meter: slot.Meter},
		watch: link.Watch, aside: newAside(link.Watch),
	}
	h.intake.aside, rt.aside = h.aside, h.aside
	if slot.Straight {
		h.intake.outlets = st.straight
	}
	h.result.held.pool = r.Memory.Outputs
	rt.writeAhead(ahead, &h.result.held)
	h.result.Commit = store.Commit{Stage: uint32(start.Stage), Ahead: ahead}
	if st.Def.KeyCoder != "" {
		h.result.Commit.Rows = r.Store.Begin(uint32(start.Stage))
		h.txs = newTransactions(h.result.Commit.Rows, r.Job.Plan.KeyGroups, start.Groups)
	}
	h.state = &stateHandler{stage: st, store: r.Store, txs: h.txs}
	if len(st.sides) > 0 {
		h.state.view = r.Store.Snapshot()
	}
	h.intake.start()
	resp, err := h.run(ctx)
	if err != nil {
		err = h.attempt(err)
	}
	if cerr := h.state.close(); err == nil {
		err = cerr
	}
	if ierr := h.intake.end(); err == nil {
		err = ierr
	}
	if err == nil {
		err = h.finish(resp)
	}
	h.routed()
	if err != nil {
		h.result.Discard()
		return nil, err
	}
	return &h.result, nil
}

// harnessBundle is one bundle on one harness.
type harnessBundle struct {
	runner *Runner
	stage  *Stage
	start  *scheduler.Start
	slot   Slot
	txs    *transactions // nil unless the stage is keyed
	state  *stateHandler
	router *router
	intake *intake
	result Result

	watch *profile.Watch // nil where nobody wants to know
	aside *aside         // nil likewise

	link     *Link
	sequence *sequence                  // of a bundle of timers
	leftOut  bool                       // ItemsMax has left something out
	inputs   held                       // of blocks that are loaded and not sent
	itemsMax int                        // more items of a key and window than the bundle may have held; 0: all is well
	taken    struct{ count, bytes int } // elements of a time-sorted input
	ahead    int64                      // by how much the job's clock was ahead of the harness's when the bundle began
	begunAt  element.Time               // on the harness's clock, where that is another
	bundle   *fnapi.Bundle
	flight   *Flight
	clock    stopwatch  // while the harness is at work
	starved  bool       // it has waited for more
	growing  sync.Mutex // held while an open bundle takes more; guards input and the result until the bundle is closed
	sent     inputs     // what user code is given
	// watermark is what decisions about the newest input are taken under, groups are the key groups that the bundle owns.
	watermark element.Time
	groups    []uint16
	rest      *store.Trimmed // what a limited bundle leaves of its last block
	input     input          // of the attending goroutine while that runs
	residual  []store.Added  // likewise
	stopped   stopped        // likewise
	// splitAsked says that the harness was asked for a split.
	splitAsked bool

	received struct {
		sync.Mutex
		timers []message
	}
}

// message is a data message from the harness.
type message struct {
	transform, family string
	data              []byte
	held              int64           // of the intake's pool
	lent              *buffers.Buffer // what the data lies in; nil: memory of its own
}

// run runs the bundle to the harness's response.
func (h *harnessBundle) run(ctx context.Context) (*fnpb.ProcessBundleResponse, error) {
	defer h.inputs.release()
	var err error
	h.sent, err = h.prepare(ctx)
	if h.prepared(); err != nil {
		return nil, err
	}
	if h.runner.Ahead != nil {
		h.ahead = h.runner.Ahead()
	}
	if h.runner.Wall != nil {
		h.begunAt = h.runner.Wall()
	}
	h.clock.resume()
	defer func() {
		h.clock.pause()
		h.result.Work = h.work()
	}()
	if h.bundle, err = h.slot.Worker.StartBundle(ctx, h.request()); err != nil {
		return nil, err
	}
	h.watch.To(profile.Encode)
	h.flight = &Flight{Worker: string(h.slot.Worker.ID()), Generation: h.slot.Worker.Generation(), Instruction: string(h.slot.Instruction)}
	h.link.Flight.Store(h.flight)
	defer h.link.Flight.Store(nil)
	stop := h.attend(ctx)
	resp, err := h.exchange(ctx, h.sent)
	if serr := stop(); err == nil {
		err = serr
	}
	h.answered()
	if err == nil {
		err = h.settle(resp.GetMonitoringInfos())
	}
	if err != nil {
		return nil, h.failed(ctx, err)
	}
	return resp, nil
}

// exchange sends the inputs and waits for the response. A harness that was asked for a split need not take all of its input.
func (h *harnessBundle) exchange(ctx context.Context, in inputs) (*fnpb.ProcessBundleResponse, error) {
	err := h.send(ctx, in)
	h.inputs.release()
	if err != nil {
		select {
		case <-h.bundle.Done():
		default:
			return nil, err
		}
	}
	return h.bundle.Wait(ctx)
}

// failed ends the bundle on the harness's side and prefers the bundle's own reason to the one that followed from it.
func (h *harnessBundle) failed(ctx context.Context, err error) error {
	h.bundle.Abandon(err)
	if _, werr := h.bundle.Wait(ctx); werr != nil && !errors.Is(werr, context.Canceled) {
		return werr
	}
	return err
}

// prepare loads the bundle's data, or takes its due timers out of the rows.
func (h *harnessBundle) prepare(ctx context.Context) (inputs, error) {
	if h.start.Timers {
		return h.prepareTimers()
	}
	in := inputs{blocks: &feed{load: h.load, borrow: h.borrow}}
	h.sent = in
	if h.reads() {
		h.prepared()
		err := h.inputs.await(ctx, bytesOf(h.start.Blocks))
		if h.watch.To(profile.Memory); err != nil {
			return in, err
		}
	}
	left := h.start.Limit
	for _, b := range h.start.Blocks {
		taken := b.Count
		if h.start.Limit > 0 {
			if taken = min(taken, left); taken == 0 { // only of the last block something may be left
				return in, fault.New(fault.Internal, "scheduler-state", "a bundle of %d elements has block %d, too", h.start.Limit, b.Seq)
			}
		}
		if err := h.include(b, taken); err != nil {
			return in, err
		}
		left -= taken
	}
	return in, nil
}

// load reads a block.
func (h *harnessBundle) load(b scheduler.Block) ([]byte, error) {
	from := h.aside.now()
	data, err := h.runner.Load(h.start.Stage, b)
	h.aside.add(toLoad, from)
	return data, err
}

// borrow is load into memory that is lent.
func (h *harnessBundle) borrow(b scheduler.Block) ([]byte, *buffers.Buffer, error) {
	from := h.aside.now()
	data, lent, err := h.runner.Borrow(h.start.Stage, b)
	h.aside.add(toLoad, from)
	return data, lent, err
}

// reads says whether blocks are read before they are sent: what is in them has to be known.
func (h *harnessBundle) reads() bool { return h.stage.Stateful() || h.stage.Def.Splittable != nil }

// include takes the first elements of a block into the bundle.
func (h *harnessBundle) include(b scheduler.Block, taken int) error {
	p, l := part{block: b, count: b.Count}, loaded{block: b, items: b.Count}
	if h.reads() || taken < b.Count {
		if err := h.look(&p, &l, taken); err != nil {
			return err
		}
	}
	h.result.ElementsIn += int64(taken)
	h.result.BytesIn += int64(b.Bytes)
	h.input.add(p)
	h.sent.blocks.add(l)
	return nil
}

// work is what the harness had to do, as far as that is known.
func (h *harnessBundle) work() *scheduler.Work {
	if h.start.Timers || h.starved || h.slot.Meter == nil {
		return nil
	}
	return &scheduler.Work{
		Elements: int(h.result.ElementsIn), Busy: float64(h.clock.busy) / float64(time.Millisecond),
		Wall: float64(h.clock.wall) / float64(time.Millisecond),
	}
}

// look reads a block before it is sent: to take its first elements only, to let them in, or to count its restrictions.
func (h *harnessBundle) look(p *part, l *loaded, taken int) error {
	data, err := h.load(p.block)
	if err == nil && taken < p.count {
		data, err = h.trim(p.block, data, taken)
		p.count, p.data = taken, data
	}
	whole := len(data)
	if err == nil && h.stage.Stateful() {
		data, err = h.admit(data, p.block.Residual)
	}
	if err != nil {
		return err
	}
	if l.data, l.read, l.items = data, true, p.count; h.stage.Def.Splittable == nil && len(data) == whole {
		return nil
	}
	if l.items, _, _, err = h.stage.input.scanner.Stat(data); err != nil {
		return fault.New(fault.Corruption, "corrupt-block", "elements of %q: %w", h.stage.Def.Name, err)
	}
	if h.stage.Def.Splittable != nil {
		p.data, p.count = data, l.items
	}
	return nil
}

func bytesOf(blocks []scheduler.Block) (n int) {
	for _, b := range blocks {
		n += b.Bytes
	}
	return n
}

func (h *harnessBundle) request() fnapi.StartBundle {
	sb := fnapi.StartBundle{
		InstructionID: h.slot.Instruction, DescriptorID: h.slot.Descriptor, DataStreamID: h.slot.DataStream,
		Inputs: []string{h.stage.Def.InputRead}, CacheTokens: h.stage.cacheTokens(h.slot.Run),
		State: timedState{h.state, h.aside},
		OnData: func(transform string, data []byte, lent *buffers.Buffer) {
			h.intake.put(message{transform: transform, data: data, lent: lent})
		},
		OnTimers: func(transform, family string, data []byte) {
			h.received.Lock()
			h.received.timers = append(h.received.timers, message{transform: transform, family: family, data: data})
			h.received.Unlock()
		},
	}
	for _, o := range h.stage.outputs {
		sb.Outputs = append(sb.Outputs, o.write)
	}
	for _, t := range h.stage.timers {
		sb.TimerFamilies = append(sb.TimerFamilies, fnapi.TimerKey{Transform: t.def.Transform, Family: t.def.Family})
	}
	return sb
}

// finish turns the complete bundle into its result.
func (h *harnessBundle) finish(resp *fnpb.ProcessBundleResponse) error {
	for _, m := range h.received.timers {
		if err := h.setTimers(m); err != nil {
			return err
		}
	}
	if h.itemsMax > 0 {
		return &overrun{items: h.itemsMax}
	}
	residual, err := h.residuals(resp.GetResidualRoots())
	if err != nil {
		return err
	}
	h.residual = append(h.residual, residual...)
	if h.txs != nil {
		if h.result.Timers, err = nextTimers(h.txs, h.start.Stage, h.groups); err != nil {
			return err
		}
	}
	h.router.fill(&h.result.Commit)
	h.result.Commit.Added = append(h.result.Commit.Added, h.residual...)
	h.result.LeftOut, h.result.Decided = h.leftOut, h.watermark
	for _, b := range h.input.blocks() {
		if h.rest != nil && b.Seq == h.rest.ID.Seq {
			h.result.Commit.Trimmed = append(h.result.Commit.Trimmed, *h.rest)
			continue
		}
		h.result.Commit.Consumed = append(h.result.Commit.Consumed, blockID(b))
	}
	h.result.ElementsOut = h.router.count
	h.result.Infos = append(resp.GetMonitoringInfos(), h.router.infos()...)
	h.result.unmerged = h.router.unmerged
	if resp.GetRequiresFinalization() {
		h.result.finalize, h.result.hold = h.bundle.Finalize, h.slot.hold.again()
	}
	return nil
}
