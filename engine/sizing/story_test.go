package sizing

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestStories walks the stories in testdata. Commands:
//
//	pool size=N [every=S] [idle=S] [backlog=S]   a pool that begins with so many processes
//	bounds MIN MAX                               from now on
//	machine cores=N
//	look [times=N] [backlog=S] [busy=SHARE] [cpu=CORES] [ready=N] [trouble]   looks, one every second; ready: all that there should be
//	failed size=N                                a process could not be started
//	started
//
// Of looks those are printed that change something, and the last one.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		st := &story{}
		datadriven.RunTest(t, path, st.run)
	})
}

type story struct {
	pool   *Controller
	bounds Bounds
	cores  int
	at     time.Duration
}

func (st *story) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "pool":
		size := 1
		d.ScanArgs(t, "size", &size)
		st.pool = New(Config{Every: seconds(t, d, "every"), IdleFor: seconds(t, d, "idle"), BacklogMin: seconds(t, d, "backlog")}, size)
		st.bounds, st.at = Bounds{size, size}, 0
	case "bounds":
		st.bounds = Bounds{number(t, d.CmdArgs[0].Key), number(t, d.CmdArgs[1].Key)}
	case "machine":
		d.ScanArgs(t, "cores", &st.cores)
	case "failed":
		size := 0
		d.ScanArgs(t, "size", &size)
		st.pool.Failed(st.at, size)
	case "started":
		st.pool.Started()
	case "look":
		return st.look(t, d)
	default:
		t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	}
	return ""
}

func (st *story) look(t *testing.T, d *datadriven.TestData) string {
	times, busy, cpu := 1, 0.0, -1.0
	d.MaybeScanArgs(t, "times", &times)
	for name, to := range map[string]*float64{"busy": &busy, "cpu": &cpu} {
		text := ""
		if d.MaybeScanArgs(t, name, &text); text != "" {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			*to = v
		}
	}
	var out strings.Builder
	for i := range times {
		st.at += st.pool.cfg.Every
		s := Signals{At: st.at, Ready: st.pool.Size(), Backlog: seconds(t, d, "backlog"), Busy: busy, CPU: cpu, Cores: st.cores}
		d.MaybeScanArgs(t, "ready", &s.Ready)
		if d.HasArg("trouble") {
			s.Trouble = "a process is lost"
		}
		was := st.pool.Size()
		decided := st.pool.Look(st.bounds, s)
		if decided.Reason != "" {
			fmt.Fprintf(&out, "%s: %d -> %d, since %s\n", st.at, was, decided.Size, decided.Reason)
		} else if i == times-1 {
			fmt.Fprintf(&out, "%s: %d\n", st.at, decided.Size)
			if why := st.pool.Holding(); why != "" {
				fmt.Fprintf(&out, "%s\n", why)
			}
		}
	}
	return out.String()
}

func seconds(t *testing.T, d *datadriven.TestData, name string) time.Duration {
	text := ""
	if d.MaybeScanArgs(t, name, &text); text == "" {
		return 0
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(v * float64(time.Second))
}

func number(t *testing.T, text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
