package bundle

import (
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/store"
	"padstone/internal/fault"
)

// residuals takes the restrictions that the harness returned. They wait in the stage's own inbox, for their delay, and hold its
// watermark where the harness said that later output may begin.
// Spec: beam_fn_api.proto DelayedBundleApplication, BundleApplication.output_watermarks.
func (h *harnessBundle) residuals(roots []*fnpb.DelayedBundleApplication) error {
	for _, root := range roots {
		app := root.GetApplication()
		if sp := h.stage.Def.Splittable; sp == nil || app.GetTransformId() != sp.Transform {
			return fault.New(fault.Environment, "harness-protocol",
				"the harness returned a restriction for transform %q of stage %q, which has none", app.GetTransformId(), h.stage.Def.Name)
		}
		count, ts, _, err := h.stage.input.scanner.Stat(app.GetElement())
		if err != nil || count != 1 {
			return h.badResidual(err)
		}
		hold := ts
		if marks := app.GetOutputWatermarks(); len(marks) > 0 {
			hold = element.MaxTime
			for _, m := range marks {
				hold = min(hold, element.Time(m.AsTime().UnixMilli()))
			}
		}
		if err := h.addResidual(app.GetElement(), hold, root.GetRequestedTimeDelay().AsDuration()); err != nil {
			return err
		}
	}
	return nil
}

// badResidual is the error about a returned restriction that cannot be framed, or is not one element (err is nil).
func (h *harnessBundle) badResidual(err error) error {
	if err == nil {
		err = coder.ErrMalformed
	}
	return fault.New(fault.Environment, "harness-protocol", "a returned restriction of %q does not follow its coder: %w",
		h.stage.Def.Name, err)
}

// addResidual puts one restriction back into the stage's inbox.
func (h *harnessBundle) addResidual(data []byte, hold element.Time, delay time.Duration) error {
	_, lo, hi, err := h.stage.input.scanner.Stat(data)
	if err != nil {
		return h.badResidual(err)
	}
	b := store.Block{Data: data, Header: store.Header{
		Count: 1, Bytes: len(data), MinTS: lo, MaxTS: hi, MaxWindow: hi,
		AvailableAt: element.MinTime, Hold: max(hold, element.MinTime), Residual: true,
	}}
	if delay > 0 {
		b.AvailableAt = h.runner.Now().Add(delay.Milliseconds())
	}
	added := store.Added{Stage: uint32(h.start.Stage), Edge: uint32(h.stage.input.index), Block: b}
	h.residual.Lock()
	h.residual.blocks = append(h.residual.blocks, added)
	h.residual.Unlock()
	return nil
}
