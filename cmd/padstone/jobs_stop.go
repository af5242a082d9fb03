package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"github.com/spf13/cobra"

	"padstone/internal/fault"
)

// pollEvery is the cadence at which --wait asks for the state.
const pollEvery = 250 * time.Millisecond

// newJobsEnd is `padstone jobs cancel` or `padstone jobs drain`.
func newJobsEnd(term *terminal, o *jobsOptions, verb string) *cobra.Command {
	wait, timeout := false, time.Duration(0)
	short := "Cancel a job: it stops where it is"
	if verb == "drain" {
		short = "Drain a job: sources stop, what was read is processed, all windows fire"
	}
	cmd := &cobra.Command{
		Use:   verb + " JOB",
		Short: short,
		Long: short + ".\n\nWith --wait the exit code is that of the state in which the job ends: 0 for DONE, DRAINED and, when " +
			"cancelling,\nCANCELLED; 1 for FAILED; 2 for CANCELLED.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, job, err := o.connectTo(cmd.Context(), term, args[0])
			if err != nil {
				return err
			}
			if err := api.request(cmd.Context(), job.ID, verb); err != nil {
				return err
			}
			if wait {
				job, err = awaitEnd(cmd.Context(), api, job.ID, timeout)
			} else {
				job, err = api.job(cmd.Context(), job.ID)
			}
			if err != nil {
				return err
			}
			if o.json {
				err = printJSON(term.out, job.raw)
			} else {
				_, err = fmt.Fprintf(term.out, "%s %s\n", job.ID, job.State)
			}
			if err != nil || !wait {
				return err
			}
			return endError(verb, job)
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the job has ended")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long --wait waits, for example 5m; 0: as long as it takes")
	return cmd
}

// awaitEnd asks for the job until it has ended; timeout 0 means for ever.
func awaitEnd(ctx context.Context, api *client, id string, timeout time.Duration) (*jobRecord, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	state := "unknown"
	for {
		job, err := api.job(ctx, id)
		if err == nil {
			if job.Terminal {
				return job, nil
			}
			state = job.State
		} else if !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, fault.New(fault.Environment, codeWait, "job %s is still %s after %s", id, state, timeout).
				WithHint("`padstone jobs describe %s` says what its stages wait for", id)
		}
	}
}

// endError gives the exit code of a job that was to end.
func endError(verb string, job *jobRecord) error {
	switch jobpb.JobState_Enum(jobpb.JobState_Enum_value[job.State]) {
	case jobpb.JobState_FAILED:
		return &exitError{code: exitFailed}
	case jobpb.JobState_CANCELLED:
		if verb != "cancel" {
			return &exitError{code: exitCancelled}
		}
	}
	return nil
}
