package fakesdk

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// URNs of the steps of a splittable DoFn. Spec: beam_runner_api.proto StandardPTransforms.SplittableParDoComponents.
const (
	urnPair     = "beam:transform:sdf_pair_with_restriction:v1"
	urnSplit    = "beam:transform:sdf_split_and_size_restrictions:v1"
	urnProcess  = "beam:transform:sdf_process_sized_element_and_restrictions:v1"
	urnTruncate = "beam:transform:sdf_truncate_sized_restrictions:v1"
)

// Ranges is a splittable DoFn: an element x with the restriction [from, to) yields the bytes "x:offset" for each offset. Elements are
// bytes, or KV<bytes, bytes>, of which the value is numbered; restrictions are length-prefixed: two 8-byte big-endian numbers.
type Ranges struct {
	From, To int64
	// Checkpoint is after how many offsets the DoFn gives the rest back as a residual; 0 is never.
	Checkpoint int64
	// Unbounded makes residuals unbounded and a truncated restriction empty.
	Unbounded bool
	// Pieces is into how many restrictions the initial one is split; 0 is one.
	Pieces int64
	// DelayMs is how long the residual of a checkpoint asks to wait.
	DelayMs int64
	// StampMs makes offset n come out at event time n×StampMs, and residuals hold the watermark there; 0 is the input's time, and no
	// watermark in residuals.
	StampMs int64
	// Claimed is called with each offset that is claimed, before it is put out; key is that of a KV. May be nil.
	Claimed func(c *Context, in Element, key []byte, offset int64) error `json:"-"`
}

// ranging makes a Ranges of its JSON.
func ranging(payload []byte) (DoFn, error) {
	var r Ranges
	err := json.Unmarshal(payload, &r)
	return DoFn{Ranges: &r}, err
}

func restriction(from, to int64) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(from))
	return Nested(binary.BigEndian.AppendUint64(b, uint64(to)))
}

func parseRestriction(nested []byte) (from, to int64, err error) {
	b := Bytes(nested)
	if len(b) != 16 {
		return 0, 0, fmt.Errorf("restriction of %d bytes", len(b))
	}
	return int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:])), nil
}

// Sized returns the encoding of KV(KV(x, restriction), size): an input of the process step. x is nested encoding.
func Sized(x []byte, from, to int64) []byte {
	out := append(bytes.Clone(x), restriction(from, to)...)
	return binary.BigEndian.AppendUint64(out, math.Float64bits(float64(to-from)))
}

// cutRestriction takes KV(x, restriction), maybe with a size behind it, apart.
func (n *node) cutRestriction(value []byte) (x []byte, from, to int64, err error) {
	rest, err := n.element(value)
	if err != nil {
		return nil, 0, 0, err
	}
	x = value[:len(value)-len(rest)]
	tail, err := lengthPrefixed(rest)
	if err != nil {
		return nil, 0, 0, err
	}
	from, to, err = parseRestriction(rest[:len(rest)-len(tail)])
	return x, from, to, err
}

// step runs one step of the splittable DoFn on an element.
func (r *Ranges) step(c *Context, urn string, in Element) error {
	if urn == urnPair {
		in.Value = append(bytes.Clone(in.Value), restriction(r.From, r.To)...)
		return c.Emit("", in)
	}
	x, from, to, err := c.node.cutRestriction(in.Value)
	if err != nil {
		return err
	}
	switch urn {
	case urnSplit:
		return r.split(c, in, x, from, to)
	case urnTruncate:
		if r.Unbounded {
			return nil
		}
		return c.Emit("", in)
	case urnProcess:
		return r.process(c, in, x, from, to)
	}
	return errors.New("a splittable DoFn cannot run as " + urn)
}

func (r *Ranges) split(c *Context, in Element, x []byte, from, to int64) error {
	pieces := max(r.Pieces, 1)
	for i := range pieces {
		a, b := from+(to-from)*i/pieces, from+(to-from)*(i+1)/pieces
		in.Value = Sized(x, a, b)
		if err := c.Emit("", in); err != nil {
			return err
		}
	}
	return nil
}

// tracker is the restriction that is being processed; guarded by the bundle's lock.
type tracker struct {
	transform, input, output string
	ranges                   *Ranges
	element                  Element
	x                        []byte
	from, next, to           int64
}

