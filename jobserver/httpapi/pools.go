package httpapi

import (
	"github.com/prometheus/client_golang/prometheus"

	"padstone/jobserver"
)

// poolMetric is one number of the harness processes of an environment; of says nothing when it is not known.
type poolMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*jobserver.PoolDescription) (float64, bool)
}

// poolMetrics are those of how many harness processes there are, and why.
func poolMetrics(desc func(name, help string, labels ...string) *prometheus.Desc) []poolMetric {
	metric := func(kind prometheus.ValueType, name, help string, of func(*jobserver.PoolDescription) float64) poolMetric {
		return poolMetric{desc("harness_"+name, help, "job", "environment"), kind,
			func(d *jobserver.PoolDescription) (float64, bool) { return of(d), true }}
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	cores := poolMetric{
		desc("harness_cores", "Cores that the harness processes use, where that is looked at and can be seen.", "job", "environment"),
		gauge, func(d *jobserver.PoolDescription) (float64, bool) {
			if d.Cores == nil {
				return 0, false
			}
			return *d.Cores, true
		},
	}
	return []poolMetric{
		metric(gauge, "processes_wanted", "Harness processes that there should be.",
			func(d *jobserver.PoolDescription) float64 { return float64(d.Wanted) }),
		metric(gauge, "processes_ready", "Harness processes that take bundles.",
			func(d *jobserver.PoolDescription) float64 { return float64(d.Ready) }),
		metric(gauge, "processes_starting", "Harness processes that are starting, or starting again.",
			func(d *jobserver.PoolDescription) float64 { return float64(d.Starting) }),
		metric(gauge, "processes_ending", "Harness processes that end as soon as their bundles have.",
			func(d *jobserver.PoolDescription) float64 { return float64(d.Ending) }),
		metric(gauge, "processes_min", "Harness processes that there are at least.",
			func(d *jobserver.PoolDescription) float64 { return float64(d.Min) }),
		metric(gauge, "processes_max", "Harness processes that there are at most.",
			func(d *jobserver.PoolDescription) float64 { return float64(d.Max) }),
		metric(gauge, "backlog_seconds", "How long the harness processes would take for what waits, as far as that is known.",
			func(d *jobserver.PoolDescription) float64 { return d.BacklogSeconds }),
		metric(gauge, "busy_ratio", "Share of the time since the last look in which a harness process had a bundle at work.",
			func(d *jobserver.PoolDescription) float64 { return d.Busy }),
		metric(counter, "grown_total", "Times that there were to be more harness processes.",
			func(d *jobserver.PoolDescription) float64 { return float64(d.Grown) }),
		metric(counter, "shrunk_total", "Times that there were to be fewer harness processes.",
			func(d *jobserver.PoolDescription) float64 { return float64(d.Shrunk) }),
		metric(counter, "recycled_total", "Harness processes whose place another one has taken, for their memory.",
			func(d *jobserver.PoolDescription) float64 { return float64(d.Recycled) }),
		cores,
	}
}
