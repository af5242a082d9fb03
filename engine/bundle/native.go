package bundle

import (
	"context"
	"time"

	"padstone/connector"
	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/profile"
	"padstone/engine/scheduler"
	"padstone/engine/store"
	"padstone/internal/fault"
)

// Impulse runs the only bundle of an Impulse stage: one element of no bytes, at the beginning of time in the global window.
// Spec: beam_runner_api.proto IMPULSE.
func (r *Runner) Impulse(start *scheduler.Start) (*Result, error) {
	st := r.Job.Stages[start.Stage]
	rt := r.newRouter()
	data := coder.AppendHeader(nil, element.MinTime, 1, nil, []byte{coder.NoFiring})
	data = append(data, 0) // bytes of length 0, nested
	for _, o := range st.outputs {
		if err := rt.write(o, data); err != nil {
			return nil, err
		}
	}
	res := &Result{
		Commit: store.Commit{Stage: uint32(start.Stage)}, ElementsOut: rt.count, Watermark: element.MaxTime, Done: true,
	}
	rt.fill(&res.Commit)
	res.Infos = rt.infos()
	return res, nil
}

// Poll bounds of a source bundle: the elements and bytes it takes, and how long it waits for the first one.
const (
	pollElementsMax = 50_000
	pollBytesMax    = 8 << 20
	pollWait        = 100 * time.Millisecond
)

// Source runs one bundle of a native source: what one poll brings, with the positions behind it. last is the watermark of the
// bundle before.
func (r *Runner) Source(
	ctx context.Context, start *scheduler.Start, reader connector.Reader, last element.Time, w *profile.Watch,
) (*Result, error) {
	st := r.Job.Stages[start.Stage]
	batch, err := reader.Poll(ctx, pollElementsMax, pollBytesMax, pollWait)
	if w.To(profile.Poll); err != nil {
		return nil, sourceError(err, st)
	}
	rt := r.newRouter()
	for _, o := range st.outputs {
		if err := rt.write(o, batch.Data); err != nil {
			return nil, err
		}
	}
	res := &Result{
		Commit:      store.Commit{Stage: uint32(start.Stage)},
		ElementsOut: int64(batch.Count), Watermark: batch.Watermark, Done: batch.Done, Positions: batch.Positions,
		Empty: len(batch.Data) == 0 && len(batch.Positions) == 0 && batch.Watermark <= last && !batch.Done,
	}
	rt.fill(&res.Commit)
	res.Infos = rt.infos()
	if batch.Done {
		res.Watermark = element.MaxTime
	}
	for _, p := range batch.Positions {
		res.Commit.Positions = append(res.Commit.Positions, store.Entry{Name: p.Split, Value: p.State})
	}
	return res, nil
}

// sourceError names the user's transform.
func sourceError(err error, st *Stage) error {
	if fault.Of(err) != nil {
		return fault.Named(err, st.Def.Name)
	}
	return fault.New(fault.Environment, "source-read", "%w", err).In(st.Def.Name)
}

// Sink moves the waiting elements of a native sink into its outbox. They leave it once they are durable.
func (r *Runner) Sink(start *scheduler.Start, w *profile.Watch) (*Result, error) {
	res := &Result{Commit: store.Commit{Stage: uint32(start.Stage), Consumed: consumed(start)}}
	for _, b := range start.Blocks {
		w.To(profile.Process)
		data, err := r.Load(start.Stage, b)
		if w.To(profile.Load); err != nil {
			return nil, err
		}
		count, lo, hi, err := r.Job.Stages[start.Stage].input.scanner.Stat(data)
		if err != nil {
			return nil, fault.New(fault.Corruption, "corrupt-block", "elements of %q: %w", r.Job.Stages[start.Stage].Def.Name, err)
		}
		res.ElementsIn += int64(count)
		res.Commit.Outbox = append(res.Commit.Outbox, store.Block{
			Data: data,
			Header: store.Header{
				Count: count, Bytes: len(data), MinTS: lo, MaxTS: hi, MaxWindow: hi, AvailableAt: element.MinTime, Hold: lo,
			},
		})
	}
	res.ElementsOut = res.ElementsIn
	return res, nil
}
