package main

import (
	"context"
	"strings"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"

	"padstone/internal/fault"
	"padstone/jobserver"
)

// executor is what the wiring needs of the engine.
type executor struct {
	jobserver.Executor
	// recover takes up jobs of an earlier server on the same data directory; nil fails them.
	recover func(ctx context.Context, spec jobserver.Spec, reporter jobserver.Reporter) (jobserver.Running, error)
	// options are the pipeline options that the engine reads.
	options []*jobpb.PipelineOptionDescriptor
	// close suspends running jobs, durably, and waits for all of the engine's goroutines and harnesses.
	close func(ctx context.Context) error
}

// newExecutor opens the engine.
func newExecutor(Config, *zap.Logger) (*executor, error) {
	return &executor{Executor: noEngine{}, close: func(context.Context) error { return nil }}, nil
}

// noEngine refuses every job: this binary was built without an engine.
type noEngine struct{}

func (noEngine) Check(context.Context, jobserver.Spec) error {
	return fault.New(fault.Environment, codeNoEngine, "this binary runs no jobs")
}

func (e noEngine) Start(ctx context.Context, spec jobserver.Spec, _ jobserver.Reporter) (jobserver.Running, error) {
	return nil, e.Check(ctx, spec)
}

// endsInPortZero tells whether an address asks for any free port.
func endsInPortZero(address string) bool { return strings.HasSuffix(address, ":0") }
