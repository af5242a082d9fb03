package memory

import "github.com/prometheus/client_golang/prometheus"

// Collector shows the pools of a budget as metrics.
type Collector struct {
	budget                             *Budget
	limit, used, size, peak, wait, out *prometheus.Desc
	waited                             *prometheus.Desc
}

// NewCollector returns the metrics of a budget.
func NewCollector(b *Budget) *Collector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("padstone_memory_"+name, help, []string{"pool"}, nil)
	}
	return &Collector{
		budget: b,
		limit:  prometheus.NewDesc("padstone_memory_limit_bytes", "Memory limit of the server.", nil, nil),
		used:   desc("pool_bytes", "Bytes taken from the pool."),
		size:   desc("pool_max_bytes", "Bytes that the pool has."),
		peak:   desc("pool_peak_bytes", "The most bytes that were taken at a time."),
		wait:   desc("pool_waiting", "Requests that wait for the pool now: who they are for is held up."),
		waited: desc("pool_waits_total", "Requests that have had to wait."),
		out:    desc("pool_refused_total", "Requests that were not granted: what they were for went to disk, or came over the limit."),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, out) }

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	out <- prometheus.MustNewConstMetric(c.limit, gauge, float64(c.budget.Limit))
	for _, p := range c.budget.Pools() {
		s := p.Stats()
		for _, m := range []struct {
			desc  *prometheus.Desc
			kind  prometheus.ValueType
			value int64
		}{
			{c.used, gauge, s.Used}, {c.size, gauge, s.Max}, {c.peak, gauge, s.Peak}, {c.wait, gauge, s.Waiting},
			{c.waited, counter, s.Waits}, {c.out, counter, s.Refused},
		} {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(m.value), s.Name)
		}
	}
}
