package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// runOptions are the flags of `padstone run`.
type runOptions struct {
	server   string
	dataDir  string // "" unless given: then a server that has to be started keeps its data there
	python   string
	module   string
	logLevel string
	verbose  bool
	// reconnectFor is how long a server may be away before its jobs are given up.
	reconnectFor time.Duration
	from         fromSavepoint
	dryRun       bool // say what would become of the savepoint, and start nothing
	// expansionServices are those of a server that has to be started.
	expansionServices []string
}

// reconnectForDefault is long enough for a server that is updated or whose machine is started again.
const reconnectForDefault = 15 * time.Minute

const runLong = `Run a Beam Python script on a Padstone server: one that runs already, or one started for the length of the script.

The script needs no change. It gets --runner=PortableRunner, --job_endpoint and --environment_type=LOOPBACK, except where its
arguments choose otherwise, and finds the expansion service for ReadFromKafka and WriteToKafka in BEAM_SERVICE_OVERRIDES.

Its stdout passes through; states, messages and progress of its jobs go to stderr. The exit code is the jobs' terminal state:
0 for DONE, DRAINED and UPDATED, 1 for FAILED, 2 for CANCELLED; the script's own when its jobs ended well or it submitted none.
A server that is killed and started again on the same data directory and ports goes on with its jobs, and the script goes on waiting.
Ctrl-C cancels the jobs; a second Ctrl-C kills the script.

With --from-savepoint the script's job goes on with what another job has left, matched by the names of transforms. With
--dry-run, too, nothing is started: a table says what would be carried over and what not, and the exit code is 1 if the server
would refuse the pipeline.`

func newRun(term *terminal) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [flags] script.py [arguments of the script]",
		Short: "Run a Beam Python script",
		Long:  runLong,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && o.module == "" {
				return usageError(errors.New("which script? see `padstone run --help`"))
			}
			if o.dryRun && o.from.location == "" {
				return usageError(errors.New("--dry-run needs --from-savepoint"))
			}
			// Two: a signal that arrives while the first is being handled must not be lost.
			signals := make(chan os.Signal, 2)
			signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
			defer signal.Stop(signals)
			return runScript(cmd.Context(), term, o, args, signals)
		},
	}
	fs := cmd.Flags()
	// What stands after the script is the script's.
	fs.SetInterspersed(false)
	fs.StringVar(&o.server, "server", "", "host:port or URL of a server's HTTP API (also PADSTONE_SERVER)")
	fs.StringVar(&o.dataDir, "data-dir", "", "data directory of the server to look for, and of one to start")
	fs.StringVar(&o.python, "python", "", "Python interpreter (default: $PADSTONE_PYTHON, $VIRTUAL_ENV, ./.venv, python3)")
	fs.StringVarP(&o.module, "module", "m", "", "run a module, as in python -m, instead of a script")
	fs.StringVar(&o.logLevel, "log-level", "warn", "log level of a server that has to be started")
	fs.Var(&repeated{values: &o.expansionServices}, "expansion-service",
		"another expansion service for a server that has to be started, as for `padstone serve`; may be repeated")
	fs.DurationVar(&o.reconnectFor, "reconnect-for", reconnectForDefault,
		"how long a server that goes away is waited for, while the script waits for its jobs; 0: not at all")
	o.from.flags(fs)
	fs.BoolVar(&o.dryRun, "dry-run", false, "with --from-savepoint: print what would be carried over, and start nothing")
	fs.BoolVarP(&o.verbose, "verbose", "v", false, "print debug messages of the jobs, too")
	return cmd
}

// runScript runs one script to its end and returns an *exitError with the code that its jobs' states give.
func runScript(ctx context.Context, term *terminal, o runOptions, args []string, signals <-chan os.Signal) error {
	python, err := findPython(o.python, term.getenv)
	if err != nil {
		return err
	}
	console := newConsole(term.err, term.width)
	server, err := reachServer(ctx, term, o, console)
	if err != nil {
		return err
	}
	session := &runSession{term: term, console: console, options: o, server: server}
	end, err := session.run(ctx, python, args, signals)
	if err := errors.Join(err, server.stop()); err != nil {
		return err
	}
	code, lines := end.judge()
	for _, line := range lines {
		console.printf("padstone: %s", line)
	}
	if code == exitOK {
		return nil
	}
	return &exitError{code: code}
}
