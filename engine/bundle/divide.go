package bundle

import (
	"context"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"go.uber.org/zap"

	"padstone/engine/scheduler"
	"padstone/engine/store"
	"padstone/internal/fault"
)

// Division is a split that is to be committed: the rows of the bundle's blocks are replaced by those of its primary and of its residual.
// So a bundle that fails later, or a job that is recovered, runs both, each once, wherever they are then.
type Division struct {
	Commit   store.Commit      // Added holds the bundle's own new blocks, then those of the residual
	Own      int               // how many of Added are the bundle's own
	Kept     []scheduler.Block // blocks that the bundle goes on with as they are
	Returned []scheduler.Block // blocks of the bundle that go back as they are
}

// divide asks for a split in the middle of what is left and has it committed.
func (h *harnessBundle) divide(ctx context.Context) error {
	if _, err := h.absorb(ctx); err != nil { // what is to be sent yet belongs to the bundle as well
		return err
	}
	if err := h.sent.blocks.pin(); err != nil {
		return err
	}
	resp, err := h.bundle.Split(ctx, h.splitRequest(0.5))
	if refused(err) {
		return h.notDivided(ctx, err)
	}
	if err != nil {
		return err
	}
	if len(resp.GetChannelSplits()) == 0 {
		h.link.Undivided()
		return nil
	}
	v := &divider{h: h, d: &Division{Commit: store.Commit{
		Stage: uint32(h.start.Stage), Ahead: h.runner.Store.WriteAhead(),
	}}}
	defer v.d.Commit.Ahead.Discard() // harmless once committed
	if err := v.plan(resp); err != nil {
		return err
	}
	if len(v.d.Returned)+len(v.d.Commit.Added) == 0 { // Go answers so where the bundle's last element cannot be split
		h.link.Undivided()
		return nil
	}
	if err := h.link.Divide(ctx, v.d); err != nil {
		return err
	}
	v.committed()
	return nil
}

// notDivided looks at the harness's refusal to split. If the bundle still runs, user code has failed in the middle of the split, and nobody
// knows what became of the restriction: the bundle has failed. If it has ended, that may be why the harness refuses, or it ended so soon
// because of what the split had taken away: a bundle of restrictions runs again then.
func (h *harnessBundle) notDivided(ctx context.Context, refusal error) error {
	resp, err := h.bundle.Progress(ctx)
	if err == nil && len(resp.GetMonitoringInfos()) > 0 {
		return fault.New(fault.Pipeline, "split-failed", "a bundle could not be split: %w", refusal).In(h.stage.Def.Name)
	}
	if h.stage.Def.Splittable != nil {
		select {
		case <-h.bundle.Done(): // if it has failed, its own reason is the better one
		case <-ctx.Done():
		}
		return refusal
	}
	h.runner.Log.Debug("the harness refuses to split", zap.String("stage", h.stage.Def.Name), zap.Error(refusal))
	h.link.Undivided()
	return nil
}

// divider makes the division that a split amounts to.
type divider struct {
	h     *harnessBundle
	d     *Division
	left  int  // elements of the bundle's own new block
	roots bool // the last of the bundle's own new blocks is the primary root
}

func (v *divider) plan(resp *fnpb.ProcessBundleSplitResponse) error {
	h, c := v.h, &v.d.Commit
	var residual []store.Added
	of := h.input.roots // what holds the watermark for the element that is divided
	for _, cs := range resp.GetChannelSplits() {
		t, err := h.channelSplit(cs, len(resp.GetPrimaryRoots())+len(resp.GetResidualRoots()))
		if err != nil {
			return err
		}
		v.d.Returned = append(v.d.Returned, t.whole...)
		if t.cut == nil {
			continue
		}
		of = &t.cut.block
		c.Consumed = append(c.Consumed, blockID(*of))
		if v.left = t.left; t.left > 0 {
			if err := v.add(*of, t.data[:t.keep:t.keep]); err != nil {
				return err
			}
		}
		if t.gone > 0 {
			a, err := h.piece(*of, t.data[t.from:], c.Ahead)
			if err != nil {
				return err
			}
			residual = append(residual, a)
		}
	}
	for _, p := range h.input.parts {
		v.d.Kept = append(v.d.Kept, p.block)
	}
	if err := v.primary(of, resp.GetPrimaryRoots()); err != nil {
		return err
	}
	v.d.Own = len(c.Added)
	roots, err := h.residuals(resp.GetResidualRoots())
	c.Added = append(append(c.Added, residual...), roots...)
	return err
}

// add adds a block of the bundle's own.
func (v *divider) add(of scheduler.Block, data []byte) error {
	a, err := v.h.piece(of, data, v.d.Commit.Ahead)
	v.d.Commit.Added = append(v.d.Commit.Added, a)
	return err
}

// primary keeps what the bundle has of the element that was divided. A split of an element that was divided before tells all that is left.
func (v *divider) primary(of *scheduler.Block, roots []*fnpb.BundleApplication) error {
	var data []byte
	for _, root := range roots {
		data = append(data, root.GetElement()...)
	}
	before := v.h.input.roots
	if len(data) == 0 {
		if before != nil {
			v.d.Kept = append(v.d.Kept, *before)
		}
		return nil
	}
	if of == nil {
		return fault.New(fault.Environment, "harness-protocol", "the harness split an element of the input of %q that it did not have",
			v.h.stage.Def.Name)
	}
	if before != nil {
		v.d.Commit.Consumed = append(v.d.Commit.Consumed, blockID(*before))
	}
	v.roots = true
	return v.add(*of, data)
}

// committed gives the bundle its new blocks, which have their sequences now.
func (v *divider) committed() {
	in := &v.h.input
	for i, a := range v.d.Commit.Added[:v.d.Own] {
		b := SchedulerBlock(a.Group, int(a.Edge), a.Block.Header)
		if v.roots && i == v.d.Own-1 {
			in.roots = &b
			continue
		}
		p := part{block: b, count: v.left}
		if v.h.stage.Def.Splittable != nil {
			p.data = a.Block.Data
		}
		in.parts = append(in.parts, p)
	}
}
