package bundle

import (
	"bytes"
	"encoding/binary"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/profile"
	"padstone/engine/rows"
	"padstone/engine/scheduler"
	"padstone/engine/store"
	"padstone/engine/timer"
	"padstone/internal/fault"
)

// A time-sorted input is sorted in rows: a bundle of the runner's own moves what comes into them, and bundles of timers take out what
// the watermark has passed, between the user's timers. Spec: StatefulDoFnRunner.processElementOrdered (Java runners-core). Unlike there,
// an element is not handed out before the watermark is past its timestamp by the allowed lateness: one that is let in after it could
// have to go before it.

// Buffer runs a bundle of data of a stage with time-sorted input. It needs no harness.
func (r *Runner) Buffer(start *scheduler.Start, w *profile.Watch) (*Result, error) {
	h := &harnessBundle{runner: r, stage: r.Job.Stages[start.Stage], start: start, watch: w}
	h.result.Decided = start.InputWatermark
	h.result.Commit = store.Commit{Stage: uint32(start.Stage), Consumed: consumed(start), Rows: r.Store.Begin(uint32(start.Stage))}
	h.txs = newTransactions(h.result.Commit.Rows, r.Job.Plan.KeyGroups, start.Groups)
	if err := h.buffer(); err != nil {
		h.result.Discard()
		return nil, err
	}
	return &h.result, nil
}

func (h *harnessBundle) buffer() error {
	seen := make(map[string]bool)
	for _, b := range h.start.Blocks {
		h.watch.To(profile.Process)
		data, err := h.runner.Load(h.start.Stage, b)
		if h.watch.To(profile.Load); err != nil {
			return err
		}
		h.result.ElementsIn += int64(b.Count)
		place := uint32(0)
		err = h.stage.input.scanner.Scan(data, func(el *coder.Elem) error {
			place++
			return h.keep(el, b.Seq, place, seen)
		})
		if err != nil && fault.Of(err) == nil {
			err = fault.New(fault.Corruption, "corrupt-block", "elements of %q: %w", h.stage.Def.Name, err)
		}
		if err != nil {
			return err
		}
	}
	var err error
	h.result.Timers, err = nextTimers(h.txs, h.start.Stage, h.start.Groups)
	return err
}

// keep puts an element into the rows of each of its windows, unless it is late there.
func (h *harnessBundle) keep(el *coder.Elem, seq uint64, place uint32, seen map[string]bool) error {
	tx, err := h.txs.of(el.Key)
	if err != nil {
		return err
	}
	rest := el.Windows
	for range el.NWin {
		var w []byte
		if w, rest, err = coder.NextWindow(h.stage.input.def.Window, rest); err != nil {
			return err
		}
		collectAt, maxTS, err := h.collectAt(w)
		if err != nil {
			return err
		}
		dueAt := min(el.TS.Add(h.latenessMs()), collectAt)
		if dueAt < h.start.InputWatermark {
			h.result.DroppedLate++
			continue
		}
		if err := h.expect(el.Key, w, collectAt, maxTS, seen); err != nil {
			return err
		}
		key := rows.AppendTime([]byte(scopeName(el.Key, w)), el.TS)
		key = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(key, seq), place)
		value := el.Raw
		if el.NWin > 1 {
			value = append(coder.AppendHeader(nil, el.TS, 1, w, el.Pane), el.Value...)
		}
		tx.Set(rows.Sorted, key, value)
		if err := h.flushBy(tx, el.Key, w, el.TS, dueAt); err != nil {
			return err
		}
	}
	return nil
}

// flushBy makes sure that the elements of a key and window are looked at when the one at ts is due, and holds the watermark for it.
func (h *harnessBundle) flushBy(tx rows.Tx, key, w []byte, ts, dueAt element.Time) error {
	id := timer.ID{Family: flushFamily, Key: key, Window: w}
	old, found, err := timer.Get(tx, id)
	if err != nil || found && old.Hold <= ts {
		return err
	}
	return timer.Set(tx, id, timer.Timer{Domain: plan.EventTime, Fire: dueAt, Hold: ts, Pane: []byte{coder.NoFiring}})
}

