package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"padstone/engine/rows"
)

// inboxes lists what waits by number: "number/edge:data" of blocks with their bodies and what they refer to.
func inboxes(t *testing.T, s *Store) (all []string) {
	t.Helper()
	err := s.Inbox(func(stage uint32, group uint16, edge uint32, h Header) {
		b, err := s.Block(stage, BlockID{Group: group, Edge: edge, Seq: h.Seq})
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("%d/%d:%s", stage, edge, b.Data)
		for _, id := range s.referred[h.Seq] {
			page, err := s.Page(id, 0)
			if err != nil {
				t.Fatal(err)
			}
			text += fmt.Sprintf("+%s", page)
		}
		all = append(all, text)
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestRewrite has blocks, with the contents that they refer to, and side inputs go to other numbers, and what is dropped leave nothing,
// whether a crash comes in between or not.
func TestRewrite(t *testing.T) {
	for crash := range 4 {
		t.Run(fmt.Sprint("crash ", crash), func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			long := strings.Repeat("z", inlineBytesMax+1) // lies apart
			s := open(t, mem, Frontier)
			a := s.WriteAhead()
			body, refs := written(t, a, "body"), written(t, a, "values")
			mustCommit(t, s, &Commit{Stage: 9, Ahead: a, Added: []Added{
				{Stage: 1, Group: 3, Edge: 1, Block: Block{Header: Header{Count: 2}, Data: []byte("x"), Refs: []rows.ContentID{refs}}},
				{Stage: 1, Group: 4, Edge: 1, Block: Block{Header: Header{Count: 3}, Body: body}},
				{Stage: 1, Group: 5, Edge: 1, Block: Block{Header: Header{Count: 1}, Data: []byte(long)}},
				{Stage: 2, Group: 0, Edge: 2, Block: Block{Header: Header{Count: 1}, Data: []byte(long)}},
			}, Side: []SideRow{
				{Edge: 5, Key: rows.AppendBytes(nil, []byte("w")), Value: []byte("s"), End: 40},
			}})
			b := s.Begin(4)
			b.Group(1).Set(rows.State, []byte("k"), nil)
			b.Group(1).Hold(7, 1)
			mustCommit(t, s, &Commit{Stage: 4, Rows: b, Outbox: []Block{{Header: Header{Count: 4}, Data: []byte("o")}}})

			if err := s.WaitDurable(t.Context(), s.Applied()); err != nil {
				t.Fatal(err)
			}
			held, err := s.Holdings()
			if err != nil || held[1].Elements != 6 || held[2].Elements != 1 || !held[5].Side || !held[4].Keyed || held[4].Outbox != 4 {
				t.Fatalf("held %+v, %v", held, err)
			}
			r := &Rewrite{Inbox: []Copied{{1, 11}, {1, 12}}, Side: []Copied{{5, 15}}, ClearInbox: []uint32{2}, Drop: []uint32{1, 4, 5}}
			if err := s.Rewrite(r, []byte("inventory")); err != nil {
				t.Fatal(err)
			}
			if crash > 0 { // what was not synced is lost in part or whole: it is done again
				mem = mem.CrashClone(vfs.CrashCloneCfg{
					UnsyncedDataPercent: []int{0, 0, 50, 100}[crash], RNG: rand.New(rand.NewPCG(uint64(crash), 1)),
				})
				s = open(t, mem, Frontier)
				if data, err := s.Inventory(); err != nil {
					t.Fatal(err)
				} else if data == nil {
					if err := s.Rewrite(r, []byte("inventory")); err != nil {
						t.Fatal(err)
					}
				}
			} else {
				closeStore(t, s)
				s = open(t, mem, Frontier)
			}
			defer closeStore(t, s)
			want := []string{
				"11/11:x+values", "11/11:body+body", "11/11:" + long, "12/12:x+values", "12/12:body+body", "12/12:" + long,
			}
			if got := inboxes(t, s); !slices.Equal(got, want) {
				t.Errorf("waiting %q, want %q", got, want)
			}
			if s.NextSideExpiry(15) != 40 || s.side[5] != nil || len(s.holds) != 0 {
				t.Errorf("side windows %v, holds %v", s.side, s.holds)
			}
			if held, err = s.Holdings(); err != nil || len(held) != 3 || !held[15].Side {
				t.Errorf("held %+v, %v", held, err)
			}
			// The contents go with the last block that refers to them.
			stages := map[uint32][]BlockID{}
			err = s.Inbox(func(stage uint32, group uint16, edge uint32, h Header) {
				stages[stage] = append(stages[stage], BlockID{Group: group, Edge: edge, Seq: h.Seq})
			})
			if err != nil {
				t.Fatal(err)
			}
			for i, stage := range []uint32{11, 12} {
				mustCommit(t, s, &Commit{Stage: stage, Consumed: stages[stage]})
				if len(s.contents) != []int{2, 0}[i] {
					t.Errorf("contents %v after the blocks of %d", s.contents, stage)
				}
			}
			makeDurable(t, s)
			if left := segmentFiles(t, s); len(left) != 0 {
				t.Errorf("%v are left", left)
			}
			if n, err := s.CountRows(rows.Data); err != nil || n != 0 {
				t.Errorf("data of %d blocks is left, %v", n, err)
			}
		})
	}
}
