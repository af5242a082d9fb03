package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"padstone/internal/bench"
)

func newBench(term *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure bundle sizes, and runners side by side",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchBundles(term), newBenchPeers(term), newBenchCheck(term))
	return cmd
}

// untilInterrupted runs work until it ends or the user interrupts it. work must end everything that it has started.
func untilInterrupted(ctx context.Context, work func(ctx context.Context) error) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	err := work(ctx)
	if err != nil && ctx.Err() != nil {
		return &exitError{code: exitInterrupted, err: errors.New("interrupted; nothing was saved")}
	}
	return err
}

// report is what a measurement comes to.
type report interface {
	Text(w io.Writer) error
	JSON(w io.Writer) error
	HTML(w io.Writer) error
}

// publish prints a report and saves it as JSON and as a page.
func publish(term *terminal, r report, dir, name string) error {
	if err := r.Text(term.out); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	var saved []string
	for _, f := range []struct {
		suffix string
		write  func(w io.Writer) error
	}{{".json", r.JSON}, {".html", r.HTML}} {
		path := filepath.Join(dir, name+f.suffix)
		file, err := os.Create(path)
		if err != nil {
			return fmt.Errorf("--out: %w", err)
		}
		if err := errors.Join(f.write(file), file.Close()); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
		saved = append(saved, path)
	}
	_, err := fmt.Fprintf(term.out, "\nSaved in %s.\n", strings.Join(saved, " and "))
	return err
}

// about says where and with what is measured.
func about() bench.About {
	v := readVersion()
	version := v.Version
	if v.Revision != "" {
		version += " (" + v.Revision[:min(12, len(v.Revision))] + ")"
	}
	machine := fmt.Sprintf("%s, %d CPUs, %s", v.Platform, runtime.NumCPU(), processor())
	return bench.About{At: time.Now().Truncate(time.Second), Padstone: version, Machine: machine}
}

// processor names the processor, as far as the system tells.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	return runtime.GOARCH
}
