package jobserver

// ProfileDescription is where the time of a stage's bundles went, since the server took the job: from the moment at which a bundle was
// started until its commit was applied. Parts add up to Seconds.
type ProfileDescription struct {
	Bundles int64             `json:"bundles"`
	Seconds float64           `json:"seconds"`
	Parts   []PartDescription `json:"parts"`
	Millis  Spread            `json:"millis"` // how long a bundle took
	// Elements and Bytes are what a bundle had: of its input, of a source of what it brought.
	Elements     Spread `json:"elements"`
	Bytes        Spread `json:"bytes"`
	LastElements int64  `json:"last_elements"` // of the last bundle
	LastBytes    int64  `json:"last_bytes"`
	// What is not the bundles' own time: how long blocks waited for a bundle, how long what has effects waited until it was durable, and
	// then until it was written outside; and what went into attempts that came to nothing.
	Inbox   Waits `json:"inbox"`
	Durable Waits `json:"durable"`
	Written Waits `json:"written"`
	Again   Waits `json:"again"`
	// SDK is what the harness says of its own time, by the user's transforms; it takes samples.
	SDK []SDKTime `json:"sdk,omitempty"`
}

// PartDescription is a part of the time.
type PartDescription struct {
	Group   string  `json:"group"` // runner, grpc, harness, store or wait
	Part    string  `json:"part"`
	Seconds float64 `json:"seconds"`
}

// Spread is how a number is spread over bundles; quantiles are off by a quarter at most.
type Spread struct {
	Sum float64 `json:"sum"`
	Max float64 `json:"max"`
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	// Counts are the bundles up to 0, 1, 3, 7 … 2^31 - 1: of microseconds, elements or bytes. Each includes those before it.
	Counts []int64 `json:"counts"`
}

// Waits adds up times of waiting.
type Waits struct {
	Count     int64   `json:"count"`
	Seconds   float64 `json:"seconds"` // of all together
	MaxMillis float64 `json:"max_millis"`
}

// SDKTime is what a harness says that a transform has taken, in milliseconds.
type SDKTime struct {
	Transform     string `json:"transform"`
	StartMillis   int64  `json:"start_bundle_millis"`
	ProcessMillis int64  `json:"process_bundle_millis"`
	FinishMillis  int64  `json:"finish_bundle_millis"`
}

// Shares are the groups' shares of the time, in the order in which they come.
func (p *ProfileDescription) Shares() (groups []string, shares []float64) {
	for _, part := range p.Parts {
		if n := len(groups); n == 0 || groups[n-1] != part.Group {
			groups, shares = append(groups, part.Group), append(shares, 0)
		}
		if p.Seconds > 0 {
			shares[len(shares)-1] += part.Seconds / p.Seconds
		}
	}
	return groups, shares
}

// CostDescription is what bundles of a stage cost their harness: a fixed time and one for each element, fitted to the last bundles.
type CostDescription struct {
	Bundles       int     `json:"bundles"` // that it is known from; 0: it is a guess
	FixedMillis   float64 `json:"fixed_millis"`
	ElementMicros float64 `json:"element_micros"`
	// QuantumMillis is how long a bundle is kept open at most; 0: bundles of the stage never are.
	QuantumMillis float64 `json:"quantum_millis"`
	BundlesMax    int     `json:"bundles_max"` // in flight on a process at most
}
