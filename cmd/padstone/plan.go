package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"padstone/connector"
	"padstone/connector/kafka"
	"padstone/engine"
	"padstone/internal/fault"
	"padstone/translate"
)

// pipelineBytesMax bounds a pipeline file.
const pipelineBytesMax = 1 << 30

func newPlan(term *terminal) *cobra.Command {
	asJSON := false
	experiments := []string{}
	var from fromSavepoint
	cmd := &cobra.Command{
		Use:   "plan pipeline.pb|pipeline.json|-",
		Short: "Compile a pipeline and print the plan",
		Long: "Compile a pipeline proto (org.apache.beam.model.pipeline.v1.Pipeline, binary or JSON) and print the plan as a tree.\n" +
			"What the server would refuse is refused here, with the same code. A file named - is standard input.\n" +
			"With --from-savepoint print instead what the pipeline would carry over of a savepoint, and what it would not.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			pipeline, err := readPipeline(term, args[0])
			if err != nil {
				return err
			}
			options := compileOptions(kafka.Registry(zap.NewNop()), planName(args[0]))
			options.NoFusion = slices.Contains(experiments, engine.ExperimentNoFusion)
			options.NoLifting = slices.Contains(experiments, engine.ExperimentNoLifting)
			options.NoAssignment = slices.Contains(experiments, engine.ExperimentNoAssignment)
			if from.location != "" {
				return from.preview(cmd.Context(), term, pipeline, options, asJSON)
			}
			plan, err := translate.Compile(pipeline, options)
			if err != nil {
				return err
			}
			if asJSON {
				text, err := json.MarshalIndent(plan, "", "  ")
				if err != nil {
					return fmt.Errorf("printing the plan: %w", err)
				}
				_, err = fmt.Fprintln(term.out, string(text))
				return err
			}
			_, err = fmt.Fprintln(term.out, strings.TrimRight(plan.String(), "\n"))
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, as stored with a job")
	cmd.Flags().StringSliceVar(&experiments, "experiments", nil,
		"compile as for a job with these experiments: "+strings.Join([]string{
			engine.ExperimentNoFusion, engine.ExperimentNoLifting, engine.ExperimentNoAssignment,
		}, ", "))
	from.flags(cmd.Flags())
	return cmd
}

// compileOptions are the options under which the server compiles, as far as they do not depend on a server.
func compileOptions(natives connector.Registry, name string) translate.Options {
	return translate.Options{
		Name: name,
		Natives: func(urn string) bool {
			_, source := natives.Source(connector.URN(urn))
			_, sink := natives.Sink(connector.URN(urn))
			return source || sink
		},
		Opaque: func(urn string) bool { return connector.IsOpaque(natives, connector.URN(urn)) },
		ValidateNative: func(urn string, config []byte) error {
			if source, ok := natives.Source(connector.URN(urn)); ok {
				return source.Validate(config)
			}
			if sink, ok := natives.Sink(connector.URN(urn)); ok {
				return sink.Validate(config)
			}
			return nil
		},
	}
}

// readPipeline reads a pipeline proto in either encoding; JSON begins with a brace, which no binary Pipeline does.
func readPipeline(term *terminal, path string) (*pipepb.Pipeline, error) {
	unreadable := func(err error) error {
		return fault.New(fault.Pipeline, codePipeline, "%s: %w", path, err).
			WithHint("the file holds one org.apache.beam.model.pipeline.v1.Pipeline, binary or as JSON")
	}
	in := term.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, unreadable(err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, pipelineBytesMax+1))
	switch {
	case err != nil:
		return nil, unreadable(err)
	case len(text) > pipelineBytesMax:
		return nil, unreadable(fmt.Errorf("more than %d bytes", pipelineBytesMax))
	}
	pipeline := &pipepb.Pipeline{}
	isJSON := bytes.HasPrefix(text, []byte("{"))
	if !isJSON {
		err = proto.Unmarshal(text, pipeline)
		// Tried second: a line end is also the tag of a binary pipeline's first field.
		isJSON = err != nil && bytes.HasPrefix(bytes.TrimSpace(text), []byte("{"))
	}
	if isJSON {
		err = protojson.Unmarshal(text, pipeline)
	}
	if err != nil {
		return nil, unreadable(err)
	}
	return pipeline, nil
}

// planName names a plan after its file.
func planName(path string) string {
	if path == "-" {
		return "pipeline"
	}
	return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
}
