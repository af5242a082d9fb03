package bench

import (
	"cmp"
	"slices"
)

// Run is one job of the load kit on one runner.
type Run struct {
	Peer     string `json:"peer"`
	Case     string `json:"case"`
	Pass     int    `json:"pass"`
	Elements int    `json:"elements"`
	// Error is why it failed; "" if it did not.
	Error string `json:"error,omitempty"`
	// Seconds is from the submission to the end of the job.
	Seconds        float64   `json:"seconds"`
	RunnerSeconds  *float64  `json:"runner_cpu_s"`
	HarnessSeconds *float64  `json:"harness_cpu_s"`
	RunnerPeak     *int64    `json:"runner_peak_bytes"`
	HarnessPeak    *int64    `json:"harness_peak_bytes"`
	Latencies      []float64 `json:"latencies_ms,omitempty"`
}

// Comparison is runners side by side.
type Comparison struct {
	About About  `json:"about"`
	Size  string `json:"size"`
	Peers []Peer `json:"peers"`
	// Cells are the medians, by case and peer in the order in which they ran.
	Cells []Cell `json:"cells"`
	Runs  []Run  `json:"runs"`
}

// Peer is a runner.
type Peer struct {
	Name     string `json:"name"`
	Endpoint string `json:"endpoint"`
	PID      int    `json:"pid,omitempty"` // 0: not known, and so what it uses is not
}

// Cell is what one case costs one peer: medians of its runs.
type Cell struct {
	Case     string `json:"case"`
	Peer     string `json:"peer"`
	Runs     int    `json:"runs"`
	Elements int    `json:"elements"`
	// Error is what the last run that failed said; then there are no figures.
	Error          string   `json:"error,omitempty"`
	Seconds        float64  `json:"seconds"`
	RunnerSeconds  *float64 `json:"runner_cpu_s"`
	HarnessSeconds *float64 `json:"harness_cpu_s"`
	RunnerPeak     *int64   `json:"runner_peak_bytes"`
	HarnessPeak    *int64   `json:"harness_peak_bytes"`
	// Net of the empty job, an element; nil for the cases without, and where the empty job failed.
	RunnerMicros  *float64 `json:"runner_cpu_us_per_element"`
	HarnessMicros *float64 `json:"harness_cpu_us_per_element"`
	TotalMicros   *float64 `json:"total_cpu_us_per_element"`
	// ElementsPerSecond is nil where the empty job took as long.
	ElementsPerSecond *float64 `json:"elements_per_second"`
	P50Millis         *float64 `json:"latency_p50_ms"`
	P99Millis         *float64 `json:"latency_p99_ms"`
	// Ratio is the total cost against that of the first peer; of latencies, the p50.
	Ratio *float64 `json:"ratio"`
}

// EmptyCase is the job whose cost is taken off those of the others.
const EmptyCase = "empty"

// Complete makes the cells of the runs.
func (c *Comparison) Complete() {
	var order []string
	byCell := map[string]map[string][]Run{}
	for _, r := range c.Runs {
		if byCell[r.Case] == nil {
			byCell[r.Case] = map[string][]Run{}
			order = append(order, r.Case)
		}
		byCell[r.Case][r.Peer] = append(byCell[r.Case][r.Peer], r)
	}
	c.Cells = nil
	for _, name := range order {
		var first *Cell
		for i, p := range c.Peers {
			runs := byCell[name][p.Name]
			if len(runs) == 0 {
				continue
			}
			cell := newCell(runs)
			cell.net(byCell[EmptyCase][p.Name])
			if i == 0 {
				first = &cell
			}
			cell.compare(first)
			c.Cells = append(c.Cells, cell)
		}
	}
}

