package rowstest

import (
	"errors"
	"fmt"
	"testing"

	"padstone/engine/element"
	"padstone/engine/rows"
)

// TestTx holds the fake to the contract of rows.Tx, and to being stricter than it.
func TestTx(t *testing.T) {
	var tx Tx
	for _, k := range []string{"b", "ab", "a", "aba"} {
		tx.Set(rows.State, []byte(k), []byte("value of "+k))
	}
	tx.Merge(rows.State, []byte("a"), []byte("!"))
	tx.Merge(rows.State, []byte("c"), nil)
	lent, err := tx.Get(rows.State, []byte("a"))
	if string(lent) != "value of a!" || err != nil {
		t.Errorf("got %q, %v", lent, err)
	}
	if v, _ := tx.Get(rows.State, []byte("c")); v == nil || len(v) > 0 {
		t.Errorf("an empty value reads as %v", v)
	}
	if string(lent) == "value of a!" {
		t.Error("a slice outlives the next call")
	}
	if v, _ := tx.Get(rows.Group, []byte("a")); v != nil {
		t.Errorf("tables mix: %q", v)
	}
	var seen []string
	scan := func(prefix, from string, limit int) string {
		seen = nil
		if err := tx.Scan(rows.State, []byte(prefix), []byte(from), func(k, _ []byte) bool {
			seen = append(seen, string(k))
			return len(seen) < limit
		}); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(seen)
	}
	if got := scan("a", "", 9) + scan("a", "ab", 9) + scan("", "", 2); got != "[a ab aba][ab aba][a ab]" {
		t.Errorf("scans give %s", got)
	}
	tx.DeletePrefix(rows.State, []byte("ab"))
	tx.Delete(rows.State, []byte("c"))
	if got := scan("", "", 9); got != "[a b]" || tx.Rows(rows.State) != 2 || tx.Total() != 2 {
		t.Errorf("left are %s", got)
	}
	tx.Fail = errors.New("disk")
	if _, err := tx.Get(rows.State, nil); !errors.Is(err, tx.Fail) {
		t.Errorf("got %v", err)
	}
}

func TestWriteWhileScanning(t *testing.T) {
	var tx Tx
	tx.Set(rows.State, []byte("ab"), nil)
	defer func() {
		if recover() == nil {
			t.Error("a write into a scanned range goes through")
		}
	}()
	_ = tx.Scan(rows.State, []byte("a"), nil, func(_, _ []byte) bool {
		tx.Set(rows.State, []byte("b"), nil) // outside: fine
		tx.Delete(rows.State, []byte("ab"))
		return true
	})
}

func TestHolds(t *testing.T) {
	var tx Tx
	tx.Hold(5, +1)
	tx.Hold(element.EndOfGlobalTime, +2)
	tx.Hold(3, +1)
	tx.Hold(3, -1)
	if got := tx.Holds(); got != "5ms×1 end-of-global×2" {
		t.Errorf("holds %s", got)
	}
	if at, ok := tx.MinHold(); at != 5 || !ok {
		t.Errorf("earliest hold %d, %t", at, ok)
	}
}
