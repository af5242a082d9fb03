package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"padstone/jobserver"
)

func newJobsList(term *terminal, o *jobsOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the jobs, newest first",
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
	var show describeOptions
	cmd := &cobra.Command{
		Use:   "describe JOB",
		Short: "Describe a job: settings, stages, watermarks, backlog, sources, workers",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, job, err := o.connectTo(cmd.Context(), term, args[0])
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(term.out, job.raw)
			}
			return printJob(term.out, job, show, time.Now())
		},
	}
	cmd.Flags().BoolVar(&show.plan, "plan", false, "print the compiled plan, too")
	cmd.Flags().BoolVar(&show.profile, "profile", false, "print all parts of the bundles' time, too")
	return cmd
}

// describeOptions are what `padstone jobs describe` prints besides.
type describeOptions struct{ plan, profile bool }

func newJobsMessages(term *terminal, o *jobsOptions) *cobra.Command {
	return newJobsPart(term, o, "messages", "Print the messages of a job", func(ctx context.Context, api *client, id string) error {
		messages, err := api.messages(ctx, id)
		for _, m := range messages {
			fmt.Fprintf(term.out, "%s %-7s %s\n", m.Time, m.Importance, m.Text)
		}
		return err
	})
}

func newJobsTransforms(term *terminal, o *jobsOptions) *cobra.Command {
	const short = "Print the transforms of a job's pipeline with their display data"
	return newJobsPart(term, o, "transforms", short, func(ctx context.Context, api *client, id string) error {
		reply, err := api.transforms(ctx, id)
		if err != nil {
			return err
		}
		printDisplayData(term.out, "", reply.DisplayData)
		for _, t := range reply.Transforms {
			indent := strings.Repeat("  ", t.Depth)
			fmt.Fprintf(term.out, "%s%s\n", indent, inLine(t.Name))
			printDisplayData(term.out, indent+"    ", t.DisplayData)
		}
		return nil
	})
}

// newJobsPart makes the command that prints what the API has of a job under the name, as the server's JSON or with show.
func newJobsPart(
	term *terminal, o *jobsOptions, name, short string, show func(ctx context.Context, api *client, id string) error,
) *cobra.Command {
	return &cobra.Command{
		Use:   name + " JOB",
		Short: short,
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, job, err := o.connectTo(cmd.Context(), term, args[0])
			if err != nil {
				return err
			}
			if o.json {
				return printReply(cmd, term, api, jobPath(job.ID, name))
			}
			return show(cmd.Context(), api, job.ID)
		},
	}
}

// printDisplayData prints display data, an item a line.
func printDisplayData(w io.Writer, indent string, items []jobserver.DisplayItem) {
	for _, d := range items {
		fmt.Fprintf(w, "%s%s: %s\n", indent, inLine(cmp.Or(d.Label, d.Key)), inLine(fmt.Sprint(d.Value)))
	}
}

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
		t.row(j.ID, j.Name, j.State, ago(j.since(), now), j.CreatedAt.Local().Format(time.DateTime))
	}
	return t.flush()
}

// printJob prints one job with its stages under the user's names.
func printJob(w io.Writer, j *jobRecord, show describeOptions, now time.Time) error {
	fmt.Fprintf(w, "job      %s\nname     %s\nstate    %s, since %s\n", j.ID, inLine(j.Name), j.State, ago(j.since(), now))
	if j.LastError != "" {
		fmt.Fprintf(w, "error    %s\n", gist(j.LastError))
	}
	d := j.Description
	if d == nil {
		if j.DescriptionError != "" {
			fmt.Fprintf(w, "\nno description: %s\n", j.DescriptionError)
		}
		return nil
	}
	if d.Durability != "" {
		fmt.Fprintf(w, "durable  %s\n", d.Durability)
	}
	if d.Waiting != "" {
		fmt.Fprintf(w, "waits    %s\n", d.Waiting)
	}
	if len(d.Settings) > 0 {
		fmt.Fprintln(w)
	}
	if err := printSettings(w, d.Settings); err != nil {
		return err
	}
	if err := printStages(w, d.Stages, now); err != nil {
		return err
	}
	if err := printProfile(w, d.Stages); err != nil {
		return err
	}
	if show.profile {
		if err := printParts(w, d.Stages); err != nil {
			return err
		}
	}
	if err := printSources(w, d.Sources); err != nil {
		return err
	}
	if err := printEnvironments(w, d.Environments); err != nil {
		return err
	}
	if err := printPools(w, d.Pools, now); err != nil {
		return err
	}
	if err := printWorkers(w, d.Workers); err != nil {
		return err
	}
	printCheckpoints(w, d.Checkpoints, now)
	if show.plan && d.Plan != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimRight(d.Plan, "\n"))
	}
	return nil
}

// printStages prints the stages under the user's names, and below them what each is made of and waits for.
func printStages(w io.Writer, stages []jobserver.StageDescription, now time.Time) error {
	if len(stages) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w, "STAGE", "KIND", "IN", "OUT", "BACKLOG", "WATERMARK", "LAG", "BUNDLES", "LATE")
	for _, s := range stages {
		t.row(s.Name, s.Kind, thousands(s.ElementsIn), thousands(s.ElementsOut), thousands(s.BacklogElements),
			watermarkName(s.OutputWatermarkMillis), lag(s.OutputWatermarkMillis, now),
			fmt.Sprintf("%d+%d", s.BundlesCommitted, s.BundlesInFlight), thousands(s.DroppedLate))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, s := range stages {
		name := inLine(s.Name)
		if len(s.Transforms) > 1 || len(s.Transforms) == 1 && s.Transforms[0] != s.Name {
			fmt.Fprintf(w, "  %s = %s\n", name, inLine(strings.Join(s.Transforms, ", ")))
		}
		if s.BundlesFailed+s.BundlesLost > 0 {
			fmt.Fprintf(w, "  %s ran bundles again: %s failed, %s lost their harness\n",
				name, thousands(s.BundlesFailed), thousands(s.BundlesLost))
		}
		if s.Suspect != "" {
			fmt.Fprintf(w, "  %s suspects an element: %s\n", name, s.Suspect)
		}
		if s.Waiting != "" {
			fmt.Fprintf(w, "  %s waits: %s\n", name, s.Waiting)
		}
	}
	return nil
}

// printEnvironments prints where user code runs.
func printEnvironments(w io.Writer, environments []jobserver.EnvironmentDescription) error {
	if len(environments) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w, "ENVIRONMENT", "RUNS", "INSTEAD OF")
	for _, env := range environments {
		t.row(env.ID, env.Runs, env.Replaces)
	}
	return t.flush()
}

// printSources prints the splits of the native sources.
func printSources(w io.Writer, sources []jobserver.SourceDescription) error {
	if len(sources) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w, "SOURCE", "SPLIT", "POSITION", "COMMITTED", "END", "WATERMARK", "IDLE")
	for _, source := range sources {
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

func (t *table) row(cells ...string) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, inLine(cell))
	}
	fmt.Fprintln(t.w)
}

func (t *table) flush() error { return t.w.Flush() }
