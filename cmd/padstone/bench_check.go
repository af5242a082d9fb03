package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"padstone/internal/bench"
	"padstone/internal/bench/peers"
	"padstone/internal/fault"
)

// checkOptions are the flags of `padstone bench check`.
type checkOptions struct {
	python string
	ratios string
	update bool
	runs   int
}

const checkLong = `Measure what this Padstone costs, and fail if that has grown.

Some cases of the load kit run on a server of this program's own. Their CPU times an element, the runner's and the harness's, are divided by
what an element costs a harness that is kept busy with an identity function, measured in the same run: these ratios depend little on the
machine. They are compared with those of a file; more than its margin times as much is a failure. With --update the file gets the new ones.`

func newBenchCheck(term *terminal) *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Fail if the cost of jobs has grown, in terms of a harness's own",
		Long:  checkLong,
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.runs < 1 {
				return usageError(fmt.Errorf("--runs: %d is not above zero", o.runs))
			}
			text, err := os.ReadFile(o.ratios)
			if err != nil {
				return usageError(fmt.Errorf("--ratios: %w", err))
			}
			before, err := bench.ReadRatios(bytes.NewReader(text))
			if err != nil {
				return usageError(fmt.Errorf("--ratios %s: %w", o.ratios, err))
			}
			return untilInterrupted(cmd.Context(), func(ctx context.Context) error { return o.check(ctx, term, before) })
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.python, "python", "", "Python interpreter (default: $PADSTONE_PYTHON, $VIRTUAL_ENV, ./.venv, python3)")
	fs.StringVar(&o.ratios, "ratios", "bench/ratios.json", "file with the ratios, their cases and the margin")
	fs.BoolVar(&o.update, "update", false, "write what was measured to the file")
	fs.IntVar(&o.runs, "runs", 3, "how often each case runs")
	return cmd
}

func (o *checkOptions) check(ctx context.Context, term *terminal, before bench.Ratios) error {
	bundles := bundlesOptions{
		python: o.python, sizes: []int{100, 10_000, 100_000}, elementBytes: 10, seconds: 2, inFlight: 2,
		latencyBudget: time.Second, overhead: 5, logLevel: "error",
	}
	load := peersOptions{python: o.python, cases: before.Names(), size: string(peers.Full), runs: o.runs, timeout: 2 * time.Minute}
	cfg, err := load.config()
	if err != nil {
		return fmt.Errorf("%s: %w", o.ratios, err)
	}
	curve, err := bundles.measure(ctx, term, nil)
	if err != nil {
		return err
	}
	result, err := load.compare(ctx, term, cfg)
	if err != nil {
		return err
	}
	now, err := bench.RatiosOf(result, ownName, curve, before.Names())
	if err != nil {
		return fault.New(fault.Environment, codeBenchRegression, "there is nothing to compare: %w", err).
			WithHint("run it on Linux, and look at what `padstone bench peers` says of the case")
	}
	fmt.Fprintf(term.out, "An element costs the harness %.2f µs, in bundles without end; the rest is in terms of that.\n\n",
		curve.CPU.ElementMicros)
	verdicts := before.Check(now)
	if err := bench.WriteVerdicts(term.out, verdicts); err != nil {
		return err
	}
	if o.update {
		return o.write(bench.Ratios{Margin: before.Margin, About: curve.About.String(), Cases: now})
	}
	var grown []string
	for _, v := range verdicts {
		if v.Grown {
			grown = append(grown, fmt.Sprintf("%s of %s", v.Of, v.Case))
		}
	}
	if len(grown) > 0 {
		what := strings.Join(grown, ", ")
		return fault.New(fault.Internal, codeBenchRegression, "more than %g times as much as before: %s", before.Margin, what).
			WithHint("run it again on a quiet machine; then look for what has changed, or accept it with --update")
	}
	return nil
}

// write replaces the file.
func (o *checkOptions) write(ratios bench.Ratios) error {
	file, err := os.Create(o.ratios)
	if err != nil {
		return fmt.Errorf("--ratios: %w", err)
	}
	return errors.Join(ratios.JSON(file), file.Close())
}
