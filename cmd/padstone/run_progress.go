package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"padstone/engine/element"
	"padstone/jobserver"
)

// Cadence of progress: on a terminal a line redrawn in place, elsewhere a line of its own when something changed.
const (
	progressLiveEvery  = 2 * time.Second
	progressPlainEvery = 15 * time.Second
)

// showProgress prints the progress of the unfinished jobs until ctx is done. A server that does not answer is passed over: the
// message streams tell of a lost server.
func showProgress(ctx context.Context, board *jobBoard, server func() (Endpoints, *client), console *console) {
	every := progressPlainEvery
	if console.width() > 0 {
		every = progressLiveEvery
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	defer console.setLive("")
	shown := map[string]string{}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			var live []string
			_, api := server()
			for _, id := range board.unfinished() {
				job, err := api.job(ctx, id)
				if err != nil || job.Description == nil {
					continue
				}
				mark, counts := progressOf(job.Description, now)
				live = append(live, mark+"; "+counts)
				// A watermark that moves by itself is no news: an idle stream is silent.
				if console.width() == 0 && shown[id] != counts {
					console.printf("padstone: job %s: %s; %s", id, mark, counts)
				}
				shown[id] = counts
			}
			// The ids would take up most of a terminal's width; the jobs stand in the order in which they were submitted.
			console.setLive(strings.Join(live, " | "))
		}
	}
}

// progressOf puts a job into one line of two parts: the watermark of the slowest stage and what it waits for, then elements through
// each stage. What matters most comes first, since a terminal cuts the rest.
func progressOf(d *jobserver.Description, now time.Time) (mark, counts string) {
	if len(d.Stages) == 0 {
		return "no stages yet", ""
	}
	var parts []string
	slowest := &d.Stages[0]
	for i := range d.Stages {
		s := &d.Stages[i]
		parts = append(parts, shortName(s.Name)+" "+thousands(max(s.ElementsIn, s.ElementsOut)))
		if s.OutputWatermarkMillis < slowest.OutputWatermarkMillis {
			slowest = s
		}
	}
	mark = "watermark " + watermark(slowest.OutputWatermarkMillis, now)
	if slowest.Waiting != "" {
		mark += ", " + shortName(slowest.Name) + " waits: " + slowest.Waiting
	}
	return mark, strings.Join(parts, " → ")
}

// shortName keeps the last part of a transform's name, and not too many characters of it.
func shortName(name string) string {
	return cut(name[strings.LastIndex(name, "/")+1:], 24)
}

// watermark prints an event time and how far it is behind now.
func watermark(millis int64, now time.Time) string {
	name := watermarkName(millis)
	if behind := lag(millis, now); behind != "-" {
		name += " (" + behind + ")"
	}
	return name
}

// watermarkName prints an event time; the bounds of time in words.
func watermarkName(millis int64) string {
	switch t := element.Time(millis); {
	case t <= element.MinTime:
		return "start"
	case t >= element.EndOfGlobalTime:
		return "end"
	default:
		return t.String()
	}
}

// lag prints how far an event time is behind now.
func lag(millis int64, now time.Time) string {
	switch t := element.Time(millis); {
	case t <= element.MinTime, t >= element.EndOfGlobalTime:
		return "-"
	}
	behind := now.Sub(time.UnixMilli(millis))
	switch {
	case behind < 0:
		return "ahead " + roundSpan(-behind)
	default:
		return "lag " + roundSpan(behind)
	}
}

// roundSpan prints a span with two significant units at most.
func roundSpan(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// thousands prints n with separators.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
