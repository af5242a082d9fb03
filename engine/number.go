package engine

import (
	"slices"
	"strconv"

	"padstone/engine/store"
)

// metaOf names a metadata entry of a stage, by its number.
func (j *job) metaOf(prefix string, stage int) string { return metaOf(j.numbers, prefix, stage) }

func metaOf(n store.Numbering, prefix string, stage int) string {
	return metaNumbered(prefix, n.Stages[stage])
}

func metaNumbered(prefix string, number uint32) string {
	return prefix + strconv.FormatUint(uint64(number), 10)
}

// stageNumbered returns the stage with the number that a metadata entry names; ok is false when there is none.
func (j *job) stageNumbered(text string) (stage int, ok bool) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, false
	}
	i := slices.Index(j.numbers.Stages, uint32(n))
	return i, i >= 0
}
