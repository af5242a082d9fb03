package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"padstone/jobserver"
)

// newJobsThreads is `padstone jobs threads`.
func newJobsThreads(term *terminal, o *jobsOptions) *cobra.Command {
	worker, all := "", false
	cmd := &cobra.Command{
		Use:   "threads JOB",
		Short: "Show what the harness processes of a job are doing: active bundles, and where their threads are",
		Long: "Show what the harness processes of a job are doing: the bundles that each has, and where the threads are that process them, as\n" +
			"far as the SDK tells. A process that hangs, or was stopped, does not answer; that is shown after five seconds.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, job, err := o.connectTo(cmd.Context(), term, args[0])
			if err != nil {
				return err
			}
			raw, err := api.threads(cmd.Context(), job.ID, worker)
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(term.out, raw)
			}
			var reply struct {
				Workers []jobserver.WorkerThreads `json:"workers"`
			}
			if err := json.Unmarshal(raw, &reply); err != nil {
				return fmt.Errorf("threads of job %s: %w", job.ID, err)
			}
			return printThreads(term.out, reply.Workers, all)
		},
	}
	cmd.Flags().StringVar(&worker, "worker", "", "ask this one only; `padstone jobs describe` lists them")
	cmd.Flags().BoolVar(&all, "all", false, "print all that the processes say: every thread, memory, caches")
	return cmd
}

// threadsPatience is how long the server may take to ask all harnesses, of which some may not answer.
const threadsPatience = time.Minute

// threads asks the harnesses of a job for their threads.
func (c *client) threads(ctx context.Context, id, worker string) (raw json.RawMessage, err error) {
	path := jobPath(id, "threads")
	if worker != "" {
		path += "?worker=" + url.QueryEscape(worker)
	}
	patient := &client{base: c.base, http: &http.Client{Timeout: threadsPatience}}
	err = patient.get(ctx, path, &raw)
	return raw, err
}

// printThreads prints workers with their bundles.
func printThreads(w io.Writer, workers []jobserver.WorkerThreads, all bool) error {
	if len(workers) == 0 {
		fmt.Fprintln(w, "no worker is connected")
	}
	for i, worker := range workers {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "worker   %s\n", worker.Worker)
		if worker.Error != "" {
			fmt.Fprintf(w, "no dump  %s\n", worker.Error)
		}
		if len(worker.Bundles) == 0 {
			fmt.Fprintln(w, "bundles  none")
		}
		for _, b := range worker.Bundles {
			fmt.Fprintf(w, "bundle   of %s for %s, %s\n", b.Name, inSeconds(b.Seconds), doing(&b))
			if b.Thread != "" {
				fmt.Fprintf(w, "         %s\n", b.Thread)
			}
			for line := range strings.Lines(b.Stack) {
				fmt.Fprintf(w, "           %s\n", strings.TrimRight(line, "\n"))
			}
		}
		if all && worker.Status != "" {
			fmt.Fprintf(w, "\n%s\n", strings.TrimRight(worker.Status, "\n"))
		}
	}
	return nil
}

// doing says how long a bundle has been at what it is at.
func doing(b *jobserver.ActiveBundle) string {
	if b.Open {
		return "open: it may wait for more; last got on " + inSeconds(b.IdleSeconds) + " ago"
	}
	return "last got on " + inSeconds(b.IdleSeconds) + " ago"
}

func inSeconds(s float64) string { return roundSpan(time.Duration(s * float64(time.Second))) }