func (h *harnessBundle) latenessMs() int64 {
	if ws := h.stage.Def.Windowing; ws != nil {
		return ws.LatenessMs
	}
	return 0
}

// Bounds of the elements that a bundle takes out of the rows.
const (
	sortedMaxDefault = 100_000
	sortedBytesMax   = 16 << 20
)

// room says whether the bundle may take another element.
func (h *harnessBundle) room() bool {
	most := int(h.runner.ElementsMax.Load())
	if most <= 0 {
		most = sortedMaxDefault
	}
	return h.taken.count < most && h.taken.bytes < sortedBytesMax
}

// sortedElements are elements of a time-sorted input that are due, in order.
type sortedElements struct {
	items []item
	next  element.Time // when the first that stays is due; scheduler.NoTimer: none does
	more  bool         // it is due by the watermark
}

// sorted reads the elements of a key and window that are due by the watermark and not after the horizon, as far as there is room.
func (h *harnessBundle) sorted(tx rows.Tx, sc *scope, horizon element.Time) (sortedElements, error) {
	out := sortedElements{next: scheduler.NoTimer}
	if !h.stage.Def.TimeSorted {
		return out, nil
	}
	collectAt, _, err := h.collectAt(sc.window)
	if err != nil {
		return out, err
	}
	latest := min(h.start.InputWatermark, horizon)
	prefix := []byte(scopeName(sc.key, sc.window))
	malformed := false
	err = tx.Scan(rows.Sorted, prefix, nil, func(key, value []byte) bool {
		if malformed = len(key) < len(prefix)+8; malformed {
			return false
		}
		dueAt := min(rows.Time(key[len(prefix):]).Add(h.latenessMs()), collectAt)
		if dueAt > latest || !h.room() {
			out.next, out.more = dueAt, dueAt <= h.start.InputWatermark
			return false
		}
		out.items = append(out.items, item{at: dueAt, rank: rankElement, row: bytes.Clone(key), data: bytes.Clone(value)})
		h.taken.count++
		h.taken.bytes += len(value)
		return true
	})
	if malformed {
		return out, fault.New(fault.Corruption, "corrupt-row", "a row of the time-sorted input of %q is malformed", h.stage.Def.Name)
	}
	return out, err
}

// before merges the elements with timers and leaves out what must wait for elements that stay.
func (e *sortedElements) before(timers []item) []item {
	if len(e.items) == 0 && e.next == scheduler.NoTimer {
		return timers
	}
	merged := make([]item, 0, len(e.items)+len(timers))
	rest := e.items
	for _, t := range timers {
		for len(rest) > 0 && rest[0].compare(t) < 0 {
			merged, rest = append(merged, rest[0]), rest[1:]
		}
		if t.rank == rankEvent && t.at >= e.next || t.rank == rankProcessing && e.more {
			continue
		}
		merged = append(merged, t)
	}
	return append(merged, rest...)
}

// flushNext sets the flush timer of a key and window to the first element that has stayed.
func (h *harnessBundle) flushNext(tx rows.Tx, sc *scope) error {
	if sc.flush == nil {
		return nil
	}
	if err := timer.Clear(tx, sc.flush.ID); err != nil {
		return err
	}
	collectAt, _, err := h.collectAt(sc.window)
	if err != nil {
		return err
	}
	prefix := []byte(scopeName(sc.key, sc.window))
	var first *element.Time
	err = tx.Scan(rows.Sorted, prefix, nil, func(key, _ []byte) bool {
		if len(key) >= len(prefix)+8 {
			ts := rows.Time(key[len(prefix):])
			first = &ts
		}
		return false
	})
	if err != nil || first == nil {
		return err
	}
	return h.flushBy(tx, sc.key, sc.window, *first, min(first.Add(h.latenessMs()), collectAt))
}
