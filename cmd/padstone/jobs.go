package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"padstone/internal/fault"
)

// defaultHTTP is where a server's HTTP API is unless it was told otherwise.
const defaultHTTP = "localhost:8100"

// jobsOptions are the flags that all of `padstone jobs` have.
type jobsOptions struct {
	server  string
	dataDir string
	json    bool
}

func newJobs(term *terminal) *cobra.Command {
	o := &jobsOptions{}
	shown := *term
	shown.out = visibly{term.out}
	term = &shown
	cmd := &cobra.Command{
		Use:   "jobs",
		Short: "List, describe and steer the jobs of a server",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	fs := cmd.PersistentFlags()
	fs.StringVar(&o.server, "server", "", "host:port or URL of a server's HTTP API (also PADSTONE_SERVER)")
	fs.StringVar(&o.dataDir, "data-dir", defaultDataDir(term.getenv), "data directory of the server to look for")
	fs.BoolVar(&o.json, "json", false, "print the server's JSON")
	cmd.AddCommand(newJobsList(term, o), newJobsDescribe(term, o), newJobsMessages(term, o), newJobsTransforms(term, o),
		newJobsEnd(term, o, "cancel"), newJobsEnd(term, o, "drain"), newJobsCheckpoint(term, o, "checkpoint"),
		newJobsCheckpoint(term, o, "savepoint"), newJobsStop(term, o), newJobsSet(term, o),
		newJobsThreads(term, o))
	return cmd
}

// connect finds the server: the named one, that of the data directory, or the one on the default port.
func (o *jobsOptions) connect(ctx context.Context, term *terminal) (*client, error) {
	api, _, ok, err := locate(ctx, o.server, o.dataDir, term.getenv)
	if err != nil || ok {
		return api, err
	}
	if api, err = newClient(defaultHTTP); err != nil {
		return nil, err
	}
	if _, err := api.server(ctx); err != nil {
		return nil, errNoServer(o.dataDir)
	}
	return api, nil
}

// connectTo connects to the server and finds the job that the user means.
func (o *jobsOptions) connectTo(ctx context.Context, term *terminal, text string) (*client, *jobRecord, error) {
	api, err := o.connect(ctx, term)
	if err != nil {
		return nil, nil, err
	}
	job, err := find(ctx, api, text)
	return api, job, err
}

// matchesShown is how many jobs are named where a text may mean several.
const matchesShown = 5

// find returns the job that text means: its id, a part at the beginning of one id only, or its name. Of several jobs of a name it is the
// one that has not ended, if there is one such.
func find(ctx context.Context, api *client, text string) (*jobRecord, error) {
	job, err := api.job(ctx, text)
	if err == nil {
		return job, nil
	}
	var reply *replyError
	if !errors.As(err, &reply) || reply.status != http.StatusNotFound {
		return nil, err
	}
	jobs, listErr := api.jobs(ctx)
	if listErr != nil {
		return nil, listErr
	}
	var matches, going []string
	for _, j := range jobs {
		if strings.HasPrefix(j.ID, text) || j.Name == text {
			matches = append(matches, j.ID)
		}
		if j.Name == text && !j.Terminal {
			going = append(going, j.ID)
		}
	}
	switch {
	case len(matches) == 0:
		return nil, fault.New(fault.Environment, codeServerReply, "the server knows no job %q", text).
			WithHint("`padstone jobs list` lists the jobs")
	case len(matches) == 1:
		return api.job(ctx, matches[0])
	case len(going) == 1:
		return api.job(ctx, going[0])
	}
	more := ""
	if n := len(matches) - matchesShown; n > 0 {
		matches, more = matches[:matchesShown], fmt.Sprintf(" and %d more", n)
	}
	return nil, usageError(fmt.Errorf("%q may be any of %s%s", text, strings.Join(matches, ", "), more))
}

// jobPath is the path of a job in the HTTP API.
func jobPath(id string, more ...string) string {
	return strings.Join(append([]string{"/api/v1/jobs/" + url.PathEscape(id)}, more...), "/")
}
