package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/internal/fault"
)

// pages are contents in memory.
type pages struct {
	all  map[rows.ContentID]*pageList
	fail error
}

type pageList struct {
	of    *pages
	id    rows.ContentID
	pages [][]byte
}

func (p *pages) New() rows.Content {
	if p.all == nil {
		p.all = map[rows.ContentID]*pageList{}
	}
	c := &pageList{of: p, id: rows.ContentID(len(p.all) + 1)}
	p.all[c.id] = c
	return c
}

func (c *pageList) ID() rows.ContentID { return c.id }

func (c *pageList) Append(page []byte) error {
	c.pages = append(c.pages, bytes.Clone(page))
	return c.of.fail
}

// inline puts the values of backed elements back into the block.
func (p *pages) inline(t testing.TB, coding plan.WindowCoding, b element.Block, backed []Backed) element.Block {
	t.Helper()
	if len(backed) == 0 {
		return b
	}
	prog, err := coder.Compile("kv(lp,iter(lp))")
	if err != nil {
		t.Fatal(err)
	}
	out := b
	out.Data = nil
	at := 0
	err = coder.NewScanner(prog, coding).Scan(b.Data, func(e *coder.Elem) error {
		if len(backed) == 0 || backed[0].At != at {
			at += len(e.Raw)
			out.Data = append(out.Data, e.Raw...)
			return nil
		}
		at += len(e.Raw)
		const headLen = 4 + 10 // no length, no values
		token, _, _ := rows.TakeBytes(e.Rest()[headLen:])
		id, n, ok := ParseToken(token)
		if !ok || id != backed[0].Content || n != uint64(len(p.all[id].pages)) {
			t.Errorf("content %d of %d pages, token %x", backed[0].Content, len(p.all[id].pages), e.Rest())
		}
		backed = backed[1:]
		var values []byte
		count := int64(0)
		for i, page := range p.all[id].pages {
			if size := len(page); size == 0 || size > 2*pageBytes || i < len(p.all[id].pages)-1 && size < pageBytes {
				t.Errorf("page %d of %d has %d bytes", i, len(p.all[id].pages), size)
			}
			for rest := page; len(rest) > 0; count++ { // pages end where values do
				size, n := binary.Uvarint(rest)
				rest = rest[n+int(size):]
			}
			values = append(values, page...)
		}
		if len(values) < inlineBytesMax {
			t.Errorf("%d bytes of values are in a content", len(values))
		}
		out.Data = append(out.Data, e.Raw[:len(e.Raw)-len(e.Rest())]...)
		out.Data = AppendIterable(out.Data, values, count)
		return nil
	})
	if err != nil || len(backed) > 0 {
		t.Fatal(err, backed)
	}
	return out
}

