package main

import (
	"fmt"
	"regexp"
	"strings"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
)

// runEnd is all that the exit code of `padstone run` follows from.
type runEnd struct {
	jobs        []jobEnd
	refused     []string // refusals at Prepare, as the server put them
	script      int      // the script's exit code; 128 + n when signal n ended it
	tail        string   // the end of the script's stderr
	interrupted bool     // the user asked for the end
	abandoned   bool     // the script ended before its jobs and took their workers with it: they were cancelled for that
	ownEndpoint string   // the --job_endpoint of the user's own: its jobs are not seen
	dryRun      bool     // a refusal is the answer
}

// judge returns the exit code and the lines to print. The jobs' states decide; the script's own code counts when they ended well.
func (e runEnd) judge() (code int, lines []string) {
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if e.dryRun && len(e.refused) > 0 {
		answer := e.refused[len(e.refused)-1]
		if strings.HasPrefix(answer, engine.CodeDryRun) {
			return exitOK, []string{answer}
		}
		return exitFailed, []string{answer}
	}
	failed, cancelled := 0, 0
	well := map[string]bool{} // states for which the client raises although the job ended well
	for _, j := range e.jobs {
		switch {
		case j.state == jobpb.JobState_FAILED:
			failed++
			if gist(j.error) != j.error && !strings.Contains(e.tail, lastLine(j.error)) {
				say("job %s failed: %s", j.id, j.error)
			}
		case j.state == jobpb.JobState_CANCELLED:
			cancelled++
		case j.state == jobpb.JobState_DRAINED, j.state == jobpb.JobState_UPDATED:
			well[j.state.String()] = true
		case !j.terminal():
			failed++
			say("job %s was %s when last seen", j.id, j.state)
		}
	}
	raised, clientOnly := clientRaised(e.tail)
	switch {
	case failed > 0:
		code = exitFailed
	case e.abandoned && e.script != exitOK:
		code = e.script
	case cancelled > 0:
		code = exitCancelled
	case e.script != exitOK && clientOnly && well[raised]:
		say("the Python client raises RuntimeError for the state %s; the job itself ended well", raised)
	default:
		code = e.script
	}
	if len(e.jobs) == 0 {
		lines = append(lines, e.withoutJobs()...)
	} else if len(e.jobs) > 1 {
		say("%d jobs: %d failed, %d cancelled", len(e.jobs), failed, cancelled)
	}
	return code, lines
}

// withoutJobs explains a run in which no job was seen.
func (e runEnd) withoutJobs() []string {
	switch {
	case len(e.refused) > 0:
		return []string{"the server refused the pipeline: " + e.refused[len(e.refused)-1]}
	case e.interrupted:
		return []string{"interrupted before the script submitted a job"}
	case e.ownEndpoint != "":
		return []string{"the script has a --job_endpoint of its own (" + e.ownEndpoint + "); its jobs are not followed"}
	case e.script != exitOK:
		return []string{fmt.Sprintf("the script ended with code %d before it submitted a job", e.script)}
	default:
		return []string{"the script submitted no job; does it hand its command line to PipelineOptions?"}
	}
}

// What the Python client raises when a job ends in a state other than DONE. Spec: apache_beam/runners/portability/
// portable_runner.py PipelineResult._observe_state.
var clientRaise = regexp.MustCompile(`^RuntimeError: Pipeline \S+ failed in state ([A-Z]+):`)

// The last line of a Python traceback: an exception's class at the start of a line.
var exceptionLine = regexp.MustCompile(`^[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Warning|Iteration|Group)\b`)

// clientRaised returns the state for which the client raised, and whether that was what ended the script.
func clientRaised(tail string) (state string, last bool) {
	lines := strings.Split(tail, "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if m := clientRaise.FindStringSubmatch(lines[i]); m != nil {
			return m[1], true
		}
		if exceptionLine.MatchString(lines[i]) {
			return "", false
		}
	}
	return "", false
}

// gist puts an error of several lines into one: where it happened, which is its first line, and what, which is its last.
func gist(text string) string {
	text = strings.TrimSpace(text)
	first, rest, many := strings.Cut(text, "\n")
	if !many {
		return first
	}
	first = strings.TrimRight(strings.TrimSuffix(first, "Traceback (most recent call last):"), ": ")
	return first + ": " + lastLine(rest)
}

// lastLine returns the last line of s that is not blank.
func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
