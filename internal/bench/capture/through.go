package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/internal/bench"
	"padstone/internal/bench/proc"
	"padstone/internal/fault"
	"padstone/jobserver"
)

const (
	// optionBundleSize is the pipeline option that bounds bundles; docs/tuning.md.
	optionBundleSize = "beam:option:max_bundle_size:v1"
	// lookEvery is how often a job is asked how far it is.
	lookEvery = 100 * time.Millisecond
	// bundlesMin is how many bundles are measured at least, if the input is enough.
	bundlesMin = 4
)

// Through is a stage whose bundles the engine runs: it has the state, the timers and the side inputs.
type Through struct {
	executor *Executor
	spec     jobserver.Spec
	part     *pipepb.Pipeline // the source, the stage, and what its side inputs need
	root     string
	name     string
	runs     int
}

// Measure runs the stage on a source that gives n elements at a time, with bundles of n at most, until the bundles have taken that long.
// The engine has as many of them at a time as it likes; its own CPU time, with that of making the input, is the runner's.
func (t *Through) Measure(ctx context.Context, n int, atLeast time.Duration) (bench.Point, error) {
	t.runs++
	spec := t.spec
	spec.ID, spec.Pipeline, spec.Files = fmt.Sprintf("%s-size-%d", t.spec.ID, t.runs), proto.CloneOf(t.part), nil
	spec.Pipeline.Components.Transforms[sourceID].Spec.Payload = []byte(strconv.Itoa(n))
	spec.Dir = filepath.Join(t.spec.Dir, fmt.Sprintf("size-%d", t.runs))
	if err := os.MkdirAll(spec.Dir, 0o700); err != nil {
		return bench.Point{}, err
	}
	spec.Options = &structpb.Struct{Fields: map[string]*structpb.Value{}}
	if t.spec.Options != nil {
		spec.Options = proto.CloneOf(t.spec.Options)
	}
	spec.Options.Fields[optionBundleSize] = structpb.NewNumberValue(float64(n))
	others, _ := proc.Children(os.Getpid()) // where they are not known, nothing is
	end := &ending{over: make(chan struct{})}
	running, err := t.executor.cfg.Engine.Start(ctx, spec, end)
	if err != nil {
		return bench.Point{}, fmt.Errorf("stage %q with bundles of %d: %w", t.name, n, err)
	}
	following, giveUp := context.WithTimeoutCause(ctx, t.executor.cfg.For+atLeast, fault.New(fault.Pipeline, codeStage,
		"not enough bundles in %s", t.executor.cfg.For+atLeast).WithHint("its side inputs may not come to an end, or bundles take too long"))
	point, err := t.follow(following, running, end, others, atLeast)
	giveUp()
	stopping, cancel := context.WithTimeout(context.Background(), stopFor)
	defer cancel()
	if err := errors.Join(err, running.Cancel(stopping), running.Wait(stopping), os.RemoveAll(spec.Dir)); err != nil {
		return bench.Point{}, fmt.Errorf("stage %q with bundles of %d: %w", t.name, n, err)
	}
	point.AtMost = n
	return point, nil
}

// follow waits for the stage's first bundles, and measures those that come then.
func (t *Through) follow(
	ctx context.Context, running jobserver.Running, end *ending, others []int, atLeast time.Duration,
) (bench.Point, error) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var first *picture
	for {
		now, err := t.look(ctx, running, first, others)
		switch {
		case err != nil:
			return bench.Point{}, err
		case now == nil: // no bundle yet
		case first == nil:
			first = now
		case now.at.Sub(first.at) >= atLeast && now.profile.Bundles-first.profile.Bundles >= bundlesMin:
			return now.since(first), nil
		}
		select {
		case <-ticker.C:
		case <-end.over:
			return bench.Point{}, fault.New(fault.Pipeline, codeStage, "the job has ended: %s", end.text())
		case <-ctx.Done():
			return bench.Point{}, context.Cause(ctx)
		}
	}
}

// picture is what a stage, and the processes, had done at a time.
type picture struct {
	at        time.Time
	profile   *jobserver.ProfileDescription
	own       time.Duration // CPU time of this process
	harness   *time.Duration
	processes []int // the harness's
}

// look takes a picture; nil if the stage has had no bundle. The first one tells the harness's processes: they are new.
func (t *Through) look(ctx context.Context, running jobserver.Running, first *picture, others []int) (*picture, error) {
	d, err := running.Describe(ctx)
	if err != nil {
		return nil, err
	}
	p := &picture{at: time.Now(), own: proc.Own()}
	for _, s := range d.Stages {
		if slices.Contains(s.Transforms, t.root) && s.Profile != nil && s.Profile.Bundles > 0 {
			p.profile = s.Profile
		}
	}
	if p.profile == nil {
		return nil, nil
	}
	if first != nil {
		p.processes = first.processes
	} else if children, err := proc.Children(os.Getpid()); err == nil {
		p.processes = slices.DeleteFunc(children, func(pid int) bool { return slices.Contains(others, pid) })
	}
	if u, err := proc.Tree(p.processes...); err == nil && u.Processes > 0 {
		p.harness = &u.CPU
	}
	return p, nil
}

// since makes a point of two pictures.
func (p *picture) since(first *picture) bench.Point {
	bundles, elements := float64(p.profile.Bundles-first.profile.Bundles), p.profile.Elements.Sum-first.profile.Elements.Sum
	seconds := p.at.Sub(first.at).Seconds()
	waited := func(d *jobserver.ProfileDescription) (s float64) {
		for _, part := range d.Parts {
			if part.Group == "harness" {
				s += part.Seconds
			}
		}
		return s
	}
	each := func(d time.Duration, unit, by float64) *float64 {
		v := d.Seconds() * unit / by
		return &v
	}
	point := bench.Point{
		Elements: max(1, int(elements/bundles+0.5)), Bundles: int(bundles), Seconds: seconds, ElementsPerSecond: elements / seconds,
		WallMillis: seconds * 1000 / bundles, P50Millis: p.profile.Millis.P50, P99Millis: p.profile.Millis.P99,
		RunnerMicros: each(p.own-first.own, 1e6, elements),
		HarnessWait:  (waited(p.profile) - waited(first.profile)) / (p.profile.Seconds - first.profile.Seconds),
	}
	if p.harness != nil && first.harness != nil {
		used := *p.harness - *first.harness
		point.HarnessMillis, point.HarnessMicros = each(used, 1e3, bundles), each(used, 1e6, elements)
	}
	return point
}
