package group

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"padstone/engine/element"
	"padstone/engine/rows"
	"padstone/engine/window"
	"padstone/internal/fault"
)

const (
	// runsMax bounds the runs that are merged at a time, so that their buffers stay small beside the budget.
	runsMax     = 128
	writeBuffer = 256 << 10
	readBuffer  = 64 << 10
	frameMax    = 64 << 10 // a frame of values is longer only for the sake of a single value
)

// sorter groups by sorting. A run is a file of records in order of key and window; of sessions, in order of key and start, merged
// as far as the run goes. Merging runs in that order brings together what belongs together.
//
// Record: key and window with their lengths, number of values uvarint, combined timestamp 8 bytes; then frames of values, each with
// its length as a uvarint, and one of length 0.
type sorter struct {
	m       *Machine
	scratch rows.Scratch
	runs    []rows.ScratchFile // oldest first
	out     *bufio.Writer      // of the run that is being written: there is one at a time
}

// spill writes what the grouper holds as one run. The grouper is used up.
func (s *sorter) spill(g *grouper) error {
	w, err := s.create()
	if err != nil {
		return err
	}
	order := make([]int32, len(g.buckets))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		x, y := &g.buckets[a], &g.buckets[b]
		if c := bytes.Compare(x.key, y.key); c != 0 || s.m.merging {
			return c
		}
		return bytes.Compare(g.windows[x.win], g.windows[y.win])
	})
	for _, i := range order {
		b := &g.buckets[i]
		if !s.m.merging {
			w.record(g, b.key, g.windows[b.win], &b.run)
			continue
		}
		found, _ := g.sessions(b, nil)
		for j := range found {
			w.record(g, b.key, found[j].win, &found[j].run)
		}
	}
	return s.add(w)
}

func (s *sorter) create() (*runWriter, error) {
	f, err := s.scratch.Create()
	if err != nil {
		return nil, scratchError(err)
	}
	if s.out == nil {
		s.out = bufio.NewWriterSize(f, writeBuffer)
	} else {
		s.out.Reset(f)
	}
	return &runWriter{file: f, buf: s.out}, nil
}

// add ends a run, and merges all of them into one when they are many.
func (s *sorter) add(w *runWriter) error {
	if err := w.buf.Flush(); err != nil {
		return scratchError(err)
	}
	s.runs = append(s.runs, w.file)
	if len(s.runs) < runsMax {
		return nil
	}
	w, err := s.create()
	if err != nil {
		return err
	}
	err = s.merge(func(r *runReader) error {
		w.head(r.key, r.win, r.count, r.ts)
		for {
			frame, err := r.frame()
			if err != nil {
				return err
			}
			w.frame(frame)
			if len(frame) == 0 {
				return nil
			}
		}
	})
	if err != nil {
		return err
	}
	return s.add(w)
}

// emit merges the runs and emits what they hold.
func (s *sorter) emit(out *Output) error {
	var p pending
	err := s.merge(func(r *runReader) error {
		if p.count > 0 && !p.joins(r) {
			if err := p.end(out); err != nil {
				return err
			}
		}
		if p.count == 0 {
			p.start(s.m, r)
			out.begin()
		}
		p.take(r)
		for {
			frame, err := r.frame()
			if err != nil || len(frame) == 0 {
				return err
			}
			if err := out.add(frame); err != nil {
				return err
			}
		}
	})
	if err == nil && p.count > 0 {
		err = p.end(out)
	}
	return err
}

// pending is a key and window whose records are being brought together.
type pending struct {
	m        *Machine
	key, win []byte
	span     window.Span // when windows merge
	max      element.Time
	count    int64
	ts       element.Time
}

func (p *pending) start(m *Machine, r *runReader) {
	*p = pending{m: m, key: append(p.key[:0], r.key...), win: append(p.win[:0], r.win...), span: r.span, max: r.max}
}

// joins says whether the next record belongs here, too.
func (p *pending) joins(r *runReader) bool {
	if !bytes.Equal(p.key, r.key) {
		return false
	}
	if p.m.merging {
		return r.span.Start < p.span.End
	}
	return bytes.Equal(p.win, r.win)
}

func (p *pending) take(r *runReader) {
	p.ts = combine(p.m.windowing.OutputTime, p.ts, p.count > 0, r.ts)
	p.count += r.count
	if p.m.merging && r.span.End > p.span.End {
		p.span.End = r.span.End
		p.win, p.max = p.span.Append(p.win[:0]), p.span.Max()
	}
}

func (p *pending) end(out *Output) error {
	err := out.end(p.m.onlyTime(p.max, p.ts), p.win, onlyPane, p.key, p.count)
	p.count = 0
	return err
}