// process claims offsets until the restriction, which a split may shorten, is done.
func (r *Ranges) process(c *Context, in Element, x []byte, from, to int64) error {
	b := c.bundle
	t := &tracker{
		transform: c.node.id, input: c.node.mainInput, output: only(c.node.outputs),
		ranges: r, element: in, x: x, from: from, next: from, to: to,
	}
	b.mu.Lock()
	b.tracker = t
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.tracker = nil
		b.mu.Unlock()
	}()
	for claimed := int64(0); ; claimed++ {
		b.mu.Lock()
		if r.Checkpoint > 0 && claimed >= r.Checkpoint && t.next < t.to {
			rest := t.residual(t.next, t.to)
			if r.DelayMs > 0 {
				rest.RequestedTimeDelay = durationpb.New(time.Duration(r.DelayMs) * time.Millisecond)
			}
			b.residuals = append(b.residuals, rest)
			t.to = t.next
		}
		offset, more := t.next, t.next < t.to
		t.next++
		b.mu.Unlock()
		if !more {
			return nil
		}
		var key []byte
		if c.node.elementKey != nil {
			rest, err := c.node.elementKey(x)
			if err != nil {
				return err
			}
			key = x[:len(x)-len(rest)]
		}
		if r.Claimed != nil {
			if err := r.Claimed(c, in, key, offset); err != nil {
				return err
			}
		}
		out := in
		out.Value = append(bytes.Clone(key), Nested(fmt.Appendf(nil, "%s:%d", Bytes(x[len(key):]), offset))...)
		if r.StampMs > 0 {
			out.Timestamp = offset * r.StampMs
		}
		if err := c.Emit("", out); err != nil {
			return err
		}
		if c.bundle.harness.cfg.OnClaim != nil {
			c.bundle.harness.cfg.OnClaim(offset)
		}
	}
}

// application is the rest or the beginning of the element as an input of the transform.
func (t *tracker) application(from, to int64) *fnpb.BundleApplication {
	e := t.element
	e.Value = Sized(t.x, from, to)
	bounded := pipepb.IsBounded_BOUNDED
	if t.ranges.Unbounded {
		bounded = pipepb.IsBounded_UNBOUNDED
	}
	app := &fnpb.BundleApplication{TransformId: t.transform, InputId: t.input, Element: e.Append(nil), IsBounded: bounded}
	if t.ranges.StampMs > 0 {
		app.OutputWatermarks = map[string]*timestamppb.Timestamp{
			t.output: timestamppb.New(time.UnixMilli(from * t.ranges.StampMs)),
		}
	}
	return app
}

func (t *tracker) residual(from, to int64) *fnpb.DelayedBundleApplication {
	return &fnpb.DelayedBundleApplication{Application: t.application(from, to)}
}

// split answers a split request. index is the current element of the source, -1 before the first; the caller holds b's lock.
func (b *bundle) splitLocked(transform string, want *fnpb.ProcessBundleSplitRequest_DesiredSplit) *fnpb.ProcessBundleSplitResponse {
	if t := b.tracker; b.harness.cfg.Rounds && t != nil && b.index > 0 && b.stop < 0 {
		b.stop = b.index // it looks at that after the element
		return &fnpb.ProcessBundleSplitResponse{ChannelSplits: []*fnpb.ProcessBundleSplitResponse_ChannelSplit{{
			TransformId: transform, LastPrimaryElement: b.index - 1, FirstResidualElement: b.index,
		}}}
	}
	total := max(want.GetEstimatedInputElements(), b.index+1)
	if b.stop >= 0 {
		total = min(total, b.stop)
	}
	progress := 0.5 // of an element that cannot be split, as SDKs assume
	t := b.tracker
	switch {
	case b.index < 0: // before the first
		progress = 1
	case t != nil && t.to > t.from:
		progress = float64(t.next-t.from) / float64(t.to-t.from)
	}
	remainder := float64(total-b.index-1) + 1 - progress
	keep := remainder * want.GetFractionOfRemainder()
	if t != nil && keep < 1-progress {
		if mid := t.next + int64(keep*float64(t.to-t.from)); mid < t.to {
			resp := &fnpb.ProcessBundleSplitResponse{
				PrimaryRoots:  []*fnpb.BundleApplication{t.application(t.from, mid)},
				ResidualRoots: []*fnpb.DelayedBundleApplication{t.residual(mid, t.to)},
				ChannelSplits: []*fnpb.ProcessBundleSplitResponse_ChannelSplit{{
					TransformId: transform, LastPrimaryElement: b.index - 1, FirstResidualElement: b.index + 1,
				}},
			}
			t.to, b.stop = mid, b.index+1
			return resp
		}
	}
	first := max(b.index+1, b.index+1+int64(math.Round(keep-(1-progress))))
	first = max(first, 1) // at least one element is kept
	for _, allowed := range want.GetAllowedSplitPoints() {
		if allowed >= first {
			first = allowed
			break
		}
	}
	if first >= total {
		return &fnpb.ProcessBundleSplitResponse{}
	}
	b.stop = first
	return &fnpb.ProcessBundleSplitResponse{ChannelSplits: []*fnpb.ProcessBundleSplitResponse_ChannelSplit{{
		TransformId: transform, LastPrimaryElement: first - 1, FirstResidualElement: first,
	}}}
}
