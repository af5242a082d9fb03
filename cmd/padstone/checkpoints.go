package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"padstone/engine/checkpoint"
	"padstone/jobserver"
)

func newCheckpoints(term *terminal) *cobra.Command {
	o := &jobsOptions{}
	cmd := &cobra.Command{
		Use:   "checkpoints",
		Short: "List, restore and remove checkpoints of jobs",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCheckpointsList(term), newCheckpointsRestore(term, o), newCheckpointsRemove(term))
	return cmd
}

// checkpointRow is a checkpoint in a listing.
type checkpointRow struct {
	Job       string          `json:"job"`
	Name      string          `json:"name"`
	ID        string          `json:"id"`
	Kind      checkpoint.Kind `json:"kind"`
	CreatedAt time.Time       `json:"created_at"`
	Commit    uint64          `json:"commit"`
	Files     int             `json:"files"`
	Bytes     int64           `json:"bytes"`
	Uploaded  int64           `json:"uploaded_bytes"`
	Padstone  string          `json:"padstone"`
	Problem   string          `json:"problem,omitempty"` // why it cannot be restored
}

// newCheckpointsList reads the repository itself: there need be no server.
func newCheckpointsList(term *terminal) *cobra.Command {
	job, asJSON := "", false
	cmd := &cobra.Command{
		Use:   "list WHERE",
		Short: "List the checkpoints in a directory or bucket, by job, from the earliest to the latest",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, err := checkpoint.Open(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			rows, err := listCheckpoints(cmd.Context(), repo, job)
			if err != nil {
				return err
			}
			if asJSON {
				text, err := json.Marshal(map[string]any{"checkpoints": rows})
				if err != nil {
					return err
				}
				return printJSON(term.out, text)
			}
			t := newTable(term.out, "JOB", "ID", "KIND", "TAKEN", "FILES", "BYTES", "UPLOADED", "NAME")
			for _, r := range rows {
				if r.Problem != "" {
					t.row(r.Job, r.ID, string(r.Kind), r.Problem)
					continue
				}
				t.row(r.Job, r.ID, string(r.Kind), r.CreatedAt.Local().Format(time.DateTime), thousands(int64(r.Files)), thousands(r.Bytes),
					thousands(r.Uploaded), r.Name)
			}
			return t.flush()
		},
	}
	cmd.Flags().StringVar(&job, "job", "", "id of a job; all jobs by default")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func listCheckpoints(ctx context.Context, repo *checkpoint.Repository, job string) ([]checkpointRow, error) {
	entries, err := repo.List(ctx, job)
	if err != nil {
		return nil, err
	}
	rows := make([]checkpointRow, 0, len(entries))
	for _, e := range entries {
		row := checkpointRow{Job: e.Job, ID: e.ID, Kind: e.Kind}
		if m, err := repo.Read(ctx, e); err != nil {
			row.Problem = err.Error()
		} else {
			row.Name, row.CreatedAt, row.Commit, row.Padstone = m.Name, m.CreatedAt, m.Commit, m.Padstone
			row.Files, row.Bytes, row.Uploaded = len(m.Files), m.Bytes, m.NewBytes
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// newCheckpointsRemove reads and writes the repository itself.
func newCheckpointsRemove(term *terminal) *cobra.Command {
	job, all := "", false
	cmd := &cobra.Command{
		Use:   "remove WHERE --job JOB {ID… | --all}",
		Short: "Remove checkpoints or savepoints of a job, and what only they had",
		Args:  usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if job == "" || all == (len(args) > 1) {
				return usageError(errors.New("name the job with --job, and either ids or --all"))
			}
			repo, err := checkpoint.Open(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			entries, err := repo.List(cmd.Context(), job)
			if err != nil {
				return err
			}
			known := make(map[string]checkpoint.Entry)
			for _, e := range entries {
				known[e.ID] = e
			}
			ids := args[1:]
			if all {
				ids = sortedKeys(known)
			}
			for _, id := range ids {
				e, ok := known[id]
				if !ok {
					_, err := repo.Manifest(cmd.Context(), job, id)
					return err
				}
				if err := repo.Remove(cmd.Context(), e); err != nil {
					return err
				}
			}
			done, err := repo.Prune(cmd.Context(), job, 0)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(term.out, "%d checkpoints, %s files, %s bytes removed\n", len(ids), thousands(int64(done.Files)),
				thousands(done.Bytes))
			return err
		},
	}
	cmd.Flags().StringVar(&job, "job", "", "id of the job")
	cmd.Flags().BoolVar(&all, "all", false, "all checkpoints and savepoints of the job")
	return cmd
}

// restoreAsked is what is sent to have a job restored.
type restoreAsked struct {
	From              string `json:"from"`
	Job               string `json:"job,omitempty"`
	ID                string `json:"id,omitempty"`
	AllowRewind       bool   `json:"allow_rewind,omitempty"`
	EnvironmentType   string `json:"environment_type,omitempty"`
	EnvironmentConfig string `json:"environment_config,omitempty"`
}

func newCheckpointsRestore(term *terminal, o *jobsOptions) *cobra.Command {
	asked := restoreAsked{}
	cmd := &cobra.Command{
		Use:   "restore WHERE",
		Short: "Have a server take up a job from a checkpoint, under its own id",
		Long: "Have a server take up a job from a checkpoint or savepoint, under its own id. The server reads WHERE itself. A server that\n" +
			"still runs the job is shut out by Kafka. A checkpoint that is older than what the job has written to Kafka is refused:\n" +
			"with --allow-rewind those records are written again, perhaps otherwise, and the answer says which.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			asked.From = args[0]
			api, err := o.connect(cmd.Context(), term)
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := api.order(cmd.Context(), "/api/v1/restore", asked, &raw); err != nil {
				return err
			}
			if o.json {
				return printJSON(term.out, raw)
			}
			var done struct {
				Job        jobRecord            `json:"job"`
				Checkpoint jobserver.Checkpoint `json:"checkpoint"`
				GivenUp    []string             `json:"given_up"`
			}
			if err := json.Unmarshal(raw, &done); err != nil {
				return fmt.Errorf("the server's answer: %w", err)
			}
			fmt.Fprintf(term.out, "%s %s\nfrom %s %s of %s\n", done.Job.ID, done.Job.State, done.Checkpoint.Kind, done.Checkpoint.ID,
				done.Checkpoint.CreatedAt.Local().Format(time.DateTime))
			for _, text := range done.GivenUp {
				fmt.Fprintf(term.out, "given up: %s\n", text)
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.server, "server", "", "host:port or URL of a server's HTTP API (also PADSTONE_SERVER)")
	fs.StringVar(&o.dataDir, "data-dir", defaultDataDir(term.getenv), "data directory of the server to look for")
	fs.BoolVar(&o.json, "json", false, "print the server's JSON")
	fs.StringVar(&asked.Job, "job", "", "id of the job, or its beginning; needed where there are several")
	fs.StringVar(&asked.ID, "id", "", "id of the checkpoint; the latest by default")
	fs.BoolVar(&asked.AllowRewind, "allow-rewind", false, "go back behind what was written to Kafka, and write it again")
	fs.StringVar(&asked.EnvironmentType, "environment_type", "", "EXTERNAL or PROCESS, in place of the pipeline's environment")
	fs.StringVar(&asked.EnvironmentConfig, "environment_config", "", "host:port of a worker pool, or JSON with the command")
	return cmd
}
