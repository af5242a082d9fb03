package timer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/rows/rowstest"
	"padstone/internal/fault"
)

// TestStories runs testdata/*.txt. A timer is named key/window/family/tag. Commands:
//
//	set <timer> <event|processing> <fire> [hold=<t>] [pane=<text>]
//	clear <timer>, get <timer>
//	due <event|processing> <up to> [limit=<n>]    what is due
//	fire <event|processing> <up to> [limit=<n>]   the same, and removes it
//	fire-again                                    tries to remove what was removed last
//	next <event|processing>
//	clear-window <key> <window>
//	any-due <key> <window> <event up to> <processing up to> [but=<family>]
//
// Each prints its outcome and, when it may have changed, the holds and the number of rows.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := story{tx: &rowstest.Tx{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t, s.d = t, d
			out, err := s.run()
			if err != nil {
				t.Fatalf("%s: %v", d.Pos, err)
			}
			return out
		})
	})
}

type story struct {
	t    *testing.T
	d    *datadriven.TestData
	tx   *rowstest.Tx
	last []Fired
}

func (s *story) arg(i int) string { return s.d.CmdArgs[i].Key }

func (s *story) id() ID {
	p := strings.Split(s.arg(0), "/")
	return ID{Key: []byte(p[0]), Window: []byte(p[1]), Family: p[2], Tag: []byte(p[3])}
}

func (s *story) time(i int) element.Time {
	n, err := strconv.ParseInt(s.arg(i), 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return element.Time(n)
}

func (s *story) after() string {
	return fmt.Sprintf("timers %d, order %d, holds %s\n", s.tx.Rows(rows.TimerID), s.tx.Rows(rows.TimerTS), s.tx.Holds())
}

func (s *story) run() (string, error) {
	switch s.d.Cmd {
	case "set":
		timer := Timer{Domain: plan.TimeDomain(s.arg(1)), Fire: s.time(2), Hold: NoHold}
		if s.d.HasArg("hold") {
			var hold int64
			s.d.ScanArgs(s.t, "hold", &hold)
			timer.Hold = element.Time(hold)
		}
		var pane string
		s.d.MaybeScanArgs(s.t, "pane", &pane)
		timer.Pane = []byte(pane)
		err := Set(s.tx, s.id(), timer)
		return s.after(), err
	case "clear":
		err := Clear(s.tx, s.id())
		return s.after(), err
	case "get":
		timer, found, err := Get(s.tx, s.id())
		if !found {
			return "not set\n", err
		}
		return text(timer), err
	case "clear-window":
		err := ClearWindow(s.tx, []byte(s.arg(0)), []byte(s.arg(1)))
		return s.after(), err
	case "any-due":
		var but string
		s.d.MaybeScanArgs(s.t, "but", &but)
		due, err := AnyDue(s.tx, []byte(s.arg(0)), []byte(s.arg(1)), s.time(2), s.time(3), but)
		return fmt.Sprintln(due), err
	case "next":
		at, ok, err := Next(s.tx, plan.TimeDomain(s.arg(0)))
		if !ok {
			return "none\n", err
		}
		return fmt.Sprintf("%d\n", int64(at)), err
	case "fire-again":
		return s.fire(s.last)
	}
	limit := 100
	s.d.MaybeScanArgs(s.t, "limit", &limit)
	due, err := Due(s.tx, plan.TimeDomain(s.arg(0)), s.time(1), limit)
	if err != nil || s.d.Cmd == "due" {
		return list(due), err
	}
	s.last = due
	out, err := s.fire(due)
	return list(due) + out, err
}

func (s *story) fire(due []Fired) (string, error) {
	gone := 0
	for _, f := range due {
		removed, err := Remove(s.tx, f)
		if err != nil {
			return "", err
		}
		if removed {
			gone++
		}
	}
	return fmt.Sprintf("removed %d\n", gone) + s.after(), nil
}

func text(t Timer) string {
	hold := "none"
	if t.Hold < NoHold {
		hold = fmt.Sprint(int64(t.Hold))
	}
	return fmt.Sprintf("%s %d hold %s pane %q\n", t.Domain, int64(t.Fire), hold, t.Pane)
}

func list(due []Fired) string {
	var b strings.Builder
	for _, f := range due {
		fmt.Fprintf(&b, "%s/%s/%s/%s: %s", f.Key, f.Window, f.Family, f.Tag, text(f.Timer))
	}
	if len(due) == 0 {
		return "nothing\n"
	}
	return b.String()
}

// TestRandom compares with a map: what is due, when, and what is held, after any sequence of sets, clears and firings.
func TestRandom(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var tx rowstest.Tx
		model := map[string]Timer{}
		for step := range 300 {
			id := ID{Family: []string{"f", "ff", ""}[rng.IntN(3)], Key: make([]byte, rng.IntN(3)), Window: []byte{byte(rng.IntN(2))},
				Tag: []byte("tag")[:rng.IntN(3)]}
			name := fmt.Sprintf("%x|%x|%s|%s", id.Key, id.Window, id.Family, id.Tag)
			var err error
			switch rng.IntN(4) {
			case 0:
				err = Clear(&tx, id)
				delete(model, name)
			case 1:
				err = fireModel(&tx, model, element.Time(rng.IntN(100)-50), rng.IntN(5))
			default:
				timer := Timer{Domain: plan.EventTime, Fire: element.Time(rng.IntN(100) - 50), Hold: NoHold}
				if rng.IntN(2) == 0 {
					timer.Hold = element.Time(rng.IntN(10))
				}
				err = Set(&tx, id, timer)
				model[name] = timer
			}
			if err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
			if err := matches(&tx, model); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
		}
	}
}

