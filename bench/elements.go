package main

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/mtime"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/sdf"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/state"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/rtrackers/offsetrange"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/register"
)

// registerAll tells the SDK of what is run in the harness.
func registerAll() {
	register.DoFn2x0[[]byte, func(int64, []byte)](&Fused{})
	register.DoFn3x1[*sdf.LockRTracker, []byte, func(int64, []byte), error](&Split{})
	register.DoFn4x2[*sdf.ManualWatermarkEstimator, *sdf.LockRTracker, []byte, func(beam.EventTime, int64, []byte),
		sdf.ProcessContinuation, error](&Stream{})
	register.DoFn3x0[int64, func(*[]byte) bool, func(Total)](&Groups{})
	register.DoFn3x0[int64, []byte, func(Total)](&Pairs{})
	register.DoFn4x1[state.Provider, int64, []byte, func(Total), error](&Remember{})
	register.DoFn3x0[[]byte, func(*int64, *[]byte) bool, func(Total)](&Side{})
	register.DoFn1x0[Total](&Result{})
	register.Function2x1(AddTotals)
	register.Emitter2[int64, []byte]()
	register.Emitter3[beam.EventTime, int64, []byte]()
	register.Emitter1[Total]()
	register.Iter1[[]byte]()
	register.Iter2[int64, []byte]()
}

// Shape is what the elements are like. Element i has a key that is computed of i, and a value that begins with i.
type Shape struct {
	Elements, Keys int64
	Size           int     // bytes of a value
	Hot            float64 // share of the elements whose key is 0
	Streams        int64   // restrictions of an unbounded source
	PerSecond      int64   // elements a second of event time, in each of them
}

// noise is what values are cut from: it does not compress.
var noise = sync.OnceValue(func() []byte {
	b := make([]byte, 1<<20)
	rng := rand.NewChaCha8([32]byte{'n', 'o', 'i', 's', 'e'})
	_, _ = rng.Read(b)
	return b
})

// mix spreads numbers over all 64 bits. Spec: splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (s Shape) key(i int64) int64 {
	h := mix(uint64(i))
	if s.Hot > 0 && float64(h>>40)/(1<<24) < s.Hot {
		return 0
	}
	return int64(h % uint64(s.Keys))
}

// value fills buf, which is reused: SDKs encode an element when it is emitted.
func (s Shape) value(i int64, buf []byte) []byte {
	buf = binary.BigEndian.AppendUint64(buf[:0], uint64(i))
	n := noise()
	for len(buf) < s.Size {
		from := int(mix(uint64(i)+uint64(len(buf))) % uint64(len(n)/2))
		buf = append(buf, n[from:from+min(len(n)/2, s.Size-len(buf))]...)
	}
	return buf
}

// Total is what comes out: how many elements, of how many groups, and the sum of what they are mixed to.
type Total struct{ Elements, Groups, Bytes, Sum int64 }

func (t *Total) take(value []byte) {
	t.Elements++
	t.Bytes += int64(len(value))
	t.Sum += int64(mix(binary.BigEndian.Uint64(value)))
}

// AddTotals is the combine function.
func AddTotals(a, b Total) Total {
	return Total{a.Elements + b.Elements, a.Groups + b.Groups, a.Bytes + b.Bytes, a.Sum + b.Sum}
}

// want is what should come out, but for the groups.
func (s Shape) want() (t Total) {
	for i := range s.Elements {
		t.Sum += int64(mix(uint64(i)))
	}
	t.Elements, t.Bytes = s.Elements, s.Elements*int64(max(s.Size, 8))
	return t
}

// Fused makes all elements in one bundle.
type Fused struct{ Shape Shape }

// ProcessElement makes the elements.
func (f *Fused) ProcessElement(_ []byte, emit func(int64, []byte)) {
	var buf []byte
	for i := range f.Shape.Elements {
		buf = f.Shape.value(i, buf)
		emit(f.Shape.key(i), buf)
	}
}

// Split is a bounded splittable source.
type Split struct{ Shape Shape }

// CreateInitialRestriction covers all elements.
func (f *Split) CreateInitialRestriction(_ []byte) offsetrange.Restriction {
	return offsetrange.Restriction{End: f.Shape.Elements}
}

// SplitRestriction makes 64 of it.
func (f *Split) SplitRestriction(_ []byte, r offsetrange.Restriction) []offsetrange.Restriction {
	return r.EvenSplits(64)
}

// RestrictionSize is the number of elements.
func (f *Split) RestrictionSize(_ []byte, r offsetrange.Restriction) float64 { return r.Size() }

// CreateTracker makes a tracker.
func (f *Split) CreateTracker(r offsetrange.Restriction) *sdf.LockRTracker {
	return sdf.NewLockRTracker(offsetrange.NewTracker(r))
}

