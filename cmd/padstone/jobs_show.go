package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func newJobsList(term *terminal, o *jobsOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the jobs, newest last",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := o.connect(cmd.Context(), term)
			if err != nil {
				return err
			}
			if o.json {
				return printReply(cmd, term, api, "/api/v1/jobs")
			}
			jobs, err := api.jobs(cmd.Context())
			if err != nil {
				return err
			}
			return printJobs(term.out, jobs, time.Now())
		},
	}
}

func newJobsDescribe(term *terminal, o *jobsOptions) *cobra.Command {
	plan := false
	cmd := &cobra.Command{
		Use:   "describe JOB",
		Short: "Describe a job: stages, watermarks, backlog, sources, workers",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := o.connect(cmd.Context(), term)
			if err != nil {
				return err
			}
			job, err := find(cmd.Context(), api, args[0])
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(term.out, job.raw)
			}
			return printJob(term.out, job, plan, time.Now())
		},
	}
	cmd.Flags().BoolVar(&plan, "plan", false, "print the compiled plan, too")
	return cmd
}

func newJobsMessages(term *terminal, o *jobsOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "messages JOB",
		Short: "Print the messages of a job",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := o.connect(cmd.Context(), term)
			if err != nil {
				return err
			}
			job, err := find(cmd.Context(), api, args[0])
			if err != nil {
				return err
			}
			if o.json {
				return printReply(cmd, term, api, jobPath(job.ID, "messages"))
			}
			messages, err := api.messages(cmd.Context(), job.ID)
			if err != nil {
				return err
			}
			for _, m := range messages {
				fmt.Fprintf(term.out, "%s %-8s %s\n", m.Time.Local().Format(time.DateTime), importance(m.Importance), m.Text)
			}
			return nil
		},
	}
}

// importance shortens JOB_MESSAGE_WARNING to "warning".
func importance(s string) string { return strings.ToLower(strings.TrimPrefix(s, "JOB_MESSAGE_")) }

// printReply prints what the server answers for path.
func printReply(cmd *cobra.Command, term *terminal, api *client, path string) error {
	var raw json.RawMessage
	if err := api.get(cmd.Context(), path, &raw); err != nil {
		return err
	}
	return printJSON(term.out, raw)
}

// printJSON prints raw JSON, indented.
func printJSON(w io.Writer, raw json.RawMessage) error {
	text, err := json.MarshalIndent(raw, "", "  ")
	if err != nil {
		return fmt.Errorf("printing JSON: %w", err)
	}
	_, err = fmt.Fprintln(w, string(text))
	return err
}

// printJobs prints a table of jobs.
func printJobs(w io.Writer, jobs []jobRecord, now time.Time) error {
	t := newTable(w, "JOB", "NAME", "STATE", "SINCE", "CREATED")
	for _, j := range jobs {
		t.row(j.ID, j.Name, j.State, ago(j.StateSince, now), j.CreatedAt.Local().Format(time.DateTime))
	}
	return t.flush()
}

// printJob prints one job with its stages under the user's names.
func printJob(w io.Writer, j *jobRecord, plan bool, now time.Time) error {
	fmt.Fprintf(w, "job      %s\nname     %s\nstate    %s, since %s\n", j.ID, j.Name, j.State, ago(j.StateSince, now))
	if j.Error != "" {
		fmt.Fprintf(w, "error    %s\n", strings.ReplaceAll(strings.TrimSpace(j.Error), "\n", "\n         "))
	}
	d := j.Description
	if d == nil {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w, "STAGE", "KIND", "IN", "OUT", "BACKLOG", "WATERMARK", "LAG", "BUNDLES", "LATE")
	for _, s := range d.Stages {
		t.row(s.Name, s.Kind, thousands(s.ElementsIn), thousands(s.ElementsOut), thousands(s.BacklogElements),
			watermarkName(s.OutputWatermarkMillis), lag(s.OutputWatermarkMillis, now),
			fmt.Sprintf("%d+%d", s.BundlesCommitted, s.BundlesInFlight), thousands(s.DroppedLate))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, s := range d.Stages {
		if len(s.Transforms) > 1 || len(s.Transforms) == 1 && s.Transforms[0] != s.Name {
			fmt.Fprintf(w, "  %s = %s\n", s.Name, strings.Join(s.Transforms, ", "))
		}
		if s.Waiting != "" {
			fmt.Fprintf(w, "  %s waits: %s\n", s.Name, s.Waiting)
		}
	}
	if err := printSources(w, j); err != nil {
		return err
	}
	if len(d.Workers) > 0 {
		fmt.Fprintln(w)
		t := newTable(w, "WORKER", "ENVIRONMENT", "BUNDLES", "STARTED")
		for _, worker := range d.Workers {
			t.row(worker.ID, worker.Environment, fmt.Sprint(worker.Bundles), plural(worker.Generation, "time"))
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	if plan && d.Plan != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimRight(d.Plan, "\n"))
	}
	return nil
}

// printSources prints the splits of the native sources.
func printSources(w io.Writer, j *jobRecord) error {
	if len(j.Description.Sources) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w, "SOURCE", "SPLIT", "POSITION", "COMMITTED", "END", "WATERMARK", "IDLE")
	for _, source := range j.Description.Sources {
		for _, s := range source.Splits {
			t.row(source.Name, s.Split, fmt.Sprint(s.Position), known(s.Committed), known(s.End), s.Watermark, fmt.Sprint(s.Idle))
		}
	}
	return t.flush()
}

// known prints a position, "?" for -1.
func known(position int64) string {
	if position < 0 {
		return "?"
	}
	return fmt.Sprint(position)
}

// ago prints how long ago at was.
func ago(at, now time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return roundSpan(max(now.Sub(at), 0).Round(time.Second)) + " ago"
}

// table prints columns; the first error of the writer is kept for flush.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, header ...string) *table {
	t := &table{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row(header...)
	return t
}

func (t *table) row(cells ...string) { fmt.Fprintln(t.w, strings.Join(cells, "\t")) }

func (t *table) flush() error { return t.w.Flush() }
