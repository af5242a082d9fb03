package bundle

import (
	"slices"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/engine/coder"
	"padstone/engine/scheduler"
	"padstone/engine/store"
	"padstone/internal/fault"
)

// part is a run of a bundle's input: a block, or what splits have left of one.
type part struct {
	block scheduler.Block
	count int    // elements on the data channel
	data  []byte // as sent; nil where it is what the block holds and can be loaded again
}

// input is what a bundle has of its data: parts in the order in which they were sent. A split takes off its end; then the bundle has
// the primary root of the element that was split, too. Elements are numbered by their place on the data channel.
type input struct {
	parts []part
	// roots is the block of the primary root: what the bundle has of the elements that splits have divided. They were on the channel,
	// behind the parts. nil when none was divided, and with splits whose residuals are in the bundle's own commit.
	roots   *scheduler.Block
	planned int // elements of the parts
	divided int // elements that splits have divided
}

func (in *input) add(p part) {
	in.parts = append(in.parts, p)
	in.planned += p.count
}

// blocks are the blocks that the bundle's commit consumes.
func (in *input) blocks() []scheduler.Block {
	var all []scheduler.Block
	for _, p := range in.parts {
		all = append(all, p.block)
	}
	if in.roots != nil {
		all = append(all, *in.roots)
	}
	return all
}

// tail is what a split takes off the end of a bundle's input.
type tail struct {
	whole []scheduler.Block // blocks of which no element is or was processed
	// cut is the part in which the split lies, nil when it lies between two: data[:keep], left elements, stay, and data[from:], gone
	// elements, go. What lies between is in the roots.
	cut        *part
	data       []byte
	keep, from int
	left, gone int
}

// channelSplit takes what the answer to a split gives up off the input. It must divide no element that is not the bundle's any more.
func (h *harnessBundle) channelSplit(cs *fnpb.ProcessBundleSplitResponse_ChannelSplit, roots int) (tail, error) {
	in := &h.input
	keep, first := int(cs.GetLastPrimaryElement())+1, int(cs.GetFirstResidualElement())
	if roots > 0 && first > in.planned+in.divided {
		return tail{}, h.contradiction(keep, first)
	}
	first, keep = min(first, in.planned), min(keep, in.planned)
	if keep < first && roots == 0 || keep < in.planned && in.divided > 0 {
		return tail{}, h.contradiction(keep, first)
	}
	return h.split(keep, first)
}

// split takes the elements of a channel split off the input: [first, planned) are no longer the bundle's, [0, keep) still are, and
// what lies between is in the roots. A later split reaches up to where the one before kept, not to where its residual began.
// Spec: beam_fn_api.proto ProcessBundleSplitResponse.ChannelSplit.
func (h *harnessBundle) split(keep, first int) (tail, error) {
	in := &h.input
	var t tail
	var kept []part
	at := 0
	for i := range in.parts {
		p := &in.parts[i]
		from, to := at, at+p.count
		at = to
		switch {
		case to <= keep:
			kept = append(kept, *p)
		case from >= first:
			t.whole = append(t.whole, p.block)
			h.result.ElementsIn -= int64(p.count)
		default:
			t.cut, t.left, t.gone = p, max(0, keep-from), max(0, to-first)
			if err := h.cutPart(&t, first-from); err != nil {
				return t, err
			}
			h.result.ElementsIn -= int64(t.gone)
		}
	}
	in.parts, in.planned = kept, keep
	in.divided += first - keep
	return t, nil
}

// cutPart finds where in the bytes of the part the split lies: behind t.left elements, and before the one with the number.
func (h *harnessBundle) cutPart(t *tail, first int) (err error) {
	if t.data = t.cut.data; t.data == nil {
		if t.data, err = h.runner.Load(h.start.Stage, t.cut.block); err != nil {
			return err
		}
	}
	t.keep, t.from = len(t.data), len(t.data)
	var el coder.Elem
	rest := t.data
	for i := 0; len(rest) > 0 && i <= first; i++ {
		if i == t.left {
			t.keep = len(t.data) - len(rest)
		}
		if i == first {
			t.from = len(t.data) - len(rest)
		}
		if rest, err = h.stage.input.scanner.Next(rest, &el); err != nil {
			return fault.New(fault.Corruption, "corrupt-block", "elements of %q: %w", h.stage.Def.Name, err)
		}
	}
	return nil
}

