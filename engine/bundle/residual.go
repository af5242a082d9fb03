package bundle

import (
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/store"
	"padstone/internal/fault"
)

// residuals makes blocks of the restrictions that the harness returned. They wait in the stage's own inbox, for their delay, and hold
// its watermark where the harness said that later output may begin.
// Spec: beam_fn_api.proto DelayedBundleApplication, BundleApplication.output_watermarks.
func (h *harnessBundle) residuals(roots []*fnpb.DelayedBundleApplication) (added []store.Added, err error) {
	for _, root := range roots {
		app := root.GetApplication()
		if sp := h.stage.Def.Splittable; sp == nil || app.GetTransformId() != sp.Transform {
			return nil, fault.New(fault.Environment, "harness-protocol",
				"the harness returned a restriction for transform %q of stage %q, which has none", app.GetTransformId(), h.stage.Def.Name)
		}
		var el coder.Elem
		rest, err := h.stage.input.scanner.Next(app.GetElement(), &el)
		if err != nil || len(rest) > 0 {
			return nil, h.badResidual(err)
		}
		hold := el.TS
		if marks := app.GetOutputWatermarks(); len(marks) > 0 {
			hold = element.MaxTime
			for _, m := range marks {
				hold = min(hold, element.Time(m.AsTime().UnixMilli()))
			}
		}
		added = append(added, h.residualBlock(&el, hold, root.GetRequestedTimeDelay().AsDuration()))
	}
	return added, nil
}

// badResidual is the error about a returned restriction that cannot be framed, or is not one element (err is nil).
func (h *harnessBundle) badResidual(err error) error {
	if err == nil {
		err = coder.ErrMalformed
	}
	return fault.New(fault.Environment, "harness-protocol", "a returned restriction of %q does not follow its coder: %w",
		h.stage.Def.Name, err)
}

// residualBlock puts one restriction back into the stage's inbox: on a keyed stage, into the key group of its key.
func (h *harnessBundle) residualBlock(el *coder.Elem, hold element.Time, delay time.Duration) store.Added {
	e := h.stage.input
	b := store.Block{Data: el.Raw, Header: store.Header{
		Count: 1, Bytes: len(el.Raw), MinTS: el.TS, MaxTS: el.TS, MaxWindow: el.TS, Size: e.sizeOf(el.Raw),
		AvailableAt: element.MinTime, Hold: max(hold, element.MinTime), Residual: true,
	}}
	if delay > 0 {
		b.AvailableAt = h.runner.Now().Add(delay.Milliseconds())
	}
	a := store.Added{Stage: uint32(h.start.Stage), Edge: uint32(e.index), Block: b}
	if h.txs != nil {
		a.Group = coder.KeyGroup(el.Key, h.runner.Job.Plan.KeyGroups)
	}
	return a
}
