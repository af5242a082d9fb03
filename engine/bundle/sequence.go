package bundle

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/timer"
)

// item is what user code is handed for one key and window: a timer that fires, or an element of a time-sorted input.
type item struct {
	at     element.Time // when it is due
	rank   byte         // what goes first of what is due at once, and of what cannot be compared
	family *timerFamily // nil: an element
	id     string       // of a timer: family and tag
	fired  *timer.Fired // of a timer that was kept in rows
	row    []byte       // of an element
	data   []byte       // encoded, as it is sent
}

const (
	rankElement    = iota // elements up to a time go before timers at it
	rankEvent             // timers of event time
	rankProcessing        // timers of processing time, whenever they are due
)

func (a item) compare(b item) int {
	if last := cmp.Compare(a.rank/rankProcessing, b.rank/rankProcessing); last != 0 {
		return last
	}
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.rank, b.rank))
}

func timerID(family string, tag []byte) string {
	return string(append(append([]byte(family), 0), tag...))
}

// sequence is what a bundle hands to user code, in the order that event time asks for.
type sequence struct {
	keys   []string // in order of their first item
	items  map[string][]item
	scopes map[string][]item // by key and window
	count  int
}

func newSequence() *sequence {
	return &sequence{items: make(map[string][]item), scopes: make(map[string][]item)}
}

func scopeName(key, w []byte) string { return string(rows.AppendBytes(rows.AppendBytes(nil, key), w)) }

// add appends the items of a key and window, which are in order.
func (s *sequence) add(key, w []byte, items []item) {
	if len(items) == 0 {
		return
	}
	s.count += len(items)
	k := string(key)
	if s.items[k] == nil {
		s.keys = append(s.keys, k)
	}
	s.items[k] = append(s.items[k], items...)
	name := scopeName(key, w)
	s.scopes[name] = append(s.scopes[name], items...)
}

// only returns the item of a sequence that has just one.
func (s *sequence) only() (item, bool) {
	if s.count != 1 {
		return item{}, false
	}
	return s.items[s.keys[0]][0], true
}

// run is a message of a sequence: elements, or timers of one family.
type run struct {
	family *timerFamily
	data   []byte
}

// runs cuts the sequence into messages. Each key's items keep their order; which of several keys goes first is left to whatever makes
// few messages: one channel after the other takes what is next in turn of every key.
func (s *sequence) runs(channels []*timerFamily) []run {
	left := make([][]item, 0, len(s.keys))
	for _, k := range s.keys {
		items := s.items[k]
		slices.SortStableFunc(items, item.compare) // windows of one key are merged
		left = append(left, items)
	}
	var runs []run
	for len(left) > 0 {
		for _, ch := range channels {
			for i, items := range left {
				for len(items) > 0 && items[0].family == ch {
					runs = appendRun(runs, items[0])
					items = items[1:]
				}
				left[i] = items
			}
		}
		left = slices.DeleteFunc(left, func(items []item) bool { return len(items) == 0 })
	}
	return runs
}

func appendRun(runs []run, i item) []run {
	if n := len(runs) - 1; n >= 0 && runs[n].family == i.family && len(runs[n].data) < messageBytes {
		runs[n].data = append(runs[n].data, i.data...)
		return runs
	}
	return append(runs, run{family: i.family, data: slices.Clone(i.data)})
}

// overrun says that a bundle has handed out more of some key and window than event time allows: user code has set or cleared a timer
// that belongs before something which was in the bundle already. The bundle must run again with no more than items of each key and
// window. Another thing than running it again is not to be had: harnesses tell of timers when a bundle ends.
type overrun struct{ items int }

func (o *overrun) Error() string {
	return fmt.Sprintf("timers were set before what was in the same bundle; it may hold %d items a key and window", o.items)
}

// tooMany returns how many items of the key and window the bundle may have held at most for the timer to be set, or cleared (set is
// nil), in it; 0 if it is as it should be. The first item is never too many, so that a bundle of one item each gets on.
func (s *sequence) tooMany(key, w []byte, family *timerFamily, tag []byte, set *element.Time) int {
	sc := s.scopes[scopeName(key, w)]
	id := timerID(family.name, tag)
	for i := 1; i < len(sc); i++ {
		it := sc[i]
		before := set != nil && family.def.Domain == plan.EventTime && it.rank != rankProcessing && it.at > *set
		// The timer itself has fired in the bundle. Maybe its own callback has set it again; maybe it should not have fired.
		if before || it.id == id && it.family != nil {
			return i
		}
	}
	return 0
}

// kind says whether the first item of the key and window is a timer, and how many of the same kind come first if there are others.
func (s *sequence) kind(key, w []byte) (timers bool, mixedFrom int) {
	sc := s.scopes[scopeName(key, w)]
	if sc == nil {
		return true, 0
	}
	timers = sc[0].family != nil
	for i, it := range sc {
		if timers != (it.family != nil) {
			return timers, i
		}
	}
	return timers, 0
}

// paces bounds the items of one key and window in a bundle, by stage. The zero value bounds nothing. A bound comes with an overrun,
// and grows again as bundles succeed: the more often it proved too large, the later.
type paces struct {
	mu     sync.Mutex
	stages map[int]*pace
}

type pace struct {
	items, successes, patience int
}

const (
	patienceMax  = 64
	paceItemsMax = 1 << 16
)

// items returns the bound; 0: none.
func (p *paces) items(stage int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.stages[stage]; s != nil {
		return s.items
	}
	return 0
}

// overran takes a bound down to items.
func (p *paces) overran(stage, items int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stages == nil {
		p.stages = make(map[int]*pace)
	}
	s := p.stages[stage]
	if s == nil {
		s = &pace{patience: 1}
		p.stages[stage] = s
	}
	s.items, s.successes, s.patience = items, 0, min(s.patience*2, patienceMax)
}

// succeeded notes that a bundle within the bound, which has left something out, was none too large.
func (p *paces) succeeded(stage int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stages[stage]
	if s == nil || s.items == 0 {
		return
	}
	if s.successes++; s.successes < s.patience {
		return
	}
	s.successes = 0
	if s.items *= 2; s.items > paceItemsMax {
		s.items = 0
	}
}

// dueTimers reads the timers of one key group that are due, up to limit of them, user's and ours, without removing them. Timers of
// event time later than horizon may be due, too.
func dueTimers(tx rows.Tx, event, processing element.Time, limit int) (due []timer.Fired, horizon element.Time, err error) {
	horizon = element.MaxTime
	if due, err = timer.Due(tx, plan.EventTime, event, limit); err != nil {
		return nil, 0, err
	}
	if len(due) >= limit {
		return due, due[len(due)-1].Fire, nil
	}
	more, err := timer.Due(tx, plan.ProcessingTime, processing, limit-len(due))
	return append(due, more...), horizon, err
}