// piece makes a block of elements that were in another one: it holds the watermark as that one does, and goes on referring to what
// that one refers to.
func (h *harnessBundle) piece(of scheduler.Block, data []byte, ahead *store.Ahead) (store.Added, error) {
	hd := store.Header{
		Bytes: len(data), MaxWindow: of.MaxWindow, AvailableAt: of.AvailableAt, Hold: of.Hold, Residual: h.stage.Def.Splittable != nil,
	}
	var err error
	if hd.Count, hd.MinTS, hd.MaxTS, err = h.stage.input.scanner.Stat(data); err != nil {
		return store.Added{}, h.badResidual(err)
	}
	hd.Size = h.stage.input.sizes(data)
	b := store.Block{Header: hd, Data: data, RefsOf: of.Seq}
	if len(data) > blocksBytesMax {
		body := ahead.New()
		if err := body.Append(data); err != nil {
			return store.Added{}, err
		}
		b.Data, b.Body = nil, body.ID()
	}
	return store.Added{Stage: uint32(h.start.Stage), Group: of.Group, Edge: uint32(of.Edge), Block: b}, nil
}

// trim cuts the data of a block behind its first elements: they are the bundle's, what follows stays where it is.
func (h *harnessBundle) trim(of scheduler.Block, data []byte, elements int) ([]byte, error) {
	n, err := h.behind(data, elements)
	if err != nil {
		return nil, err
	}
	a, err := h.piece(of, data[n:], h.result.Commit.Ahead)
	if err != nil {
		return nil, err
	}
	a.Block.RefsOf, a.Block.Residual = 0, of.Residual
	h.rest = &store.Trimmed{ID: blockID(of), Block: a.Block}
	return data[:n:n], nil
}

// behind returns where the first elements of data end.
func (h *harnessBundle) behind(data []byte, elements int) (int, error) {
	var el coder.Elem
	rest := data
	for range elements {
		var err error
		if rest, err = h.stage.input.scanner.Next(rest, &el); err != nil {
			return 0, fault.New(fault.Corruption, "corrupt-block", "elements of %q: %w", h.stage.Def.Name, err)
		}
	}
	return len(data) - len(rest), nil
}

// Divide cuts a waiting block of a FIFO stage into parts of so many elements, and the rest. Added are all parts.
func (r *Runner) Divide(stage int, of scheduler.Block, parts ...int) (*store.Commit, error) {
	h := &harnessBundle{runner: r, stage: r.Job.Stages[stage], start: &scheduler.Start{Stage: stage}}
	h.result.Commit = store.Commit{Stage: uint32(stage), Ahead: r.Store.WriteAhead(), Consumed: []store.BlockID{blockID(of)}}
	err := func() error {
		data, err := r.Load(stage, of)
		if err != nil {
			return err
		}
		for _, elements := range append(slices.Clip(parts), of.Count) {
			n := len(data)
			if elements < of.Count {
				if n, err = h.behind(data, elements); err != nil {
					return err
				}
			}
			a, err := h.piece(of, data[:n:n], h.result.Commit.Ahead)
			if err != nil {
				return err
			}
			a.Block.Residual = of.Residual
			h.result.Commit.Added = append(h.result.Commit.Added, a)
			data = data[n:]
		}
		return nil
	}()
	if err != nil {
		h.result.Discard()
		return nil, err
	}
	return &h.result.Commit, nil
}

// SchedulerBlock is what the scheduler knows of a stored block.
func SchedulerBlock(group uint16, edge int, h store.Header) scheduler.Block {
	return scheduler.Block{
		Group: group, Edge: edge, Seq: h.Seq, Count: h.Count, Bytes: h.Bytes, Size: h.Size,
		MaxWindow: h.MaxWindow, AvailableAt: h.AvailableAt, Hold: h.Hold, Residual: h.Residual,
	}
}
