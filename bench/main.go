package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if len(os.Args) > 1 && os.Args[1] == "recovery" {
		flags, r := recoveryFlags()
		if err := flags.Parse(os.Args[2:]); err != nil {
			return err
		}
		return r.run(ctx)
	}
	registerAll()
	flag.Parse()
	beam.Init()
	return memory(ctx)
}