// decode takes a block with backed elements apart. Lengths of more than one byte are shortened for it: decode knows no others.
func (p *pages) decode(t testing.TB, coding plan.WindowCoding, b element.Block, backed []Backed) map[string][]string {
	t.Helper()
	prog, err := coder.Compile("kv(lp,iter(lp))")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	err = coder.NewScanner(prog, coding).Scan(p.inline(t, coding, b, backed).Data, func(e *coder.Elem) error {
		win, _ := windowText(t, coding, e.Windows)
		id := fmt.Sprintf("%s %s @%s", e.Key[1:], win, clockText(e.TS))
		if found[id] != nil {
			t.Errorf("pane %s came twice", id)
		}
		found[id] = []string{}
		n := binary.BigEndian.Uint32(e.Rest())
		for rest := e.Rest()[4:]; len(rest) > 0; n-- {
			size, w := binary.Uvarint(rest)
			found[id] = append(found[id], string(rest[w:w+int(size)]))
			rest = rest[w+int(size):]
		}
		if n != 0 {
			t.Errorf("pane %s has a wrong number of values", id)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// files is a scratch in memory.
type files struct {
	open, most, made int
	fail             error
	failAt           int // the number of the call that fails, from 1; 0: none
	calls            int
}

type file struct {
	of *files
	bytes.Buffer
}

func (f *files) call() error {
	if f.calls++; f.calls == f.failAt {
		return f.fail
	}
	return nil
}

func (f *files) Create() (rows.ScratchFile, error) {
	f.open++
	f.made++
	f.most = max(f.most, f.open)
	return &file{of: f}, f.call()
}

func (f *file) Write(b []byte) (int, error) {
	if err := f.of.call(); err != nil {
		return 0, err
	}
	return f.Buffer.Write(b)
}

func (f *file) Open() (io.ReadCloser, error) { return io.NopCloser(&f.Buffer), f.of.call() }

func (f *file) Remove() error {
	f.of.open--
	return f.of.call()
}

// TestGroupAllOverBudget compares groupings that are sorted on disk with those in memory, for every windowing that is grouped in one
// go, with runs that are merged in one step and in several.
func TestGroupAllOverBudget(t *testing.T) {
	all := windowings(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w := all[name]
		w.LatenessMs, w.EmptyOnClose = 0, false
		if !newRig(t, w).m.BatchEligible() {
			continue
		}
		for seed := range uint64(6) {
			var spare *Spare // else in parts, with a key that has half of all in one of them
			parts := 0
			if seed >= 2 {
				spare, parts = &Spare{size: 50 << seed}, 2000
			}
			t.Run(fmt.Sprintf("%s seed %d", name, seed), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 3))
				var data []datum
				for i := range 100 + rng.IntN(500) {
					key := rng.IntN(30)
					if spare != nil {
						key = max(0, key-15)
					}
					data = append(data, datum{
						key: fmt.Sprint("k", key), ts: element.Time(rng.IntN(600) - 100), value: fmt.Sprint("v", i)})
				}
				r := newRig(t, w)
				var out Output
				scratch := &files{}
				budget := Budget{BytesMax: 1 + rng.IntN(30_000), Scratch: scratch, Spare: spare, partsFrom: parts}
				if err := r.m.GroupAll(r.inBlocks(data, 1+rng.IntN(3)), budget, &out); err != nil {
					t.Fatal(err)
				}
				if got, want := sorted(decode(t, r.w.Coding, out.Block)), sorted(r.naive(data)); got != want {
					t.Errorf("got\n%swant\n%s", got, want)
				}
				if scratch.open != 0 || scratch.made > 1 && scratch.most > runsMax+1 {
					t.Errorf("%d runs are left; there were %d at once", scratch.open, scratch.most)
				}
			})
		}
	}
}

// TestHotKey groups a key of many values, and a value longer than a page: they go into pages, in memory, sorted and as a stream.
func TestHotKey(t *testing.T) {
	for _, kind := range []plan.WindowKind{plan.Fixed, plan.Sessions, plan.Custom} {
		w := fixed(plan.TriggerDefault)
		w.Kind, w.SizeMs = kind, 1000
		var data []datum
		want := map[string][]string{}
		for i := range 3000 {
			d := datum{key: "hot", ts: element.Time(1 + i%5), value: fmt.Sprint(i, strings.Repeat("x", 1000))}
			if i == 1234 {
				d.value = strings.Repeat("y", 3*pageBytes/2)
			}
			data = append(data, d)
			want["hot"] = append(want["hot"], d.value)
			if i%1000 == 0 {
				d = datum{key: fmt.Sprint("cold", i), ts: 3, value: "v"}
				data = append(data, d)
				want[d.key] = []string{"v"}
			}
		}
		run := func(how string, do func(r *rig, out *Output) error) {
			r, p := newRig(t, w), &pages{}
			found := map[string][]string{}
			keep := func(b element.Block, backed []Backed) error {
				for id, values := range p.decode(t, r.w.Coding, b, backed) {
					key, _, _ := strings.Cut(id, " ")
					found[key] = append(found[key], values...)
				}
				return nil
			}
			out := Output{Contents: p, FlushBytes: 20, Flush: keep}
			if err := do(r, &out); err != nil {
				t.Fatal(err)
			}
			if err := keep(out.Block, out.Backed); err != nil {
				t.Fatal(err)
			}
			for key, values := range want {
				if got := found[key]; !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(values))) {
					t.Errorf("%s %s: %d values of %q, want %d", kind, how, len(got), key, len(values))
				}
			}
			if len(found) != len(want) || len(p.all) != 1 {
				t.Errorf("%s %s: %d keys of %d, %d contents", kind, how, len(found), len(want), len(p.all))
			}
		}
		run("in memory", func(r *rig, out *Output) error { return r.m.GroupAll(r.inBlocks(data, 100), Budget{}, out) })
		run("sorted", func(r *rig, out *Output) error {
			return r.m.GroupAll(r.inBlocks(data, 100), Budget{BytesMax: 200_000, Scratch: &files{}}, out)
		})
		run("streamed", func(r *rig, out *Output) error {
			for part := range slices.Chunk(data, 1000) {
				if err := r.m.Process(&r.tx, r.encode(part), r.env, out); err != nil {
					return err
				}
			}
			err := r.tx.Scan(rows.Group, nil, nil, func(_, value []byte) bool {
				if len(value) > chunkBytesMax && len(value) < pageBytes {
					t.Errorf("a row of %d bytes", len(value))
				}
				return true
			})
			r.env.InputWatermark = element.MaxTime
			for due := r.due(plan.EventTime, element.MaxTime); len(due) > 0; due = r.due(plan.EventTime, element.MaxTime) {
				err = errors.Join(err, r.m.Timers(&r.tx, due, r.env, out))
			}
			return err
		})
	}
}

// TestScratchFails: whatever call of the scratch fails, the grouping fails for the environment's fault.
func TestScratchFails(t *testing.T) {
	for at := 1; ; at += 1 + at/20 {
		r := newRig(t, fixed(plan.TriggerDefault))
		var data []datum
		for i := range 2 * runsMax {
			data = append(data, datum{key: fmt.Sprint("k", i%5), ts: 1, value: "v"})
		}
		disk := errors.New("disk")
		scratch := &files{fail: disk, failAt: at}
		err := r.m.GroupAll(r.inBlocks(data, 1), Budget{BytesMax: 1, Scratch: scratch}, &Output{})
		if scratch.calls < at {
			if err != nil {
				t.Errorf("%v without a fault", err)
			}
			return
		}
		if !errors.Is(err, disk) || fault.KindOf(err) != fault.Environment {
			t.Fatalf("call %d failed, the grouping: %v", at, err)
		}
	}
}

// TestContentFails: a content that cannot be written ends the call.
func TestContentFails(t *testing.T) {
	r := newRig(t, fixed(plan.TriggerDefault))
	p := &pages{fail: errors.New("disk")}
	data := []datum{{key: "a", ts: 1, value: strings.Repeat("x", 2*inlineBytesMax)}}
	if err := r.m.GroupAll(r.inBlocks(data, 1), Budget{}, &Output{Contents: p}); !errors.Is(err, p.fail) {
		t.Errorf("got %v", err)
	}
}
