package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/core/graph/window"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/options/jobopts"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/runners/universal" // registers the runner
)

var (
	program  = flag.String("padstone", "../bin/padstone", "the server's binary")
	dataDir  = flag.String("data-dir", "", "data directory of the server; empty: a temporary one")
	kind     = flag.String("case", "gbk", "gbk, reshuffle, windowed, state, side")
	source   = flag.String("source", "split", "fused: one bundle makes all elements; split: a splittable DoFn; stream: an unbounded one")
	elements = flag.Int64("elements", 1_000_000, "elements a job")
	keys     = flag.Int64("keys", 100_000, "keys")
	size     = flag.Int("size", 16, "bytes of a value, 8 at least")
	hot      = flag.Float64("hot", 0, "share of the elements that have one key")
	windows  = flag.Duration("windows", 10*time.Second, "length of the windows of case windowed")
	rate     = flag.Int64("per-second", 100_000, "elements a second of event time in each of the four streams of an unbounded source")
	pause    = flag.Duration("pause", 0, "how long the consumer rests at each group")
	readers  = flag.Int("readers", 1, "how many main elements read the side input of case side")
	jobs     = flag.Int("jobs", 1, "jobs at a time")
	args     = flag.String("serve", "", "further flags of the server")
	group    = flag.Int64("cgroup-mib", 0, "run the server in a cgroup with a hard limit, and fail if that kills it; 0: no limit")
	limit    = flag.Float64("limit-mib", 0, "fail when the server's peak RSS is higher; 0: no limit")
)

// memory runs a load and prints what the server has used for it.
func memory(ctx context.Context) error {
	dir := *dataDir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "padstone-bench"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	var hard *cgroup
	if *group > 0 {
		var err error
		if hard, err = newCgroup(*group); err != nil {
			return err
		}
		defer hard.remove()
	}
	s, err := startServer(hard.command(*program), dir, strings.Fields(*args)...)
	if err != nil {
		return err
	}
	defer s.kill()
	before, err := s.usage()
	if err != nil {
		return err
	}
	w := watch(s)
	began := time.Now()
	err = runJobs(ctx, s)
	took := time.Since(began)
	after, uerr := s.usage()
	disk := w.stop()
	if hard != nil {
		killed, kerr := hard.killed()
		if killed > 0 {
			kerr = fmt.Errorf("a cgroup of %d MiB has killed %d processes", *group, killed)
		}
		err = errors.Join(kerr, err)
	}
	if err = errors.Join(err, uerr); err != nil {
		return err
	}
	all := float64(*elements) * float64(*jobs)
	cpu := after.cpu - before.cpu
	fmt.Printf("%s %s: %d elements of %d bytes, %d keys, hot %.2g, %d jobs\n", *kind, *source, *elements, *size, *keys, *hot, *jobs)
	fmt.Printf("  took %.1f s, %.0f elements/s\n", took.Seconds(), all/took.Seconds())
	fmt.Printf("  server: peak RSS (VmHWM) %.0f MiB, %.0f MiB before; CPU %.1f s, %.2f s a million elements; data directory %.0f MiB\n",
		after.peakMiB, before.peakMiB, cpu.Seconds(), cpu.Seconds()/all*1e6, disk)
	if *limit > 0 && after.peakMiB > *limit {
		return fmt.Errorf("the server has used %.0f MiB, more than %.0f", after.peakMiB, *limit)
	}
	return nil
}

// watched looks at the data directory while a load runs.
type watched struct {
	end  chan struct{}
	disk chan float64
}

func watch(s *server) *watched {
	w := &watched{end: make(chan struct{}), disk: make(chan float64)}
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		began, most := time.Now(), 0.0
		for n := 1; ; n++ {
			select {
			case <-w.end:
				w.disk <- most
				return
			case <-tick.C:
			}
			now := s.diskMiB()
			most = max(most, now)
			if u, err := s.usage(); err == nil && n%10 == 0 {
				fmt.Fprintf(os.Stderr, "%5.0f s: RSS %.0f MiB, peak %.0f MiB, CPU %.0f s, disk %.0f MiB\n",
					time.Since(began).Seconds(), u.residentMiB, u.peakMiB, u.cpu.Seconds(), now)
			}
		}
	}()
	return w
}

func (w *watched) stop() float64 {
	close(w.end)
	return <-w.disk
}

// runJobs runs the jobs at the same time and verifies what comes out.
func runJobs(ctx context.Context, s *server) error {
	*jobopts.Endpoint = s.endpoints["job"]
	*jobopts.EnvironmentType = "LOOPBACK"
	*jobopts.WorkerBinary = os.Args[0] // staged, not run: the harness is this process
	shape := Shape{Elements: *elements, Keys: *keys, Size: max(*size, 8), Hot: *hot, Streams: 4, PerSecond: *rate}
	errs := make([]error, *jobs)
	var running sync.WaitGroup
	for job := range *jobs {
		running.Go(func() {
			p, sc := beam.NewPipelineWithRoot()
			beam.ParDo0(sc, &Result{Job: job}, build(sc, shape))
			_, errs[job] = beam.Run(ctx, "universal", p)
		})
	}
	running.Wait()
	want := shape.want()
	if *kind == "side" {
		n := int64(*readers)
		want = Total{Elements: want.Elements * n, Bytes: want.Bytes * n, Sum: want.Sum * n}
	}
	for job, err := range errs {
		if err != nil {
			return err
		}
		v, _ := results.Load(job)
		got, _ := v.(Total)
		fmt.Fprintf(os.Stderr, "job %d: %+v\n", job, got)
		if want.Groups = got.Groups; got != want {
			return fmt.Errorf("job %d: %+v came out, not %+v", job, got, want)
		}
	}
	return nil
}

// build makes the pipeline of the case, up to its total.
func build(s beam.Scope, shape Shape) beam.PCollection {
	in := read(s, shape)
	var out beam.PCollection
	switch *kind {
	case "gbk":
		out = beam.ParDo(s, &Groups{Pause: *pause}, beam.GroupByKey(s, in))
	case "windowed":
		in = beam.WindowInto(s, window.NewFixedWindows(*windows), in)
		out = beam.ParDo(s, &Groups{Pause: *pause}, beam.GroupByKey(s, in))
		out = beam.WindowInto(s, window.NewGlobalWindows(), out)
	case "reshuffle":
		out = beam.ParDo(s, &Pairs{}, beam.Reshuffle(s, in))
	case "state":
		out = beam.ParDo(s, &Remember{}, in)
	case "side":
		mains := make([]any, *readers)
		for i := range mains {
			mains[i] = []byte{byte(i)}
		}
		out = beam.ParDo(s, &Side{}, beam.Create(s, mains...), beam.SideInput{Input: in})
	default:
		panic("no such case: " + *kind)
	}
	return beam.Combine(s, AddTotals, out)
}

func read(s beam.Scope, shape Shape) beam.PCollection {
	switch *source {
	case "fused":
		return beam.ParDo(s, &Fused{shape}, beam.Impulse(s))
	case "split":
		return beam.ParDo(s, &Split{shape}, beam.Impulse(s))
	case "stream":
		return beam.ParDo(s, &Stream{shape}, beam.Impulse(s))
	}
	panic("no such source: " + *source)
}
