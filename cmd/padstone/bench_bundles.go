package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"padstone/harness/docker"
	"padstone/internal/bench"
	"padstone/internal/bench/capture"
	"padstone/internal/bench/saturate"
)

// bundlesOptions are the flags of `padstone bench bundles`.
type bundlesOptions struct {
	python, image string
	script, stage string
	sizes         []int
	times         []time.Duration
	elementBytes  int
	seconds       float64
	inFlight      int
	latencyBudget time.Duration
	overhead      float64 // in percent
	out           string
	logLevel      string
}

const bundlesLong = `Keep one Python harness busy with bundles of several sizes, and show what a bundle costs and what an element does.

The harness is started in the interpreter that ` + "`padstone run`" + ` would take, and runs one stage, an identity function over bytes.
It gets bundles straight from this process, without an engine: what is measured is what no runner can do better. A line is fitted to
the costs (least squares of the relative error); from it, and from the latencies, comes the recommended size: the smallest one of
whose cost no more than --overhead is fixed, if 99 of 100 such bundles are done within --latency-budget, else the largest for which
that is so. Choose it for a job with --max_bundle_size.

With --script the stage is one of that script's pipeline, with elements of its own: the pipeline is run up to the stage, until 20 000
elements have come, and no further, so that nothing is written anywhere; then the stage gets these elements over and over. Its functions
do run, that many times. A stage that needs more than elements (state, timers, side inputs) is run by the engine, in a job that gives it
these elements; then the runner's figures are the engine's. Splittable DoFns are refused by name. Arguments of the script stand behind a --.

With --image the harness is a container, started through the API of a Docker Engine. The interpreter on this machine still makes the
stage, so its Python must be of the same minor version as the image's.

With --times the sizes are those of bundles that take about so long. The figures are printed, and saved as JSON and as a page in --out.`

func newBenchBundles(term *terminal) *cobra.Command {
	o := bundlesOptions{sizes: []int{1, 10, 100, 1000, 10000, 100000}}
	cmd := &cobra.Command{
		Use:   "bundles [flags] [-- arguments of the script]",
		Short: "Measure what bundles of each size cost a harness",
		Long:  bundlesLong,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(cmd.Flags().Changed, args); err != nil {
				return err
			}
			return untilInterrupted(cmd.Context(), func(ctx context.Context) error {
				curve, err := o.measure(ctx, term, args)
				if err != nil {
					return err
				}
				return publish(term, curve, o.out, "bundles")
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.python, "python", "", "Python interpreter (default: $PADSTONE_PYTHON, $VIRTUAL_ENV, ./.venv, python3)")
	fs.StringVar(&o.script, "script", "", "measure a stage of the pipeline that this Python script submits, with elements of its input")
	fs.StringVar(&o.stage, "stage", "",
		"with --script: a transform of the stage, or a part of its name (default: the first stage that elements come to)")
	fs.StringVar(&o.image, "image", "", "run the harness in a container of this image, on the host's network")
	fs.IntSliceVar(&o.sizes, "sizes", o.sizes, "elements a bundle")
	fs.DurationSliceVar(&o.times, "times", nil, "how long a bundle is to take, instead of --sizes")
	fs.IntVar(&o.elementBytes, "element-bytes", 10, "size of an element")
	fs.Float64Var(&o.seconds, "seconds", 2, "how long each size is measured")
	fs.IntVar(&o.inFlight, "in-flight", 2, "bundles that the harness has at a time")
	fs.DurationVar(&o.latencyBudget, "latency-budget", 100*time.Millisecond, "how long 99 of 100 bundles may take")
	fs.Float64Var(&o.overhead, "overhead", 5, "percent of a bundle's cost that may be fixed")
	fs.StringVar(&o.out, "out", "padstone-bench", "directory for bundles.json and bundles.html")
	fs.StringVar(&o.logLevel, "log-level", "error", "log level")
	return cmd
}

// validate lists every fault of the flags.
func (o *bundlesOptions) validate(chosen func(flag string) bool, args []string) error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	const sizeMax, timeMax, bytesMax, inFlightMax = 10_000_000, time.Minute, 16 << 20, 64
	for _, n := range o.sizes {
		check(n >= 1 && n <= sizeMax, "--sizes: %d is not from 1 to %d", n, sizeMax)
	}
	for _, t := range o.times {
		check(t > 0 && t <= timeMax, "--times: %s is not within %s", t, timeMax)
	}
	check(len(o.sizes) > 0, "--sizes: none")
	check(o.script != "" || len(args) == 0, "%q: arguments are those of a --script", args)
	check(o.script != "" || o.stage == "", "--stage needs a --script")
	if o.script != "" {
		file, err := os.Stat(o.script)
		check(err == nil, "--script: %w", err)
		check(err != nil || !file.IsDir(), "--script: %s is a directory", o.script)
	}
	check(o.script == "" || !chosen("element-bytes"), "--element-bytes: the elements are those of the --script")
	check(len(o.times) == 0 || !chosen("sizes"), "--sizes and --times exclude each other")
	check(o.elementBytes >= 0 && o.elementBytes <= bytesMax, "--element-bytes: %d is not from 0 to %d", o.elementBytes, bytesMax)
	check(o.seconds > 0 && o.seconds <= 3600, "--seconds: %g is not within an hour", o.seconds)
	check(o.inFlight >= 1 && o.inFlight <= inFlightMax, "--in-flight: %d is not from 1 to %d", o.inFlight, inFlightMax)
	check(o.latencyBudget > 0, "--latency-budget: %s is not above zero", o.latencyBudget)
	check(o.overhead > 0 && o.overhead < 100, "--overhead: %g is not between 0 and 100 percent", o.overhead)
	if len(faults) > 0 {
		return usageError(errors.Join(faults...))
	}
	return nil
}

// measure measures all sizes.
func (o *bundlesOptions) measure(ctx context.Context, term *terminal, args []string) (*bench.Curve, error) {
	python, err := findPython(o.python, term.getenv)
	if err != nil {
		return nil, err
	}
	log, err := newLogger(term.err, o.logLevel, "console")
	if err != nil {
		return nil, err
	}
	stage, versions, err := saturate.Identity(ctx, python, o.elementBytes)
	if err != nil {
		return nil, err
	}
	if o.image != "" {
		if err := stage.InImage(o.image); err != nil {
			return nil, err
		}
	}
	curve := &bench.Curve{About: about(), Image: o.image}
	curve.About.Python, curve.About.Beam = versions.Python, versions.Beam
	if o.script != "" {
		err = o.measureScript(ctx, term, log, python, args, curve)
	} else {
		err = o.saturate(ctx, term, log, stage, curve)
	}
	if err != nil {
		return nil, err
	}
	curve.Complete(bench.Wishes{LatencyBudget: o.latencyBudget, Overhead: o.overhead / 100})
	return curve, nil
}

// measureScript measures a stage of a script.
func (o *bundlesOptions) measureScript(
	ctx context.Context, term *terminal, log *zap.Logger, python string, args []string, curve *bench.Curve,
) (err error) {
	script, err := startBenchScript(ctx, term, o, python, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, script.close()) }()
	captured, err := script.captured(ctx)
	if err != nil {
		script.kill()
		return err
	}
	if len(captured.Others) > 0 {
		fmt.Fprintf(term.err, "padstone: other stages for --stage begin with %q\n", captured.Others)
	}
	sample := captured.Stage.Sample
	fmt.Fprintf(term.err, "padstone: stage %q, with %s of about %.0f bytes from its input\n",
		captured.Name, plural(sample.Distinct(), "element"), sample.Bytes())
	if captured.Through != nil {
		return o.through(ctx, term, captured, curve)
	}
	return o.saturate(ctx, term, log, captured.Stage, curve)
}

