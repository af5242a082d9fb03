package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/checkpoint"
	"padstone/engine/inventory"
	"padstone/engine/plan"
	"padstone/internal/durable"
	"padstone/internal/fault"
	"padstone/internal/option"
	"padstone/jobserver"
)

// takenDir is where the savepoint that a job starts from is fetched to, in the engine's directory of the job. What is there when a job
// starts is of a try that did not come to its end.
const takenDir = "taken"

// savepoint is what a job is to go on from.
type savepoint struct {
	repo     *checkpoint.Repository
	manifest *checkpoint.Manifest
}

// checkpointID is the shape of a checkpoint's id at the end of a location.
var checkpointID = regexp.MustCompile(`^[0-9]+-[0-9]+-[0-9a-z]+$`)

// openSavepoint finds what --savepoint_path names: a repository, with the job and the checkpoint behind it if need be. Without the latter
// it is the latest one. Errors: checkpoint-url, checkpoint-not-found, checkpoint-ambiguous, checkpoint-repository.
func openSavepoint(ctx context.Context, location string) (*savepoint, error) {
	base, query, _ := strings.Cut(location, "?")
	if query != "" {
		query = "?" + query
	}
	parts := strings.Split(strings.TrimRight(base, "/"), "/")
	up := func(n int) string { return strings.Join(parts[:max(len(parts)-n, 0)], "/") + query }
	last := func(n int) string { return parts[max(len(parts)-n, 0)] }
	if checkpointID.MatchString(last(1)) && len(parts) > 2 {
		return readSavepoint(ctx, up(2), last(2), last(1))
	}
	s, err := readSavepoint(ctx, up(0), "", "")
	if err == nil || !isNotFound(err) || len(parts) < 2 {
		return s, err
	}
	if of, oerr := readSavepoint(ctx, up(1), last(1), ""); oerr == nil || !isNotFound(oerr) {
		return of, oerr
	}
	return nil, err
}

func isNotFound(err error) bool {
	f := fault.Of(err)
	return f != nil && f.Code == "checkpoint-not-found"
}

func readSavepoint(ctx context.Context, location, job, id string) (*savepoint, error) {
	repo, err := checkpoint.Open(ctx, location)
	if err != nil {
		return nil, err
	}
	m, err := repo.Manifest(ctx, job, id)
	if err != nil {
		return nil, err
	}
	return &savepoint{repo: repo, manifest: m}, nil
}

// String names the savepoint for people.
func (s *savepoint) String() string {
	return fmt.Sprintf("%s %s of job %s in %s", s.manifest.Kind, s.manifest.ID, s.manifest.Job, s.repo.URL())
}

// inventory is what the savepoint holds. Errors: savepoint-without-inventory.
func (s *savepoint) inventory() (*inventory.Inventory, error) {
	if len(s.manifest.Inventory) == 0 {
		return nil, fault.New(fault.Pipeline, "savepoint-without-inventory", "%v does not say what it holds", s).
			WithHint("the job had committed nothing when it was taken: start the pipeline anew")
	}
	return inventory.Parse(s.manifest.Inventory)
}

// checkSavepoint refuses a pipeline that cannot go on from the savepoint that its options name, before anything is staged. In a dry run it
// refuses every pipeline, and the text says what would become of it: the Job API has no other answer to give.
func (e *Engine) checkSavepoint(ctx context.Context, spec jobserver.Spec, location string) error {
	s, err := openSavepoint(ctx, location)
	if err != nil {
		return err
	}
	earlier, err := s.inventory()
	if err != nil {
		return err
	}
	m, err := e.match(spec, earlier)
	if err != nil {
		return err
	}
	err = m.report.Err()
	if !optionBool(spec.Options, optionDryRun) {
		return err
	}
	text := fmt.Sprintf("%v\n%s", s, m.report)
	if err != nil {
		return fault.New(fault.Pipeline, fault.Of(err).Code, "the pipeline would be refused. %s", text).WithHint("%s", fault.Of(err).Hint)
	}
	return fault.New(fault.Pipeline, CodeDryRun, "the pipeline would start. %s", text).
		WithHint("nothing was started; leave out --%s to start it", optionDryRun)
}

// CodeDryRun is the code of the answer to a dry run of a pipeline that would start.
const CodeDryRun = "savepoint-dry-run"

// Preview tells what would become of what a savepoint holds if a pipeline went on from it. compile compiles the pipeline with a number of
// key groups and with collections cut.
func Preview(ctx context.Context, location string, o inventory.Options, compile compileFunc) (string, *inventory.Report, error) {
	s, err := openSavepoint(ctx, location)
	if err != nil {
		return "", nil, err
	}
	earlier, err := s.inventory()
	if err != nil {
		return "", nil, err
	}
	_, report, _, err := matchPlan(earlier, "", o, compile)
	return s.String(), report, err
}

// Preview implements jobserver.Previewer.
func (e *Engine) Preview(ctx context.Context, spec jobserver.Spec) (*jobserver.Preview, error) {
	location := option.Text(spec.Options, optionSavepoint)
	if location == "" {
		return nil, fault.New(fault.Pipeline, "invalid-request", "the option %s names no savepoint", optionSavepoint)
	}
	o, err := matchOptions(spec)
	if err != nil {
		return nil, err
	}
	name, report, err := Preview(ctx, location, o, func(groups int, cut []string) (*plan.Plan, error) {
		compiled, err := e.compile(spec, groups, cut)
		if err != nil {
			return nil, err
		}
		return compiled.Plan, nil
	})
	if err != nil {
		return nil, err
	}
	p := &jobserver.Preview{Savepoint: name, Warnings: report.Warnings}
	for _, l := range report.Lines {
		p.Lines = append(p.Lines, jobserver.PreviewLine{
			Outcome: string(l.Outcome), Kind: l.Kind, Name: l.Name, NewName: l.NewName, Details: l.Details,
		})
	}
	if f := fault.Of(report.Err()); f != nil {
		p.Refused = &jobserver.PreviewError{Code: string(f.Code), Message: f.Msg, Hint: f.Hint}
	}
	return p, nil
}

// takeUp fetches the store of the savepoint that a job starts from, unless it has done so already. A crash leaves nothing that counts.
func (e *Engine) takeUp(ctx context.Context, spec jobserver.Spec, reporter jobserver.Reporter) error {
	location := option.Text(spec.Options, optionSavepoint)
	dir := engineDir(spec)
	_, err := os.Stat(filepath.Join(dir, storeDir))
	if location == "" || err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Environment, "store-open", "the job's directory: %w", err)
	}
	s, err := openSavepoint(ctx, location)
	if err != nil {
		return err
	}
	reporter.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, fmt.Sprintf("the job starts from %v, %d bytes", s, s.manifest.Bytes))
	taken := filepath.Join(dir, takenDir)
	if err := os.RemoveAll(taken); err != nil {
		return fault.New(fault.Environment, "store-open", "the job's directory: %w", err)
	}
	err = s.repo.FetchOnly(ctx, s.manifest, taken, func(f checkpoint.File) bool {
		return strings.HasPrefix(f.Path, checkpoint.DirStore+"/")
	})
	if err != nil {
		return err
	}
	err = errors.Join(
		os.Rename(filepath.Join(taken, checkpoint.DirStore), filepath.Join(dir, storeDir)), durable.SyncDir(dir), os.RemoveAll(taken))
	if err != nil {
		return fault.New(fault.Environment, "checkpoint-fetch", "what was fetched of a savepoint cannot be placed: %w", err)
	}
	return nil
}
