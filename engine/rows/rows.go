package rows

import (
	"encoding/binary"
	"io"

	"padstone/engine/element"
)

// Table is the first byte of every key.
type Table byte

// The registry. Shapes: suffix → value.
const (
	Meta    Table = 0x01 // name → bytes; stage and group are 0
	Inbox   Table = 0x02 // edge u32, seq u64 → block header, with the data if that is short (see package store)
	Group   Table = 0x03 // owned by package group: window, key, … → accumulated values
	Trigger Table = 0x04 // owned by package group: key, window → trigger and pane state
	State   Table = 0x05 // owned by package bundle: user state cells
	TimerID Table = 0x06 // owned by package timer: key, window, family, tag → fire, hold, pane
	TimerTS Table = 0x07 // owned by package timer: domain, fire time, timer id → empty
	Hold    Table = 0x08 // time → count u64; group is 0: watermark holds of a stage
	Side    Table = 0x09 // owned by package bundle: window, [pane], [key, [pane]], sequence → values; stage is the edge, group is 0
	Source  Table = 0x0a // split name → position state; group is 0
	Outbox  Table = 0x0b // seq u64 → block, to be published; group is 0
	Metric  Table = 0x0c // metric key → aggregated MonitoringInfo; stage and group are 0
	// 0x0d was never written. Contents are written ahead of the commit that refers to them (see package store); stage and group are 0.
	Page       Table = 0x0e // content id u64, page u64 → segment, place, length and checksum of a page
	ContentRef Table = 0x0f // block seq u64, content id u64 → empty: the waiting block refers to the content
	// Of side inputs; stage is the edge, or 0 for runs, and group is 0.
	SideWindow Table = 0x10 // end, window → empty: a window of Side that expires
	SideRun    Table = 0x11 // run u64 → empty: Side rows of the run are written ahead of a commit that has yet to come
	// Keyed by stage and group again.
	Sorted Table = 0x12 // owned by package bundle: key, window, time, block seq u64, place u32 → element of a time-sorted input
	Data   Table = 0x13 // edge u32, seq u64 → data of the Inbox block of the same key: apart, as recovery reads all headers
)

// PrefixLen is the length of table, stage and group.
const PrefixLen = 1 + 4 + 2

// Prefix returns the key prefix of one key group of one stage in a table.
func Prefix(t Table, stage uint32, group uint16) []byte {
	b := make([]byte, 0, 64)
	b = append(b, byte(t))
	b = binary.BigEndian.AppendUint32(b, stage)
	return binary.BigEndian.AppendUint16(b, group)
}

// AppendTime appends t so that keys sort by time, negative ones first.
func AppendTime(b []byte, t element.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(t)^(1<<63))
}

// Time reads what AppendTime wrote.
func Time(b []byte) element.Time {
	return element.Time(binary.BigEndian.Uint64(b) ^ (1 << 63))
}

// AppendBytes appends p with its length as a uvarint, so that suffixes can be taken apart again. Not order-preserving.
func AppendBytes(b, p []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(p)))
	return append(b, p...)
}

// TakeBytes reads what AppendBytes wrote and returns the rest; ok is false when b is malformed.
func TakeBytes(b []byte) (p, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	return b[w : w+int(n)], b[w+int(n):], true
}

// Tx is one bundle's view of the rows of one key group of one stage. Keys are suffixes: the implementation adds table, stage and
// group. Reads see the Tx's own writes. Nothing is visible to others before the bundle's commit, and nothing at all when it fails.
// Not for concurrent use. An error of Get or Scan means that the store cannot be read: the bundle must fail.
type Tx interface {
	// Get returns the value, or nil when there is no row (stored values are never empty-nil: an empty value reads as []byte{}).
	// The slice is valid until the next call.
	Get(t Table, key []byte) ([]byte, error)
	Set(t Table, key, value []byte)
	// Merge appends value to the row's value without reading it.
	Merge(t Table, key, value []byte)
	Delete(t Table, key []byte)
	// DeletePrefix deletes every row whose suffix starts with prefix.
	DeletePrefix(t Table, prefix []byte)
	// Scan calls fn for the rows whose suffix starts with prefix and is at least from (nil: all), in key order, until it returns
	// false. Slices are valid during the call; fn must not write to the scanned range: collect first.
	Scan(t Table, prefix, from []byte, fn func(key, value []byte) bool) error
	// Hold adds delta to the number of watermark holds at t of this stage; counted in the bundle's commit.
	Hold(t element.Time, delta int)
}

// ContentID names a content: bytes too many for memory that a bundle has written ahead of its commit, in pages. They are kept while
// a block that refers to them waits in some inbox. Ids are never 0.
type ContentID uint64

// Contents makes the contents of one bundle. Nobody knows of them before the bundle's commit, and a bundle that fails leaves none.
// Not for concurrent use.
type Contents interface {
	New() Content
}

// Content is a content that is being written. An error means that the store cannot be written: the bundle must fail.
type Content interface {
	ID() ContentID
	// Append adds a page, which the caller may reuse afterwards.
	Append(page []byte) error
}

// Scratch makes files for what a bundle cannot hold in memory and needs no longer than it runs. They do not survive a crash.
type Scratch interface {
	Create() (ScratchFile, error)
}

// ScratchFile is written once, then read once. Not for concurrent use.
type ScratchFile interface {
	io.Writer
	// Open ends the writing and reads from the beginning.
	Open() (io.ReadCloser, error)
	Remove() error
}
