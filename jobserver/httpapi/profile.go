package httpapi

import (
	"github.com/prometheus/client_golang/prometheus"

	"padstone/jobserver"
)

// profileMetrics are where the time of stages' bundles goes.
type profileMetrics struct {
	spent                    *prometheus.Desc
	seconds, elements, bytes *prometheus.Desc
	waitSeconds, waitCount   *prometheus.Desc
	lastElements, lastBytes  *prometheus.Desc
	sdkSeconds               *prometheus.Desc
	fixed, each, open        *prometheus.Desc
}

func newProfileMetrics(desc func(name, help string, labels ...string) *prometheus.Desc) *profileMetrics {
	of := func(name, help string, more ...string) *prometheus.Desc {
		return desc("stage_"+name, help, append([]string{"job", "stage"}, more...)...)
	}
	return &profileMetrics{
		spent:        of("bundle_part_seconds_total", "Where the time of bundles went; all parts add up to it.", "group", "part"),
		seconds:      of("bundle_duration_seconds", "How long bundles took, from their start until their commit was applied."),
		elements:     of("bundle_elements", "Elements of a bundle."),
		bytes:        of("bundle_bytes", "Bytes of a bundle's elements."),
		waitSeconds:  of("wait_seconds_total", "Time of waiting before and after bundles, and of attempts that came to nothing.", "wait"),
		waitCount:    of("waits_total", "What has waited: blocks, effects, blocks of an outbox, attempts.", "wait"),
		lastElements: of("bundle_last_elements", "Elements of the last bundle."),
		lastBytes:    of("bundle_last_bytes", "Bytes of the last bundle."),
		sdkSeconds: desc("transform_sdk_seconds_total", "What harnesses say that transforms have taken.",
			"job", "stage", "transform", "method"),
		fixed: of("bundle_fixed_seconds", "What a bundle is taken to cost its harness, whatever it has."),
		each:  of("element_seconds", "What an element is taken to cost its harness."),
		open:  of("bundle_open_max_seconds", "How long a bundle is kept open for more at most."),
	}
}

func (m *profileMetrics) descs() []*prometheus.Desc {
	return []*prometheus.Desc{
		m.spent, m.seconds, m.elements, m.bytes, m.waitSeconds, m.waitCount, m.lastElements, m.lastBytes, m.sdkSeconds,
		m.fixed, m.each, m.open,
	}
}

// collect sends the profile of a stage.
func (m *profileMetrics) collect(out chan<- prometheus.Metric, p *jobserver.ProfileDescription, job, stage string) {
	if p == nil {
		return
	}
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	for _, part := range p.Parts {
		send(out, m.spent, counter, part.Seconds, job, stage, part.Group, part.Part)
	}
	histogram(out, m.seconds, &p.Millis, p.Seconds, 1e-6, 6, p.Bundles, job, stage) // from 63 µs to 67 s
	histogram(out, m.elements, &p.Elements, p.Elements.Sum, 1, 0, p.Bundles, job, stage)
	histogram(out, m.bytes, &p.Bytes, p.Bytes.Sum, 1, 6, p.Bundles, job, stage)
	for _, w := range []struct {
		name string
		jobserver.Waits
	}{{"inbox", p.Inbox}, {"durable", p.Durable}, {"written", p.Written}, {"again", p.Again}} {
		send(out, m.waitSeconds, counter, w.Seconds, job, stage, w.name)
		send(out, m.waitCount, counter, float64(w.Count), job, stage, w.name)
	}
	send(out, m.lastElements, gauge, float64(p.LastElements), job, stage)
	send(out, m.lastBytes, gauge, float64(p.LastBytes), job, stage)
	for _, s := range p.SDK {
		for _, method := range []struct {
			name   string
			millis int64
		}{{"start_bundle", s.StartMillis}, {"process_bundle", s.ProcessMillis}, {"finish_bundle", s.FinishMillis}} {
			send(out, m.sdkSeconds, counter, float64(method.millis)/1000, job, stage, s.Transform, method.name)
		}
	}
}

// cost sends what bundles of a stage cost.
func (m *profileMetrics) cost(out chan<- prometheus.Metric, c *jobserver.CostDescription, job, stage string) {
	if c == nil || c.Bundles == 0 {
		return
	}
	send(out, m.fixed, prometheus.GaugeValue, c.FixedMillis/1e3, job, stage)
	send(out, m.each, prometheus.GaugeValue, c.ElementMicros/1e6, job, stage)
	send(out, m.open, prometheus.GaugeValue, c.QuantumMillis/1e3, job, stage)
}

// histogram sends a histogram in another unit. Every second of its bounds has a series, from that of 2^from - 1 on.
func histogram(
	out chan<- prometheus.Metric, desc *prometheus.Desc, s *jobserver.Spread, sum, unit float64, from int, count int64, labels ...string,
) {
	const series = 11
	buckets := make(map[float64]uint64, series)
	for k := from; k < min(from+2*series, len(s.Counts)); k += 2 {
		buckets[float64(int64(1)<<k-1)*unit] = uint64(s.Counts[k])
	}
	metric, err := prometheus.NewConstHistogram(desc, uint64(count), sum, buckets, valid(labels)...)
	if err != nil {
		metric = prometheus.NewInvalidMetric(desc, err)
	}
	out <- metric
}
