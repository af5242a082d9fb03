package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// execute runs one command line and returns the exit code of the process.
func execute(ctx context.Context, term *terminal, args []string) int {
	root := newRoot(term)
	root.SetArgs(args)
	code, text := exitCode(root.ExecuteContext(ctx))
	if text != "" {
		fmt.Fprintln(term.err, "padstone: "+text)
	}
	return code
}

// newRoot assembles the commands; every one takes its surroundings from term.
func newRoot(term *terminal) *cobra.Command {
	root := &cobra.Command{
		Use:   "padstone",
		Short: "Run Apache Beam pipelines",
		Long: "Padstone runs Apache Beam pipelines: a portable job server, a durable engine and the tools around them.\n" +
			"Start with `padstone serve`, or let `padstone run script.py` start a server for the length of one script.",
		Args:          usageArgs(cobra.NoArgs),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(term.out)
	root.SetErr(term.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError(fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath()))
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newServe(term), newRun(term), newJobs(term), newCheckpoints(term), newPlan(term), newBench(term),
		newVersion(term))
	return root
}

// usageArgs gives errors about arguments the usage exit code.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError(fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath()))
		}
		return nil
	}
}
