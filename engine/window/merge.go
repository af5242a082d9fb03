package window

import (
	"cmp"
	"slices"
)

// Merge merges sessions that overlap strictly: [0,10) and [10,20) touch and stay apart. It returns the merged spans in order of
// their starts, and for each span of the input the index of the one it went into. The input keeps its order.
// Spec: Sessions.merge (Python transforms/window.py).
func Merge(spans []Span) (merged []Span, into []int) {
	into = make([]int, len(spans))
	order := into // with one span, or none, there is no order to find
	if len(spans) > 1 {
		order = make([]int, len(spans))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(spans[a].Start, spans[b].Start) })
	}
	for _, i := range order {
		last := len(merged) - 1
		if last >= 0 && merged[last].End > spans[i].Start {
			merged[last].End = max(merged[last].End, spans[i].End)
		} else {
			merged = append(merged, spans[i])
			last++
		}
		into[i] = last
	}
	return merged, into
}