// ProcessElement makes the elements of a restriction.
func (f *Split) ProcessElement(rt *sdf.LockRTracker, _ []byte, emit func(int64, []byte)) error {
	var buf []byte
	for i := rt.GetRestriction().(offsetrange.Restriction).Start; rt.TryClaim(i); i++ {
		buf = f.Shape.value(i, buf)
		emit(f.Shape.key(i), buf)
	}
	return rt.GetError()
}

// Stream is an unbounded source that is as fast as it may.
type Stream struct{ Shape Shape }

// CreateInitialRestriction covers all elements.
func (f *Stream) CreateInitialRestriction(_ []byte) offsetrange.Restriction {
	return offsetrange.Restriction{End: f.Shape.Elements}
}

// SplitRestriction makes the streams.
func (f *Stream) SplitRestriction(_ []byte, r offsetrange.Restriction) []offsetrange.Restriction {
	return r.EvenSplits(f.Shape.Streams)
}

// RestrictionSize is the number of elements.
func (f *Stream) RestrictionSize(_ []byte, r offsetrange.Restriction) float64 { return r.Size() }

// CreateTracker makes a tracker.
func (f *Stream) CreateTracker(r offsetrange.Restriction) *sdf.LockRTracker {
	return sdf.NewLockRTracker(offsetrange.NewTracker(r))
}

// InitialWatermarkEstimatorState begins a stream.
func (f *Stream) InitialWatermarkEstimatorState(_ beam.EventTime, _ offsetrange.Restriction, _ []byte) int64 {
	return mtime.MinTimestamp.Milliseconds()
}

// CreateWatermarkEstimator goes on where the last bundle was.
func (f *Stream) CreateWatermarkEstimator(ms int64) *sdf.ManualWatermarkEstimator {
	return &sdf.ManualWatermarkEstimator{State: mtime.Time(ms).ToTime()}
}

// WatermarkEstimatorState is where this bundle is.
func (f *Stream) WatermarkEstimatorState(e *sdf.ManualWatermarkEstimator) int64 {
	return mtime.FromTime(e.State).Milliseconds()
}

// TruncateRestriction leaves nothing for a drain.
func (f *Stream) TruncateRestriction(_ *sdf.LockRTracker, _ []byte) offsetrange.Restriction {
	return offsetrange.Restriction{}
}

// ProcessElement makes elements until it is asked to stop.
func (f *Stream) ProcessElement(we *sdf.ManualWatermarkEstimator, rt *sdf.LockRTracker, _ []byte,
	emit func(beam.EventTime, int64, []byte),
) (sdf.ProcessContinuation, error) {
	var buf []byte
	perStream := (f.Shape.Elements + f.Shape.Streams - 1) / f.Shape.Streams
	i := rt.GetRestriction().(offsetrange.Restriction).Start
	for ; rt.TryClaim(i); i++ {
		at := time.UnixMilli(0).Add(time.Duration(i%perStream) * time.Second / time.Duration(f.Shape.PerSecond))
		if i%1000 == 0 {
			we.UpdateWatermark(at)
		}
		buf = f.Shape.value(i, buf)
		emit(mtime.FromTime(at), f.Shape.key(i), buf)
	}
	return sdf.StopProcessing(), rt.GetError()
}

// Groups reads grouped values.
type Groups struct{ Pause time.Duration }

// ProcessElement reads one group.
func (f *Groups) ProcessElement(_ int64, values func(*[]byte) bool, emit func(Total)) {
	t := Total{Groups: 1}
	var v []byte
	for values(&v) {
		t.take(v)
	}
	time.Sleep(f.Pause)
	emit(t)
}

// Pairs reads elements that are not grouped.
type Pairs struct{}

// ProcessElement reads one.
func (f *Pairs) ProcessElement(_ int64, value []byte, emit func(Total)) {
	var t Total
	t.take(value)
	emit(t)
}

// Remember keeps the last value of each key in state.
type Remember struct{ Last state.Value[[]byte] }

// ProcessElement reads the last value and writes the next.
func (f *Remember) ProcessElement(p state.Provider, _ int64, value []byte, emit func(Total)) error {
	var t Total
	if _, known, err := f.Last.Read(p); err != nil {
		return err
	} else if !known {
		t.Groups++
	}
	t.take(value)
	emit(t)
	return f.Last.Write(p, value)
}

// Side reads a side input.
type Side struct{}

// ProcessElement reads all of it.
func (f *Side) ProcessElement(_ []byte, all func(*int64, *[]byte) bool, emit func(Total)) {
	var t Total
	var k int64
	var v []byte
	for all(&k, &v) {
		t.take(v)
	}
	emit(t)
}

// Result keeps what came out of a job, which runs in this process.
type Result struct{ Job int }

var results sync.Map // job → Total

// ProcessElement keeps it. A bundle that runs again brings the same.
func (f *Result) ProcessElement(t Total) { results.Store(f.Job, t) }
