package bundle

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/scheduler"
	"padstone/engine/store"
)

// splitter is an SDK that processes elements, each a restriction [0, 8), and splits at random.
type splitter struct {
	rng      *rand.Rand
	n        int // elements that it gets
	index    int // of the element that it is at
	stop     int // elements from here on are not its own any more
	done, to int // of the restriction of that element
}

const restrictionEnd = 8

// step goes on to another element or splits; nil is no split.
func (s *splitter) step() *fnpb.ProcessBundleSplitResponse {
	if s.rng.IntN(3) == 0 && s.index+1 < min(s.stop, s.n) {
		s.index, s.done, s.to = s.index+1, 0, restrictionEnd
		return nil
	}
	if s.index >= 0 && s.rng.IntN(2) == 0 && s.to > 1 { // the element is split, and those behind it are given up
		at := 1 + s.rng.IntN(s.to-1)
		resp := &fnpb.ProcessBundleSplitResponse{
			PrimaryRoots:  []*fnpb.BundleApplication{application(s.index, 0, at)},
			ResidualRoots: []*fnpb.DelayedBundleApplication{{Application: application(s.index, at, s.to)}},
			ChannelSplits: []*fnpb.ProcessBundleSplitResponse_ChannelSplit{{
				LastPrimaryElement: int64(s.index) - 1, FirstResidualElement: int64(s.index) + 1,
			}},
		}
		s.to, s.stop = at, s.index+1
		return resp
	}
	if first := max(1, s.index+1) + s.rng.IntN(4); first < s.stop {
		s.stop = first
		return &fnpb.ProcessBundleSplitResponse{ChannelSplits: []*fnpb.ProcessBundleSplitResponse_ChannelSplit{{
			LastPrimaryElement: int64(first) - 1, FirstResidualElement: int64(first),
		}}}
	}
	return nil
}

func application(i, from, to int) *fnpb.BundleApplication {
	return &fnpb.BundleApplication{TransformId: "sdf", Element: restrictionElement(i, from, to)}
}

// restrictionElement encodes "i:from-to" in the global window.
func restrictionElement(i, from, to int) []byte {
	b := coder.AppendHeader(nil, element.Time(i), 1, nil, []byte{coder.NoFiring})
	return rows.AppendBytes(b, fmt.Appendf(nil, "%d:%d-%d", i, from, to))
}

// claims lists the units of work "i:n" in encoded restrictions.
func claims(t *testing.T, s *coder.Scanner, data []byte) (units []string) {
	t.Helper()
	err := s.Scan(data, func(el *coder.Elem) error {
		var i, from, to int
		text, _, _ := rows.TakeBytes(el.Value)
		fmt.Sscanf(string(text), "%d:%d-%d", &i, &from, &to)
		for n := from; n < to; n++ {
			units = append(units, fmt.Sprintf("%d:%d", i, n))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return units
}

// TestSplitsLoseNothing splits a bundle again and again. At any time, what it has and what it has given up are its input, once.
func TestSplitsLoseNothing(t *testing.T) {
	prog, err := coder.Compile("lp")
	if err != nil {
		t.Fatal(err)
	}
	st := openStore(t)
	e := &edge{def: &plan.Edge{Window: plan.GlobalWindow}, value: prog, scanner: coder.NewScanner(prog, plan.GlobalWindow)}
	divisions := 0
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		blocks := make(map[uint64][]byte) // what waits and what the bundle has, by sequence
		h := &harnessBundle{
			runner: &Runner{Store: st, Job: &Job{Plan: &plan.Plan{KeyGroups: 8}}}, start: &scheduler.Start{}, stage: &Stage{
				Def: &plan.Stage{Name: "sdf", Splittable: &plan.Splittable{Transform: "sdf"}}, input: e,
			},
		}
		var all []string
		n := 1 + rng.IntN(12)
		for i := 0; i < n; {
			b := scheduler.Block{Seq: uint64(len(blocks) + 1), Hold: element.Time(i)}
			var data []byte
			for count := 1 + rng.IntN(4); count > 0 && i < n; count-- {
				data = append(data, restrictionElement(i, 0, restrictionEnd)...)
				b.Count++
				i++
			}
			blocks[b.Seq] = data
			all = append(all, claims(t, e.scanner, data)...)
			h.input.add(part{block: b, count: b.Count, data: data})
		}
		slices.Sort(all)
		next := uint64(100)
		sdk := &splitter{rng: rng, n: n, index: -1, stop: n + 2} // a source does not know how much it will get
		for range 30 {
			resp := sdk.step()
			if resp == nil {
				continue
			}
			divisions++
			v := &divider{h: h, d: &Division{Commit: store.Commit{Ahead: st.WriteAhead()}}}
			if err := v.plan(resp); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			for _, id := range v.d.Commit.Consumed {
				delete(blocks, id.Seq)
			}
			for i := range v.d.Commit.Added {
				next++
				a := &v.d.Commit.Added[i]
				a.Block.Seq = next
				blocks[next] = a.Block.Data
			}
			v.committed()
			checkInput(t, seed, h, blocks, all)
		}
	}
	if divisions < 1000 {
		t.Errorf("only %d splits were made", divisions)
	}
}

// checkInput compares all blocks with the whole input, and what the bundle thinks it has with its blocks.
func checkInput(t *testing.T, seed uint64, h *harnessBundle, blocks map[uint64][]byte, all []string) {
	t.Helper()
	var got []string
	for _, data := range blocks {
		got = append(got, claims(t, h.stage.input.scanner, data)...)
	}
	slices.Sort(got)
	if !slices.Equal(got, all) {
		t.Fatalf("seed %d: the parts hold\n%s\nof\n%s", seed, strings.Join(got, " "), strings.Join(all, " "))
	}
	count := 0
	for _, p := range h.input.parts {
		if string(p.data) != string(blocks[p.block.Seq]) {
			t.Fatalf("seed %d: block %d is not what the bundle has of it", seed, p.block.Seq)
		}
		count += p.count
	}
	if count != h.input.planned {
		t.Fatalf("seed %d: %d elements in parts, %d planned", seed, count, h.input.planned)
	}
	for _, b := range h.input.blocks() {
		if blocks[b.Seq] == nil {
			t.Fatalf("seed %d: the bundle has block %d, which is gone", seed, b.Seq)
		}
	}
}
