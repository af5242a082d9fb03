package main

import (
	"fmt"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows how far a measurement is: a bar on a terminal, else a line for each step.
type progress struct {
	term  *terminal
	bar   *progressbar.ProgressBar
	steps int
	done  int
}

// newProgress begins with the number of steps and how long all of them will take, about.
func newProgress(term *terminal, what string, steps int, estimate time.Duration) *progress {
	p := &progress{term: term, steps: steps}
	fmt.Fprintf(term.err, "padstone: %s: %s, about %s\n", what, plural(steps, "step"), estimate.Round(time.Second))
	if width := term.width(); width > 0 {
		const descriptionWidth, figuresWidth = 44, 30
		p.bar = progressbar.NewOptions(steps, progressbar.OptionSetWriter(term.err), progressbar.OptionSetPredictTime(true),
			progressbar.OptionSetElapsedTime(true), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetWidth(max(10, width-descriptionWidth-figuresWidth)), progressbar.OptionSetRenderBlankState(true))
	}
	return p
}

// step says what is measured now.
func (p *progress) step(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if p.bar == nil {
		fmt.Fprintf(p.term.err, "padstone: %d of %d: %s\n", p.done+1, p.steps, text)
		return
	}
	const width = 40
	// The bar is decoration: an error of its writer is that of a terminal which has gone away.
	p.bar.Describe(fmt.Sprintf("%-*s", width, cut(text, width)))
}

// next says that the step is over.
func (p *progress) next() {
	p.done++
	if p.bar != nil {
		_ = p.bar.Add(1)
	}
}

// close takes the bar away.
func (p *progress) close() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}

// say prints a line of what has happened.
func (p *progress) say(format string, args ...any) {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintf(p.term.err, "padstone: %s\n", fmt.Sprintf(format, args...))
}
