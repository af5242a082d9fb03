package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"padstone/internal/bytesize"
	"padstone/jobserver"
)

// printPools prints how many harness processes there are, and why.
func printPools(w io.Writer, pools []jobserver.PoolDescription, now time.Time) error {
	if len(pools) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := newTable(w, "POOL", "READY", "STARTING", "ENDING", "BOUNDS", "BUSY", "CORES", "BACKLOG", "CHANGES")
	for _, p := range pools {
		bounds, cores := fmt.Sprint(p.Min), "?"
		if p.Sized {
			bounds = fmt.Sprintf("%d-%d", p.Min, p.Max)
		}
		if p.Cores != nil {
			cores = fmt.Sprintf("%.1f", *p.Cores)
		}
		t.row(p.Environment, fmt.Sprint(p.Ready), fmt.Sprint(p.Starting), fmt.Sprint(p.Ending), bounds, fmt.Sprintf("%.0f %%", 100*p.Busy), cores,
			fmt.Sprintf("%.1f s", p.BacklogSeconds), fmt.Sprintf("+%d -%d", p.Grown, p.Shrunk))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, p := range pools {
		if p.Reason != "" && p.ChangedAt != nil {
			fmt.Fprintf(w, "  %s has had %d since %s: %s\n", p.Environment, p.Wanted, ago(*p.ChangedAt, now), p.Reason)
		}
		if p.Holding != "" {
			fmt.Fprintf(w, "  %s stays at %d: %s\n", p.Environment, p.Wanted, p.Holding)
		}
		if p.Recycled > 0 {
			fmt.Fprintf(w, "  %s has replaced %s of its processes for their memory\n", p.Environment, thousands(p.Recycled))
		}
	}
	return nil
}

// printWorkers prints the harness processes.
func printWorkers(w io.Writer, workers []jobserver.WorkerDescription) error {
	if len(workers) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	header := []string{"WORKER", "ENVIRONMENT", "BUNDLES", "GENERATION", "MEMORY"}
	pooled := slices.ContainsFunc(workers, func(worker jobserver.WorkerDescription) bool { return worker.WorkerPool != "" })
	if pooled {
		header = append(header, "STARTED BY")
	}
	t := newTable(w, header...)
	for _, worker := range workers {
		memory := "?"
		if worker.MemoryBytes > 0 {
			memory = bytesize.Text(worker.MemoryBytes >> 20 << 20)
		}
		cells := []string{worker.ID, worker.Environment, fmt.Sprint(worker.Bundles), fmt.Sprint(worker.Generation), memory}
		if pooled {
			cells = append(cells, worker.WorkerPool)
		}
		t.row(cells...)
	}
	return t.flush()
}
