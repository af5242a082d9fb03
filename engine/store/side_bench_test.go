package store_test

import (
	"fmt"
	"testing"

	"go.uber.org/zap"

	"padstone/engine/element"
	"padstone/engine/rows"
	"padstone/engine/store"
)

// BenchmarkSideLookup reads the values of one key of a side input of many: what a lookup costs must not grow with the side input.
func BenchmarkSideLookup(b *testing.B) {
	for _, keys := range []int{100, 10_000, 1_000_000} {
		b.Run(fmt.Sprint(keys), func(b *testing.B) {
			s, err := store.Open(store.Config{Dir: b.TempDir(), Logger: zap.NewNop()})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			key := func(i int) []byte {
				return rows.AppendBytes(rows.AppendBytes(nil, nil), fmt.Append(nil, "key-", i))
			}
			const batch = 10_000
			for from := 0; from < keys; from += batch {
				var c store.Commit
				for i := from; i < min(keys, from+batch); i++ {
					c.Side = append(c.Side, store.SideRow{Edge: 1, Key: key(i), Value: []byte("0123456789"), End: element.MaxTime})
				}
				if _, err := s.Commit(&c); err != nil {
					b.Fatal(err)
				}
			}
			v := s.Snapshot()
			defer v.Close()
			b.ReportAllocs()
			n := 0
			for i := 0; b.Loop(); i++ {
				err := v.Side(1, key(i*7919%keys), nil, func(_, values []byte) ([]byte, bool) {
					n++
					return nil, true
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			if n < b.N {
				b.Fatalf("%d values in %d lookups", n, b.N)
			}
		})
	}
}