// newCell takes the medians of runs of one case on one peer.
func newCell(runs []Run) Cell {
	last := runs[len(runs)-1]
	cell := Cell{Case: last.Case, Peer: last.Peer, Runs: len(runs), Elements: last.Elements}
	for _, r := range runs {
		if r.Error != "" {
			cell.Error = r.Error
		}
	}
	if cell.Error != "" {
		return cell
	}
	cell.Seconds = *median(runs, func(r Run) *float64 { return &r.Seconds })
	cell.RunnerSeconds = median(runs, func(r Run) *float64 { return r.RunnerSeconds })
	cell.HarnessSeconds = median(runs, func(r Run) *float64 { return r.HarnessSeconds })
	cell.RunnerPeak = median(runs, func(r Run) *int64 { return r.RunnerPeak })
	cell.HarnessPeak = median(runs, func(r Run) *int64 { return r.HarnessPeak })
	var latencies []float64
	for _, r := range runs {
		latencies = append(latencies, r.Latencies...)
	}
	if len(latencies) > 0 {
		slices.Sort(latencies)
		cell.P50Millis, cell.P99Millis = quantileOf(latencies, 0.5), quantileOf(latencies, 0.99)
	}
	return cell
}

// median returns the median of what is known; of an even number the lower one of both in the middle, which is one that was measured.
func median[V cmp.Ordered](runs []Run, value func(r Run) *V) *V {
	var known []V
	for _, r := range runs {
		if v := value(r); v != nil {
			known = append(known, *v)
		}
	}
	if len(known) == 0 {
		return nil
	}
	slices.Sort(known)
	return &known[(len(known)-1)/2]
}

// quantileOf returns a quantile of sorted values.
func quantileOf(sorted []float64, q float64) *float64 {
	v := sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
	return &v
}

// net takes off what the empty job costs.
func (c *Cell) net(empty []Run) {
	if c.Case == EmptyCase || c.Error != "" || c.P50Millis != nil || len(empty) == 0 {
		return
	}
	base := newCell(empty)
	if base.Error != "" {
		return
	}
	n := float64(c.Elements)
	each := func(all, off *float64) *float64 {
		if all == nil || off == nil {
			return nil
		}
		v := (*all - *off) * 1e6 / n
		return &v
	}
	c.RunnerMicros, c.HarnessMicros = each(c.RunnerSeconds, base.RunnerSeconds), each(c.HarnessSeconds, base.HarnessSeconds)
	if c.RunnerMicros != nil && c.HarnessMicros != nil {
		total := *c.RunnerMicros + *c.HarnessMicros
		c.TotalMicros = &total
	}
	if took := c.Seconds - base.Seconds; took > 0 {
		rate := n / took
		c.ElementsPerSecond = &rate
	}
}

// compare sets the ratio to the first peer.
func (c *Cell) compare(first *Cell) {
	if first == nil || c.Error != "" || first.Error != "" {
		return
	}
	for _, figure := range []func(c *Cell) *float64{
		func(c *Cell) *float64 { return c.P50Millis },
		func(c *Cell) *float64 { return c.TotalMicros },
		(*Cell).wholeCPU,
	} {
		mine, other := figure(c), figure(first)
		if mine != nil && other != nil && *other > 0 {
			ratio := *mine / *other
			c.Ratio = &ratio
			return
		}
	}
}

// wholeCPU is the CPU time of the job, start-up included: what the empty case is compared by.
func (c *Cell) wholeCPU() *float64 {
	if c.Case != EmptyCase || c.RunnerSeconds == nil || c.HarnessSeconds == nil {
		return nil
	}
	total := *c.RunnerSeconds + *c.HarnessSeconds
	return &total
}

// Cell returns the cell of a case and peer, or nil.
func (c *Comparison) Cell(name, peer string) *Cell {
	for i := range c.Cells {
		if c.Cells[i].Case == name && c.Cells[i].Peer == peer {
			return &c.Cells[i]
		}
	}
	return nil
}

// Failures lists the cells that failed.
func (c *Comparison) Failures() (failed []Cell) {
	for _, cell := range c.Cells {
		if cell.Error != "" {
			failed = append(failed, cell)
		}
	}
	return failed
}