func fireModel(tx rows.Tx, model map[string]Timer, upTo element.Time, limit int) error {
	due, err := Due(tx, plan.EventTime, upTo, limit)
	for _, f := range due {
		name := fmt.Sprintf("%x|%x|%s|%s", f.Key, f.Window, f.Family, f.Tag)
		if model[name].Fire != f.Fire {
			return fmt.Errorf("%s fires at %d, is set to %d", name, f.Fire, model[name].Fire)
		}
		for other, timer := range model {
			if timer.Fire < f.Fire {
				return fmt.Errorf("%s fires before %s", name, other)
			}
		}
		delete(model, name)
		if _, err := Remove(tx, f); err != nil {
			return err
		}
	}
	return err
}

func matches(tx *rowstest.Tx, model map[string]Timer) error {
	var holds rowstest.Tx
	next, ok := element.MaxTime, false
	for _, timer := range model {
		if timer.Hold < NoHold {
			holds.Hold(timer.Hold, +1)
		}
		next, ok = min(next, timer.Fire), true
	}
	at, found, err := Next(tx, plan.EventTime)
	switch {
	case err != nil:
		return err
	case found != ok || ok && at != next:
		return fmt.Errorf("next is %d, %t; want %d, %t", at, found, next, ok)
	case tx.Holds() != holds.Holds():
		return fmt.Errorf("holds %s; want %s", tx.Holds(), holds.Holds())
	case tx.Rows(rows.TimerID) != len(model) || tx.Rows(rows.TimerTS) != len(model):
		return fmt.Errorf("%d timers have %d and %d rows", len(model), tx.Rows(rows.TimerID), tx.Rows(rows.TimerTS))
	}
	return nil
}

func TestFaults(t *testing.T) {
	id := ID{Family: "f", Key: []byte("k"), Window: []byte("w")}
	disk := errors.New("disk")
	tx := &rowstest.Tx{Fail: disk}
	calls := map[string]func() error{
		"set":          func() error { return Set(tx, id, Timer{}) },
		"clear":        func() error { return Clear(tx, id) },
		"get":          func() error { _, _, err := Get(tx, id); return err },
		"due":          func() error { _, err := Due(tx, plan.EventTime, 10, 1); return err },
		"remove":       func() error { _, err := Remove(tx, Fired{ID: id}); return err },
		"next":         func() error { _, _, err := Next(tx, plan.EventTime); return err },
		"any due":      func() error { _, err := AnyDue(tx, id.Key, id.Window, 10, 10, ""); return err },
		"clear window": func() error { return ClearWindow(tx, id.Key, id.Window) },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, disk) {
			t.Errorf("%s: got %v, want the store's error", name, err)
		}
	}
	tx.Fail = nil
	if err := Set(tx, id, Timer{Domain: plan.EventTime, Fire: 5, Hold: 5}); err != nil {
		t.Fatal(err)
	}
	tx.Set(rows.TimerID, appendID(nil, id), []byte{9, 9})
	delete(calls, "next") // reads nothing that could be corrupt
	for name, call := range calls {
		if err := call(); fault.KindOf(err) != fault.Corruption {
			t.Errorf("%s: got %v, want a fault of kind corruption", name, err)
		}
	}
	tx.Delete(rows.TimerID, appendID(nil, id))
	if err := calls["due"](); fault.KindOf(err) != fault.Corruption {
		t.Errorf("firing time without a record: %v", err)
	}
}
