package rowstest

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strings"

	"padstone/engine/element"
	"padstone/engine/rows"
)

// Tx is the rows of one key group. The zero value is empty and ready. Not for concurrent use.
type Tx struct {
	// Fail, when set, is returned by every Get and Scan.
	Fail error

	tables  map[rows.Table]*table
	holds   map[element.Time]int
	lent    [][]byte
	scanned []scanned
}

type table struct {
	keys   []string // sorted
	values map[string][]byte
}

type scanned struct {
	table  rows.Table
	prefix []byte
}

var _ rows.Tx = (*Tx)(nil)

// Get implements rows.Tx.
func (tx *Tx) Get(t rows.Table, key []byte) ([]byte, error) {
	tx.reclaim()
	if tx.Fail != nil {
		return nil, tx.Fail
	}
	v, ok := tx.table(t).values[string(key)]
	if !ok {
		return nil, nil
	}
	return tx.lend(v), nil
}

// Set implements rows.Tx.
func (tx *Tx) Set(t rows.Table, key, value []byte) {
	tx.check(t, key)
	tab, k := tx.table(t), string(key)
	if _, ok := tab.values[k]; !ok {
		i := sort.SearchStrings(tab.keys, k)
		tab.keys = slices.Insert(tab.keys, i, k)
	}
	tab.values[k] = append([]byte{}, value...)
	tx.reclaim()
}

// Merge implements rows.Tx.
func (tx *Tx) Merge(t rows.Table, key, value []byte) {
	tx.Set(t, key, append(slices.Clone(tx.table(t).values[string(key)]), value...))
}

// Delete implements rows.Tx.
func (tx *Tx) Delete(t rows.Table, key []byte) {
	tx.check(t, key)
	tab, k := tx.table(t), string(key)
	if _, ok := tab.values[k]; ok {
		i := sort.SearchStrings(tab.keys, k)
		tab.keys = slices.Delete(tab.keys, i, i+1)
		delete(tab.values, k)
	}
	tx.reclaim()
}

// DeletePrefix implements rows.Tx.
func (tx *Tx) DeletePrefix(t rows.Table, prefix []byte) {
	for _, k := range slices.Clone(tx.table(t).keys) {
		if strings.HasPrefix(k, string(prefix)) {
			tx.Delete(t, []byte(k))
		}
	}
}

// Scan implements rows.Tx.
func (tx *Tx) Scan(t rows.Table, prefix, from []byte, fn func(key, value []byte) bool) error {
	tx.reclaim()
	if tx.Fail != nil {
		return tx.Fail
	}
	tx.scanned = append(tx.scanned, scanned{t, slices.Clone(prefix)})
	defer func() { tx.scanned = tx.scanned[:len(tx.scanned)-1] }()
	tab := tx.table(t)
	start := max(string(prefix), string(from))
	for _, k := range tab.keys[sort.SearchStrings(tab.keys, start):] {
		if !strings.HasPrefix(k, string(prefix)) {
			break
		}
		key, value := []byte(k), slices.Clone(tab.values[k])
		more := fn(key, value)
		poison(key)
		poison(value)
		if !more {
			break
		}
	}
	return nil
}

// Hold implements rows.Tx.
func (tx *Tx) Hold(t element.Time, delta int) {
	if tx.holds == nil {
		tx.holds = map[element.Time]int{}
	}
	tx.holds[t] += delta
	if tx.holds[t] == 0 {
		delete(tx.holds, t)
	}
}

// Holds prints the holds in order, "time×count", or "none". A count below 0 shows as it is: somebody released too much.
func (tx *Tx) Holds() string {
	times := make([]element.Time, 0, len(tx.holds))
	for t := range tx.holds {
		times = append(times, t)
	}
	slices.Sort(times)
	var parts []string
	for _, t := range times {
		parts = append(parts, fmt.Sprintf("%s×%d", stamp(t), tx.holds[t]))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, " ")
}

// stamp prints times near the epoch, which tests use, as milliseconds.
func stamp(t element.Time) string {
	if t > -1e9 && t < 1e9 {
		return fmt.Sprintf("%dms", int64(t))
	}
	return t.String()
}

// MinHold returns the earliest hold; ok is false when there is none.
func (tx *Tx) MinHold() (earliest element.Time, ok bool) {
	earliest = element.MaxTime
	for t := range tx.holds {
		earliest, ok = min(earliest, t), true
	}
	return earliest, ok
}

// Rows returns the number of rows of a table.
func (tx *Tx) Rows(t rows.Table) int { return len(tx.table(t).keys) }

// Total returns the number of rows of all tables.
func (tx *Tx) Total() int {
	n := 0
	for _, tab := range tx.tables {
		n += len(tab.keys)
	}
	return n
}

func (tx *Tx) table(t rows.Table) *table {
	if tx.tables == nil {
		tx.tables = map[rows.Table]*table{}
	}
	tab := tx.tables[t]
	if tab == nil {
		tab = &table{values: map[string][]byte{}}
		tx.tables[t] = tab
	}
	return tab
}

// check panics when the key lies in a range that is being scanned: the contract leaves that undefined.
func (tx *Tx) check(t rows.Table, key []byte) {
	for _, s := range tx.scanned {
		if s.table == t && bytes.HasPrefix(key, s.prefix) {
			panic(fmt.Sprintf("rowstest: write of %x into table %d while it is scanned", key, t))
		}
	}
}

func (tx *Tx) lend(v []byte) []byte {
	c := append([]byte{}, v...)
	tx.lent = append(tx.lent, c)
	return c
}

func (tx *Tx) reclaim() {
	for _, b := range tx.lent {
		poison(b)
	}
	tx.lent = tx.lent[:0]
}

func poison(b []byte) {
	for i := range b {
		b[i] = 0xdb
	}
}
