package store

import (
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"padstone/engine/rows"
	"padstone/engine/watermark"
)

func mustCommit(t *testing.T, s *Store, c *Commit) {
	t.Helper()
	if _, err := s.Commit(c); err != nil {
		t.Fatal(err)
	}
	if c.Rows != nil {
		c.Rows.Discard()
	}
}

// TestNumbering has rows found again by stages and edges that stand elsewhere in another plan.
func TestNumbering(t *testing.T) {
	disk := vfs.NewMem()
	s := open(t, disk, Frontier)
	if err := s.Number(Numbering{Stages: []uint32{7, 9}, Edges: []uint32{9, 8}}, []byte("first")); err != nil {
		t.Fatal(err)
	}
	b := s.Begin(1)
	b.Group(3).Set(rows.State, []byte("k"), []byte("v"))
	b.Group(3).Hold(5, 1)
	mustCommit(t, s, &Commit{
		Stage: 1, Rows: b,
		Added:     []Added{{Stage: 1, Group: 3, Edge: 0, Block: Block{Header: Header{Count: 1}, Data: []byte("x")}}},
		Side:      []SideRow{{Edge: 1, Key: rows.AppendBytes(nil, []byte("w")), Value: []byte("s"), End: 40}},
		Outbox:    []Block{{Header: Header{Count: 1}, Data: []byte("o")}},
		Positions: []Entry{{Name: "split", Value: []byte("p")}},
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, disk, Frontier)
	defer s.Close()
	if got, err := s.Inventory(); err != nil || string(got) != "first" {
		t.Fatalf("inventory %q, %v", got, err)
	}
	if err := s.Number(Numbering{Stages: []uint32{9, 7, 10}, Edges: []uint32{8, 7, 9}}, []byte("second")); err != nil {
		t.Fatal(err)
	}
	var found []string
	note := func(what string, ok bool) {
		if ok {
			found = append(found, what)
		}
	}
	v, err := s.Begin(0).Group(3).Get(rows.State, []byte("k"))
	note("state", err == nil && string(v) == "v")
	err = s.Holds(func(stage uint32, holds []watermark.Count) {
		note("hold", stage == 0 && slices.Equal(holds, []watermark.Count{{At: 5, N: 1}}))
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Inbox(func(stage uint32, group uint16, edge uint32, h Header) {
		block, err := s.Block(stage, BlockID{Group: group, Edge: edge, Seq: h.Seq})
		note("inbox", stage == 0 && edge == 2 && err == nil && string(block.Data) == "x")
	})
	if err != nil {
		t.Fatal(err)
	}
	view := s.Snapshot()
	err = view.Side(0, nil, nil, func(_, values []byte) ([]byte, bool) { note("side", string(values) == "s"); return nil, true })
	if err != nil || view.Close() != nil {
		t.Fatal(err)
	}
	note("side window", s.NextSideExpiry(0) == 40)
	if err := s.Outbox(0, func(b Block) bool { note("outbox", string(b.Data) == "o"); return true }); err != nil {
		t.Fatal(err)
	}
	positions, err := s.Positions(0)
	note("positions", err == nil && len(positions) == 1)
	if got := strings.Join(found, ", "); got != "state, hold, inbox, side, side window, outbox, positions" {
		t.Errorf("found %s", got)
	}
}

// TestUnknownNumber has rows of nobody be an error, not be left out.
func TestUnknownNumber(t *testing.T) {
	s := open(t, vfs.NewMem(), Frontier)
	defer s.Close()
	if err := s.Number(Numbering{Stages: []uint32{1}, Edges: []uint32{1}}, nil); err != nil {
		t.Fatal(err)
	}
	b := s.Begin(0)
	b.Group(0).Hold(5, 1)
	mustCommit(t, s, &Commit{Rows: b, Added: []Added{{Block: Block{Header: Header{Count: 1}, Data: []byte("x")}}}})
	if err := s.Number(Numbering{Stages: []uint32{2}, Edges: []uint32{2}}, nil); err == nil {
		t.Error("a hold of number 1 belongs to nobody")
	}
	if err := s.Inbox(func(uint32, uint16, uint32, Header) { t.Error("a block of nobody") }); err == nil {
		t.Error("a block of number 1 belongs to nobody")
	}
}
