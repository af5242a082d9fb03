package memory

// Budget is a limit and its pools. The rest of the limit, a half, is for what has a bound of its own: the memtables of the stores, commits
// on their way, messages of gRPC, the collector's room.
type Budget struct {
	Limit int64
	// StoreCache is the size of the stores' common block cache.
	StoreCache int64
	// Intake is what harnesses have sent and nobody has looked at yet. Who waits holds up the harness.
	Intake *Pool
	// Outputs are blocks that running bundles have put out. What does not fit is written ahead of the commit.
	Outputs *Pool
	// Recent are committed blocks that are kept until their consumer takes them. What does not fit is read back.
	Recent *Pool
	// Inputs are blocks that have been read for a bundle and are not sent yet.
	Inputs *Pool
	// Groups is what groupings of bounded input hold. Who gets less sorts on disk.
	Groups *Pool
}

// Share shares out a limit.
func Share(limit int64) *Budget {
	return &Budget{
		Limit:      limit,
		StoreCache: limit / 32,
		Intake:     NewPool("intake", limit/16),
		Outputs:    NewPool("outputs", limit/16),
		Recent:     NewPool("recent", limit/16),
		Inputs:     NewPool("inputs", limit/16),
		Groups:     NewPool("groups", limit/8),
	}
}

// Pools lists the pools.
func (b *Budget) Pools() []*Pool { return []*Pool{b.Intake, b.Outputs, b.Recent, b.Inputs, b.Groups} }
