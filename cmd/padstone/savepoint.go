package main

import (
	"context"
	"encoding/json"
	"fmt"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/spf13/pflag"

	"padstone/engine"
	"padstone/engine/inventory"
	"padstone/engine/plan"
	"padstone/translate"
)

// fromSavepoint are the flags of a start from a savepoint.
type fromSavepoint struct {
	location         string
	allowNonRestored bool
	mapping          string // JSON
}

func (f *fromSavepoint) flags(fs *pflag.FlagSet) {
	fs.StringVar(&f.location, "from-savepoint", "",
		"start from a savepoint: a directory, file:///path or s3://bucket/prefix, with /JOB and /ID behind it if need be")
	fs.BoolVar(&f.allowNonRestored, "allow-non-restored-state", false, "drop what the pipeline has no place for")
	fs.StringVar(&f.mapping, "transform-name-mapping", "", `old names of renamed transforms: '{"Old name": "New name"}'`)
}

// preview prints what would become of what the savepoint holds, and returns why the pipeline would be refused.
func (f *fromSavepoint) preview(
	ctx context.Context, term *terminal, pipeline *pipepb.Pipeline, options translate.Options, asJSON bool,
) error {
	o := inventory.Options{AllowNonRestored: f.allowNonRestored}
	if f.mapping != "" {
		if err := json.Unmarshal([]byte(f.mapping), &o.Names); err != nil {
			return usageError(fmt.Errorf("--transform-name-mapping: %w", err))
		}
	}
	name, report, err := engine.Preview(ctx, f.location, o, func(groups int, cut []string) (*plan.Plan, error) {
		options.KeyGroups, options.Cut = groups, cut
		return translate.Compile(pipeline, options)
	})
	if err != nil {
		return err
	}
	if asJSON {
		text, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			return fmt.Errorf("printing the report: %w", err)
		}
		_, err = fmt.Fprintln(term.out, string(text))
		if err != nil {
			return err
		}
		return report.Err()
	}
	if _, err := fmt.Fprintf(term.out, "%s\n%s", name, report); err != nil {
		return err
	}
	return report.Err()
}

// scriptArgs are the pipeline options that say the same to a script.
func (f *fromSavepoint) scriptArgs(dryRun bool) []string {
	if f.location == "" {
		return nil
	}
	args := []string{"--savepoint_path=" + f.location}
	if f.allowNonRestored {
		args = append(args, "--allow_non_restored_state")
	}
	if f.mapping != "" {
		args = append(args, "--transform_name_mapping="+f.mapping)
	}
	if dryRun {
		args = append(args, "--savepoint_dry_run")
	}
	return args
}
