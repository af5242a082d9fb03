package coder

import (
	"encoding/binary"
	"fmt"
	"math"

	"padstone/engine/element"
	"padstone/engine/plan"
)

// Elem is one windowed element, taken apart. Every slice aliases the scanned data: do not change it.
type Elem struct {
	Raw     []byte // the whole element: header and value
	TS      element.Time
	NWin    int    // number of windows
	Windows []byte // the encoded windows, one after another; take them with NextWindow
	Pane    []byte // the encoded pane, with ElementMetadata if there is any
	Value   []byte // nested encoding of the value
	Key     []byte // nested encoding of the key when the outermost constructor is kv, else nil: a prefix of Value
}

// Rest returns the nested encoding of the value of a kv: what follows the key.
func (e *Elem) Rest() []byte { return e.Value[len(e.Key):] }

// Scanner takes runs of windowed elements apart. Immutable: safe for concurrent use.
type Scanner struct {
	prog *Program
	key  *node // key of a kv, or nil
	val  *node // what follows the key, or the whole value
	win  plan.WindowCoding
}

// NewScanner returns a scanner of elements whose values follow prog and whose windows follow w.
func NewScanner(prog *Program, w plan.WindowCoding) *Scanner {
	s := &Scanner{prog: prog, val: prog.root, win: w}
	if prog.IsKV() {
		s.key, s.val = prog.root.a, prog.root.b
	}
	return s
}

// Window returns the window coding.
func (s *Scanner) Window() plan.WindowCoding { return s.win }

// Next takes the first element of data apart into e and returns what follows it. An error wraps ErrMalformed.
func (s *Scanner) Next(data []byte, e *Elem) (rest []byte, err error) {
	const headMin = timeLen + countLen + 1
	if len(data) < headMin {
		return nil, fmt.Errorf("%w: element header is cut off after %d bytes", ErrMalformed, len(data))
	}
	pane := s.endWindows(data)
	if pane < 0 {
		return nil, fmt.Errorf("%w: windows of an element in coding %s", ErrMalformed, s.win)
	}
	value := pane + 1
	if pane >= len(data) || data[pane]&^paneFlags != 0 {
		if value = endPane(data, pane); value < 0 {
			return nil, fmt.Errorf("%w: pane of an element", ErrMalformed)
		}
	}
	key, end := value, value
	if s.key != nil {
		if key = s.key.endFast(data, value); key < 0 {
			return nil, s.prog.bad(key, data[value:])
		}
	}
	if end = s.val.endFast(data, key); end < 0 {
		return nil, s.prog.bad(end, data[value:])
	}
	e.Raw = data[:end:end]
	e.TS = decodeTime(data)
	e.NWin = int(binary.BigEndian.Uint32(data[timeLen:]))
	e.Windows = data[timeLen+countLen : pane : pane]
	e.Pane = data[pane:value:value]
	e.Value = data[value:end:end]
	e.Key = nil
	if s.key != nil {
		e.Key = data[value:key:key]
	}
	return data[end:], nil
}

// endWindows returns where the windows of an element end. Nearly all elements have one window, of at most a two-byte span.
func (s *Scanner) endWindows(data []byte) int {
	const first = timeLen + countLen
	if binary.BigEndian.Uint32(data[timeLen:]) == 1 {
		switch s.win {
		case plan.GlobalWindow:
			return first
		case plan.IntervalWindow:
			return endVarint(data, first+timeLen)
		}
	}
	return endWindows(s.win, data, timeLen)
}

// Scan calls fn for each element of data in order, until it returns an error. The Elem is reused between calls.
func (s *Scanner) Scan(data []byte, fn func(e *Elem) error) error {
	var e Elem
	for size := len(data); len(data) > 0; {
		rest, err := s.Next(data, &e)
		if err != nil {
			return fmt.Errorf("element at byte %d of %d: %w", size-len(data), size, err)
		}
		if err := fn(&e); err != nil {
			return err
		}
		data = rest
	}
	return nil
}

// Stat counts the elements of data and returns the smallest and the largest timestamp (MaxTime and MinTime when there is none):
// the fields of an element.Block.
func (s *Scanner) Stat(data []byte) (count int, minTS, maxTS element.Time, err error) {
	_, count, minTS, maxTS, err = s.StatUpTo(data, len(data), math.MaxInt)
	return count, minTS, maxTS, err
}

// StatUpTo is Stat for the first elements of data: no more than most, and only one that reaches beyond limit bytes. n is how many bytes
// they take.
func (s *Scanner) StatUpTo(data []byte, limit, most int) (n, count int, minTS, maxTS element.Time, err error) {
	minTS, maxTS = element.MaxTime, element.MinTime
	var e Elem
	size := len(data)
	for left := max(size-limit, 0); len(data) > left && count < most; count++ {
		rest, err := s.Next(data, &e)
		if err != nil {
			return 0, 0, 0, 0, fmt.Errorf("element at byte %d of %d: %w", size-len(data), size, err)
		}
		minTS, maxTS = min(minTS, e.TS), max(maxTS, e.TS)
		data = rest
	}
	return size - len(data), count, minTS, maxTS, nil
}

// Block returns data as a block, or an error when it does not frame.
func (s *Scanner) Block(data []byte) (element.Block, error) {
	count, minTS, maxTS, err := s.Stat(data)
	if err != nil {
		return element.Block{}, err
	}
	return element.Block{Data: data, Count: count, MinTS: minTS, MaxTS: maxTS}, nil
}

// NextWindow takes the first of some encoded windows. A global window is the empty slice, so count with Elem.NWin.
func NextWindow(w plan.WindowCoding, b []byte) (window, rest []byte, err error) {
	end := endWindow(w, b, 0)
	if end < 0 {
		return nil, nil, fmt.Errorf("%w: window in coding %s", ErrMalformed, w)
	}
	return b[:end:end], b[end:], nil
}

// AppendHeader appends what comes before the value of an element: nwin encoded windows and an encoded pane (see Pane.Append).
func AppendHeader(dst []byte, ts element.Time, nwin int, windows, pane []byte) []byte {
	dst = AppendTime(dst, ts)
	dst = binary.BigEndian.AppendUint32(dst, uint32(nwin))
	dst = append(dst, windows...)
	return append(dst, pane...)
}

// AppendTime appends an event time as elements and windows carry it: 8 bytes, big endian, sign bit flipped.
func AppendTime(dst []byte, t element.Time) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(t)^(1<<63))
}

// decodeTime reads the first 8 bytes.
func decodeTime(b []byte) element.Time {
	return element.Time(binary.BigEndian.Uint64(b) ^ (1 << 63))
}
