package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/store"
	"padstone/engine/timer"
	"padstone/internal/buffers"
	"padstone/internal/ratio"
)

func openBench(b *testing.B) *store.Store {
	b.Helper()
	s, err := store.Open(store.Config{Dir: b.TempDir(), Logger: zap.NewNop()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// BenchmarkCommit commits a block of each size, reads it and consumes it with the next one, as a chain of bundles does: in rows, and ahead
// of the commit. Beside it: writing as many bytes to a file and reading them, again and again in the same place.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000} {
		for _, ahead := range []bool{false, true} {
			if ahead && size < 10_000 {
				continue
			}
			name := fmt.Sprintf("%d bytes in rows", size)
			if ahead {
				name = fmt.Sprintf("%d bytes ahead", size)
			}
			b.Run(name, func(b *testing.B) {
				s := openBench(b)
				data := make([]byte, size)
				for i := range data { // nothing that compresses
					data[i] = byte(i * i >> 7)
				}
				var last uint64
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					last = pass(b, s, data, ahead, last)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
				f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
				if err != nil {
					b.Fatal(err)
				}
				defer f.Close()
				to := make([]byte, size)
				ratio.Report(b, "file", func() {
					if _, err := f.WriteAt(data, 0); err != nil {
						b.Fatal(err)
					}
					if _, err := f.ReadAt(to, 0); err != nil {
						b.Fatal(err)
					}
				})
			})
		}
	}
}

// pass commits a block and consumes the last one, having read it.
func pass(b *testing.B, s *store.Store, data []byte, ahead bool, last uint64) uint64 {
	c := &store.Commit{Stage: 1}
	block := store.Block{Header: store.Header{Count: 1, Bytes: len(data)}, Data: data}
	if ahead {
		c.Ahead = s.WriteAhead()
		body := c.Ahead.New()
		if err := body.Append(data); err != nil {
			b.Fatal(err)
		}
		block.Data, block.Body = nil, body.ID()
	}
	c.Added = []store.Added{{Stage: 1, Block: block}}
	if last > 0 {
		id := store.BlockID{Seq: last}
		var lent *buffers.Buffer
		read, err := s.BlockIn(1, id, func(n int) []byte { lent = buffers.Get(n); return lent.Bytes() })
		if err != nil || len(read.Data) != len(data) {
			b.Fatal(len(read.Data), err)
		}
		lent.Release()
		c.Consumed = []store.BlockID{id}
	}
	if _, err := s.Commit(c); err != nil {
		b.Fatal(err)
	}
	return c.Added[0].Block.Seq
}

// BenchmarkDurable makes each commit of a small block durable. Beside it: appending as many bytes to a file and syncing it.
func BenchmarkDurable(b *testing.B) {
	for _, ahead := range []bool{false, true} {
		b.Run(fmt.Sprintf("ahead=%t", ahead), func(b *testing.B) {
			s := openBench(b)
			data := make([]byte, 100_000)
			var last uint64
			for b.Loop() {
				last = pass(b, s, data, ahead, last)
				if err := s.WaitDurable(b.Context(), s.Applied()); err != nil {
					b.Fatal(err)
				}
			}
			f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			ratio.Report(b, "file", func() {
				if _, err := f.Write(data); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkTimers sets the timers of ten thousand keys in one bundle, and fires them in the next.
func BenchmarkTimers(b *testing.B) {
	const n = 10_000
	s := openBench(b)
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "key-%06d", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		set := s.Begin(1)
		tx := set.Group(3)
		for i, key := range keys {
			at := element.Time(i % 100)
			if err := timer.Set(tx, timer.ID{Key: key, Family: "f"}, timer.Timer{Domain: plan.EventTime, Fire: at, Hold: at}); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := s.Commit(&store.Commit{Stage: 1, Rows: set}); err != nil {
			b.Fatal(err)
		}
		fire := s.Begin(1)
		tx = fire.Group(3)
		due, err := timer.Due(tx, plan.EventTime, 100, n)
		if err != nil || len(due) != n {
			b.Fatal(len(due), err)
		}
		for _, d := range due {
			if removed, err := timer.Remove(tx, d); err != nil || !removed {
				b.Fatal(removed, err)
			}
		}
		if _, err := s.Commit(&store.Commit{Stage: 1, Rows: fire}); err != nil {
			b.Fatal(err)
		}
	}
	ratio.Each(b, n, "timer")
}
