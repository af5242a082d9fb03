package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"padstone/engine/element"
	"padstone/engine/rows"
)

// sideRow is a row of edge 3: a window, and where it matters a pane.
func sideRow(window, value string, end element.Time, pane ...uint64) SideRow {
	key := rows.AppendBytes(nil, []byte(window))
	for _, p := range pane {
		key = binary.BigEndian.AppendUint64(key, p)
	}
	return SideRow{Edge: 3, Key: key, Value: []byte(value), End: end}
}

// sideValues reads what a snapshot has of a window.
func sideValues(t *testing.T, v *Snapshot, window string) (values []string) {
	t.Helper()
	err := v.Side(3, rows.AppendBytes(nil, []byte(window)), nil, func(_, value []byte) ([]byte, bool) {
		values = append(values, string(value))
		return nil, true
	})
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// sees checks what the store has of a window.
func sees(t *testing.T, s *Store, window string, want ...string) {
	t.Helper()
	v := s.Snapshot()
	if got := sideValues(t, v, window); !slices.Equal(got, want) {
		t.Errorf("window %s has %q, not %q", window, got, want)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSidePanes replaces panes by later ones, whatever the order in which bundles end.
func TestSidePanes(t *testing.T) {
	s := open(t, vfs.NewMem(), Frontier)
	put := func(mixed bool, newest uint64, rs ...SideRow) {
		scope := rows.AppendBytes(nil, []byte("w"))
		commit(t, s, &Commit{Side: rs, SidePanes: []SidePane{{Edge: 3, Scope: scope, Pane: newest, Mixed: mixed}}})
	}
	put(false, 0, sideRow("w", "a0", element.MaxTime, 0))
	before := s.Snapshot()
	put(false, 2, sideRow("w", "a2", element.MaxTime, 2), sideRow("w", "b2", element.MaxTime, 2))
	sees(t, s, "w", "a2", "b2")
	put(false, 1, sideRow("w", "late", element.MaxTime, 1))
	put(false, 2, sideRow("w", "c2", element.MaxTime, 2))
	sees(t, s, "w", "a2", "b2", "c2")
	put(true, 4, sideRow("w", "a3", element.MaxTime, 3), sideRow("w", "a4", element.MaxTime, 4))
	sees(t, s, "w", "a4")
	put(false, 5) // a pane without elements
	sees(t, s, "w")
	if got := sideValues(t, before, "w"); !slices.Equal(got, []string{"a0"}) {
		t.Errorf("a snapshot from before has %q", got)
	}
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSideAhead writes rows ahead of a commit: nobody sees them before, and none are left when it does not come, not even after a crash.
func TestSideAhead(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := open(t, fs, Frontier)
	a := s.WriteAhead()
	for i := range 3 {
		if err := a.Side([]SideRow{sideRow("w", fmt.Sprint("a", i), 9), sideRow("x", "x", 19)}); err != nil {
			t.Fatal(err)
		}
	}
	sees(t, s, "w")
	before := s.Snapshot()
	failed := s.WriteAhead()
	if err := failed.Side([]SideRow{sideRow("w", "failed", 9)}); err != nil {
		t.Fatal(err)
	}
	failed.Discard()
	c := &Commit{Side: []SideRow{sideRow("w", "b", 9)}, Ahead: a}
	if edges := c.SideEdges(); !slices.Equal(edges, []uint32{3}) {
		t.Errorf("edges %v", edges)
	}
	commit(t, s, c)
	sees(t, s, "w", "b", "a0", "a1", "a2")
	if got := sideValues(t, before, "w"); len(got) > 0 {
		t.Errorf("a snapshot from before has %q", got)
	}
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	lost := s.WriteAhead()
	if err := lost.Side([]SideRow{sideRow("w", "lost", 9), sideRow("y", "lost", 29)}); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitDurable(t.Context(), commitSeq(t, s)); err != nil {
		t.Fatal(err)
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, crashed, Frontier)
	sees(t, s, "w", "b", "a0", "a1", "a2")
	sees(t, s, "y")
	counted(t, s, rows.SideRun, 0)
	counted(t, s, rows.Side, 7)
	again := s.WriteAhead()
	if err := again.Side([]SideRow{sideRow("w", "again", 9)}); err != nil {
		t.Fatal(err)
	}
	sees(t, s, "w", "b", "a0", "a1", "a2") // its run has a name of its own
	again.Discard()
	if s.NextSideExpiry(3) != 9 || s.NextSideExpiry(4) != element.MaxTime {
		t.Errorf("the next window ends at %v", s.NextSideExpiry(3))
	}
	commit(t, s, &Commit{SideExpired: []SideExpiry{{Edge: 3, Before: 19}}})
	sees(t, s, "w")
	sees(t, s, "x", "x", "x", "x")
	counted(t, s, rows.SideWindow, 1)
	commit(t, s, &Commit{SideExpired: []SideExpiry{{Edge: 3, Before: 20}}})
	counted(t, s, rows.Side, 0)
	counted(t, s, rows.SideWindow, 0)
}

func commitSeq(t *testing.T, s *Store) uint64 {
	t.Helper()
	seq, err := s.Commit(&Commit{})
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func counted(t *testing.T, s *Store, table rows.Table, want int) {
	t.Helper()
	if n, err := s.CountRows(table); err != nil || n != want {
		t.Errorf("table %#x has %d rows, %v; want %d", table, n, err, want)
	}
}
