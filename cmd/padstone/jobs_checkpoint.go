package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"padstone/jobserver"
)

// newJobsCheckpoint is `padstone jobs checkpoint` or `padstone jobs savepoint`.
func newJobsCheckpoint(term *terminal, o *jobsOptions, verb string) *cobra.Command {
	to := ""
	short := "Take a checkpoint of a job, which goes on"
	if verb == "savepoint" {
		short = "Take a savepoint of a job, which goes on: a checkpoint that is kept until it is removed"
	}
	cmd := &cobra.Command{
		Use:   verb + " JOB",
		Short: short,
		Long:  short + ".\n\nIt returns once the " + verb + " can be restored, with its id.",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, job, err := o.connectTo(cmd.Context(), term, args[0])
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := api.order(cmd.Context(), jobPath(job.ID, verb), checkpointAsked{To: to}, &raw); err != nil {
				return err
			}
			if o.json {
				return printJSON(term.out, raw)
			}
			var taken jobserver.Checkpoint
			if err := json.Unmarshal(raw, &taken); err != nil {
				return fmt.Errorf("the server's answer: %w", err)
			}
			return printCheckpoint(term.out, &taken)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "where to: an absolute path or s3://bucket/prefix?…; the server's --checkpoint-dir by default")
	return cmd
}

// checkpointAsked is what is sent to have a checkpoint taken.
type checkpointAsked struct {
	To string `json:"to,omitempty"`
}

// serversOwn is the value of --savepoint that stands for the server's --checkpoint-dir.
const serversOwn = "-"

// newJobsStop is `padstone jobs stop`.
func newJobsStop(term *terminal, o *jobsOptions) *cobra.Command {
	to := ""
	cmd := &cobra.Command{
		Use:   "stop JOB --savepoint [WHERE]",
		Short: "Stop a job with a savepoint, to go on from it elsewhere or later",
		Long: "Stop a job with a savepoint: nothing is read any more, what is done is published, and once the savepoint can be\n" +
			"restored the job is UPDATED and never runs again by itself. Windows stay open, unlike with `padstone jobs drain`.\n" +
			"If the savepoint fails the job goes on. WHERE is the server's --checkpoint-dir by default.",
		Args: usageArgs(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case !cmd.Flags().Changed("savepoint"):
				return usageError(errors.New("a job stops with a savepoint: add --savepoint; or end it with `padstone jobs drain` or `cancel`"))
			case len(args) == 2 && to != serversOwn:
				return usageError(errors.New("two places are named for the savepoint"))
			case len(args) == 2:
				to = args[1]
			case to == serversOwn:
				to = ""
			}
			api, job, err := o.connectTo(cmd.Context(), term, args[0])
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := api.order(cmd.Context(), jobPath(job.ID, "stop"), checkpointAsked{To: to}, &raw); err != nil {
				return err
			}
			if o.json {
				return printJSON(term.out, raw)
			}
			var stopped struct {
				State     string               `json:"state"`
				Savepoint jobserver.Checkpoint `json:"savepoint"`
			}
			if err := json.Unmarshal(raw, &stopped); err != nil {
				return fmt.Errorf("the server's answer: %w", err)
			}
			fmt.Fprintf(term.out, "%s %s\n", job.ID, stopped.State)
			return printCheckpoint(term.out, &stopped.Savepoint)
		},
	}
	cmd.Flags().StringVar(&to, "savepoint", "", "take a savepoint, here or in the server's --checkpoint-dir")
	cmd.Flags().Lookup("savepoint").NoOptDefVal = serversOwn
	return cmd
}

// printCheckpoint prints a checkpoint that was taken; the id comes first, for scripts.
func printCheckpoint(w io.Writer, c *jobserver.Checkpoint) error {
	_, err := fmt.Fprintf(w, "%s\n%s in %s: %s files, %s bytes, of which %s files, %s bytes were not there before; %.1f s\n",
		c.ID, c.Kind, c.Repository, thousands(int64(c.Files)), thousands(c.Bytes), thousands(int64(c.UploadedFiles)),
		thousands(c.UploadedBytes), float64(c.Millis)/1000)
	return err
}

// printCheckpoints prints what a job says about its checkpoints, if it says anything.
func printCheckpoints(w io.Writer, d *jobserver.CheckpointDescription, now time.Time) {
	if d == nil || d.Repository == "" && d.Completed == 0 && d.Failed == 0 {
		return
	}
	every := "on demand"
	if d.IntervalMillis > 0 {
		every = "every " + (time.Duration(d.IntervalMillis) * time.Millisecond).String()
	}
	fmt.Fprintf(w, "\ncheckpoints  %s to %s; %s taken, %s bytes uploaded, %s failed\n", every, cmp.Or(d.Repository, "where it is said"),
		thousands(d.Completed), thousands(d.UploadedBytes), thousands(d.Failed))
	if c := d.Last; c != nil {
		fmt.Fprintf(w, "  last       %s %s, %s: %s bytes, %s of them uploaded\n", c.Kind, c.ID, ago(c.CreatedAt, now), thousands(c.Bytes),
			thousands(c.UploadedBytes))
	}
	if f := d.LastFailure; f != nil {
		fmt.Fprintf(w, "  failed     %s: %s\n", ago(f.At, now), gist(f.Message))
	}
}
