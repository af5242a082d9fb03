package profile

// Part is what a part of a bundle's time goes into.
type Part uint8

// The parts, by group.
const (
	// Of the runner.
	Prepare Part = iota // to choose the input, frame it and pack it into messages
	Process             // what stages do that run in the runner: grouping, triggers, outboxes
	Route               // to frame output, split it by key, and make the commit

	// Of gRPC, as far as the runner sees it.
	Encode // requests and data messages to the harness
	Decode // data messages from it

	// Harness is the wait for the harness, less the rest: its work, and what the connection takes.
	Harness

	// Of the store.
	Load   // to read blocks of the inbox
	State  // to answer the harness's state requests
	Commit // to apply the commit, and to write what is too much for it ahead of it
	Stable // to wait until the input is durable, where user code asked for that

	// Of waiting within the runner.
	Place  // for the bundle's goroutine, and for room in the outbox of a sink
	Memory // for memory
	Poll   // for a source to bring something
	Fill   // for more input, of a bundle that is kept open; its harness may be at work meanwhile
	Order  // for bundles before it that must be committed first
	Driver // for the job's driver

	// Parts is their number.
	Parts = iota
)

// Group is what several parts are.
type Group uint8

// The groups.
const (
	GroupRunner Group = iota
	GroupGRPC
	GroupHarness
	GroupStore
	GroupWait

	// Groups is their number.
	Groups = iota
)

var groupNames = [Groups]string{"runner", "grpc", "harness", "store", "wait"}

// String names the group.
func (g Group) String() string { return groupNames[g] }

var parts = [Parts]struct {
	group Group
	name  string
}{
	Prepare: {GroupRunner, "prepare"}, Process: {GroupRunner, "process"}, Route: {GroupRunner, "route"},
	Encode: {GroupGRPC, "encode"}, Decode: {GroupGRPC, "decode"},
	Harness: {GroupHarness, "harness"},
	Load:    {GroupStore, "load"}, State: {GroupStore, "state"}, Commit: {GroupStore, "commit"}, Stable: {GroupStore, "stable"},
	Place: {GroupWait, "place"}, Memory: {GroupWait, "memory"}, Poll: {GroupWait, "poll"}, Order: {GroupWait, "order"},
	Fill: {GroupWait, "fill"}, Driver: {GroupWait, "driver"},
}

// String names the part.
func (p Part) String() string { return parts[p].name }

// Group is the group of the part.
func (p Part) Group() Group { return parts[p].group }
