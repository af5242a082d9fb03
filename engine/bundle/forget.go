package bundle

import (
	"bytes"

	"padstone/engine/rows"
	"padstone/engine/timer"
	"padstone/internal/fault"
)

// Forget removes state cells and timer families of a key group: those that the stage's transform has no longer.
func Forget(tx rows.Tx, cells, families []string) error {
	for _, family := range families {
		if err := timer.ClearFamily(tx, userFamily+family); err != nil {
			return err
		}
	}
	gone := make(map[string]bool)
	for _, cell := range cells {
		gone[cell] = true
	}
	if len(gone) == 0 {
		return nil
	}
	var keys [][]byte
	malformed := false
	err := tx.Scan(rows.State, nil, nil, func(key, _ []byte) bool {
		cell, ok := cellOf(key)
		if ok && gone[cell] {
			keys = append(keys, bytes.Clone(key))
		}
		malformed = !ok
		return ok
	})
	if err == nil && malformed {
		err = fault.New(fault.Corruption, "corrupt-row", "a row of user state is malformed")
	}
	for _, key := range keys {
		tx.Delete(rows.State, key)
	}
	return err
}

// cellOf returns the name of the cell that a row of user state belongs to: window, key, cell, … as appendCell writes them.
func cellOf(key []byte) (string, bool) {
	_, rest, ok := rows.TakeBytes(key)
	if ok {
		_, rest, ok = rows.TakeBytes(rest)
	}
	if !ok {
		return "", false
	}
	cell, _, ok := rows.TakeBytes(rest)
	return string(cell), ok
}