// saturate measures all sizes of a stage that is fed by elements alone.
func (o *bundlesOptions) saturate(
	ctx context.Context, term *terminal, log *zap.Logger, stage *saturate.Stage, curve *bench.Curve,
) (err error) {
	const startFor, aroundFor = 2 * time.Second, 400 * time.Millisecond
	curve.Stage, curve.InFlight = stage.Name, o.inFlight
	shown := newProgress(term, "bundles of "+stage.Name, o.steps(), startFor+time.Duration(o.steps())*(o.each()+aroundFor))
	defer shown.close()
	cfg := saturate.Config{Logger: log, InFlight: o.inFlight, For: o.each()}
	if o.image != "" {
		if cfg.Docker, err = docker.New(docker.Config{Logger: log, Owner: "bench-" + strings.ToLower(rand.Text())}); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, cfg.Docker.Close()) }()
	}
	probe, err := saturate.Open(ctx, cfg, stage)
	if err != nil {
		return err
	}
	defer probe.Close()
	if err := o.all(ctx, shown, curve, probe.Measure); err != nil {
		return err
	}
	for _, t := range o.times {
		shown.step("bundles of %s", t)
		point, err := probe.MeasureTime(ctx, t)
		if err != nil {
			return err
		}
		curve.Points = append(curve.Points, point)
		shown.next()
	}
	curve.HarnessMemory = probe.Memory()
	return nil
}

// through measures all sizes of a stage whose bundles an engine has to run.
func (o *bundlesOptions) through(ctx context.Context, term *terminal, captured *capture.Captured, curve *bench.Curve) error {
	if len(o.times) > 0 {
		return usageError(fmt.Errorf("--times: stage %q needs %s, and the engine makes its bundles by --sizes", captured.Name, captured.Needs))
	}
	curve.Stage, curve.Through = captured.Name, captured.Needs
	fmt.Fprintf(term.err, "padstone: stage %q needs %s: the engine runs its bundles\n", captured.Name, captured.Needs)
	const jobFor = 4 * time.Second // to start a harness, and to get to the stage
	shown := newProgress(term, "bundles of "+captured.Name, o.steps(), time.Duration(o.steps())*(o.each()+jobFor))
	defer shown.close()
	return o.all(ctx, shown, curve, func(ctx context.Context, n int) (bench.Point, error) {
		return captured.Through.Measure(ctx, n, o.each())
	})
}

// each is how long a size is measured.
func (o *bundlesOptions) each() time.Duration { return time.Duration(o.seconds * float64(time.Second)) }

// steps is how many sizes, or times, there are.
func (o *bundlesOptions) steps() int {
	if len(o.times) > 0 {
		return len(o.times)
	}
	return len(o.distinct())
}

// distinct is the sizes in their order, unless times were asked for.
func (o *bundlesOptions) distinct() []int {
	if len(o.times) > 0 {
		return nil
	}
	return slices.Compact(slices.Sorted(slices.Values(o.sizes)))
}

// all measures every size.
func (o *bundlesOptions) all(
	ctx context.Context, shown *progress, curve *bench.Curve, measure func(ctx context.Context, n int) (bench.Point, error),
) error {
	for _, n := range o.distinct() {
		shown.step("bundles of %s", plural(n, "element"))
		point, err := measure(ctx, n)
		if err != nil {
			return err
		}
		curve.Points = append(curve.Points, point)
		shown.next()
	}
	return nil
}