// merge visits the records of all runs in order, those that are alike oldest first, and removes the runs. visit must read the
// frames.
func (s *sorter) merge(visit func(r *runReader) error) (err error) {
	runs := s.runs
	s.runs = nil
	h := &runHeap{m: s.m}
	var values []byte // of all readers: the frame of one is looked at at a time, and may be as long as a value
	defer func() {
		for _, r := range h.all {
			err = errors.Join(err, scratchError(r.in.Close()))
		}
		for _, f := range runs {
			err = errors.Join(err, scratchError(f.Remove()))
		}
	}()
	for age, f := range runs {
		in, err := f.Open()
		if err != nil {
			return scratchError(err)
		}
		r := &runReader{m: s.m, in: in, buf: bufio.NewReaderSize(in, readBuffer), age: age, values: &values}
		h.all = append(h.all, r)
		more, err := r.next()
		if err != nil {
			return err
		}
		if more {
			h.heads = append(h.heads, r)
		}
	}
	heap.Init(h)
	for len(h.heads) > 0 {
		r := h.heads[0]
		if err := visit(r); err != nil {
			return err
		}
		more, err := r.next()
		if err != nil {
			return err
		}
		if more {
			heap.Fix(h, 0)
		} else {
			heap.Pop(h)
		}
	}
	return nil
}

// runHeap orders runs by their next record.
type runHeap struct {
	m     *Machine
	heads []*runReader
	all   []*runReader
}

func (h *runHeap) Len() int { return len(h.heads) }
func (h *runHeap) Less(i, j int) bool {
	a, b := h.heads[i], h.heads[j]
	c := bytes.Compare(a.key, b.key)
	switch {
	case c != 0:
	case h.m.merging:
		c = cmp.Compare(a.span.Start, b.span.Start)
	default:
		c = bytes.Compare(a.win, b.win)
	}
	return c < 0 || c == 0 && a.age < b.age
}
func (h *runHeap) Swap(i, j int) { h.heads[i], h.heads[j] = h.heads[j], h.heads[i] }
func (h *runHeap) Push(x any)    { h.heads = append(h.heads, x.(*runReader)) }
func (h *runHeap) Pop() any {
	last := h.heads[len(h.heads)-1]
	h.heads = h.heads[:len(h.heads)-1]
	return last
}

// runWriter writes a run. Errors of writing show when it is flushed.
type runWriter struct {
	file rows.ScratchFile
	buf  *bufio.Writer
	row  []byte
}

// record writes the values of one key and window.
func (w *runWriter) record(g *grouper, key, win []byte, r *run) {
	w.head(key, win, r.count, r.ts)
	w.row = w.row[:0]
	for i := r.head; i >= 0; i = g.entries[i].next {
		v := g.value(i)
		if len(w.row) > 0 && len(w.row)+len(v) > frameMax {
			w.frame(w.row)
			w.row = w.row[:0]
		}
		if len(v) > frameMax {
			w.frame(v) // as it is: it may be large
			continue
		}
		w.row = append(w.row, v...)
	}
	if len(w.row) > 0 {
		w.frame(w.row)
	}
	w.frame(nil)
}

func (w *runWriter) head(key, win []byte, count int64, ts element.Time) {
	w.row = rows.AppendBytes(rows.AppendBytes(w.row[:0], key), win)
	w.row = rows.AppendTime(binary.AppendUvarint(w.row, uint64(count)), ts)
	_, _ = w.buf.Write(w.row) // the writer keeps its error for Flush
}

func (w *runWriter) frame(values []byte) {
	var size [binary.MaxVarintLen64]byte
	_, _ = w.buf.Write(binary.AppendUvarint(size[:0], uint64(len(values))))
	_, _ = w.buf.Write(values)
}

// runReader reads a run.
type runReader struct {
	m   *Machine
	in  io.Closer
	buf *bufio.Reader
	age int

	// The record in hand; valid until the next one.
	key, win []byte
	span     window.Span
	max      element.Time
	count    int64
	ts       element.Time
	values   *[]byte // scratch of frames, of all readers
}

// next reads the head of the next record; more is false at the end.
func (r *runReader) next() (more bool, err error) {
	if _, err := r.buf.Peek(1); errors.Is(err, io.EOF) {
		return false, nil
	}
	if r.key, err = r.bytes(r.key); err != nil {
		return false, err
	}
	if r.win, err = r.bytes(r.win); err != nil {
		return false, err
	}
	count, err := binary.ReadUvarint(r.buf)
	if err != nil {
		return false, scratchError(err)
	}
	var at [8]byte
	if _, err := io.ReadFull(r.buf, at[:]); err != nil {
		return false, scratchError(err)
	}
	r.count, r.ts = int64(count), rows.Time(at[:])
	if r.m.merging {
		r.span, err = window.ParseSpan(r.win)
		r.max = r.span.Max()
	} else {
		r.max, err = window.Max(r.m.windowing.Coding, r.win)
	}
	return true, err
}

// frame reads the next frame of values, empty after the last; valid until the next one of any reader.
func (r *runReader) frame() ([]byte, error) {
	var err error
	*r.values, err = r.bytes(*r.values)
	return *r.values, err
}

// bytes reads bytes with their length into the room of dst.
func (r *runReader) bytes(dst []byte) ([]byte, error) {
	size, err := binary.ReadUvarint(r.buf)
	if err != nil {
		return dst[:0], scratchError(err)
	}
	dst = slices.Grow(dst[:0], int(size))[:size]
	_, err = io.ReadFull(r.buf, dst)
	return dst, scratchError(err)
}

// scratchError classifies an error of the scratch; nil stays nil.
func scratchError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("a run ends early: %w", err)
	}
	return fault.New(fault.Environment, "scratch-io", "grouping by sorting: %w", err).
		WithHint("check the disk of the data directory; it needs room for another copy of the largest grouping")
}
