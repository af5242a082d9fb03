package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"padstone/jobserver"
)

// newJobsSet is `padstone jobs set`.
func newJobsSet(term *terminal, o *jobsOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "set JOB NAME=VALUE…",
		Short: "Change settings of a job while it runs",
		Long: "Change settings of a job while it runs: all that are named, or none. The change is kept over a restart of the server and in\n" +
			"checkpoints. NAME=default takes it back. `padstone jobs describe` lists the settings; docs/tuning.md says what they do.",
		Example: "  padstone jobs set payments max_bundle_size=5000 latency_budget_millis=200\n" +
			"  padstone jobs set payments max_bundle_size=default",
		Args: usageArgs(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			values, err := parseSettings(args[1:])
			if err != nil {
				return usageError(err)
			}
			api, job, err := o.connectTo(cmd.Context(), term, args[0])
			if err != nil {
				return err
			}
			reply, err := api.set(cmd.Context(), job.ID, values)
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(term.out, reply.raw)
			}
			return printSettings(term.out, reply.Settings)
		},
	}
}

// parseSettings reads NAME=VALUE; which there are, and what they may be, the server knows.
func parseSettings(args []string) (map[string]string, error) {
	values := make(map[string]string, len(args))
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || name == "" || value == "" {
			return nil, fmt.Errorf("%q is not NAME=VALUE", arg)
		}
		name = strings.TrimLeft(name, "-")
		if _, twice := values[name]; twice {
			return nil, fmt.Errorf("%s is given twice", name)
		}
		values[name] = value
	}
	return values, nil
}

// printSettings prints what the settings are and where they are from.
func printSettings(w io.Writer, settings []jobserver.SettingDescription) error {
	if len(settings) == 0 {
		return nil
	}
	t := newTable(w, "SETTING", "VALUE", "UNIT", "FROM", "NOTE")
	for _, s := range settings {
		value := "auto"
		if s.Value != nil {
			value = cmp.Or(s.Text, fmt.Sprint(*s.Value))
		}
		t.row(s.Name, value, s.Unit, s.From, s.Note)
	}
	return t.flush()
}
