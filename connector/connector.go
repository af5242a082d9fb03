package connector

import (
	"context"
	"time"

	"padstone/engine/element"
	"padstone/engine/plan"
)

// URN names a native transform, for example "padstone:transform:kafka_read:v1".
type URN string

// Registry resolves the URN of a native source or sink.
type Registry interface {
	Source(URN) (Source, bool)
	Sink(URN) (Sink, bool)
}

// Source is a kind of native source.
type Source interface {
	// Validate checks the configuration without contacting anything; called at Prepare.
	Validate(config []byte) error
	// Open connects and starts reading at the positions of state (nil: the configured start). Errors are fault.Environment when
	// outside is to blame (unreachable broker, missing topic) and come within seconds, naming address or topic.
	Open(ctx context.Context, config []byte, state []Position) (Reader, error)
}

// Position is the durable progress of one split (for Kafka: of one topic partition).
type Position struct {
	Split string // stable name, for example "payments-3"
	State []byte // the source's own encoding
}

// Batch is what one Poll returned.
type Batch struct {
	// Data holds Count windowed values in the global window with pane NO_FIRING, encoded with the source's element coder: the bytes
	// that a harness would be sent. Owned by the receiver.
	Data      []byte
	Count     int
	MinTS     element.Time
	MaxTS     element.Time
	Positions []Position   // the splits that moved
	Watermark element.Time // of the whole source, monotonic; held back by no idle split
	Done      bool         // bounded source is exhausted; implies Watermark MaxTime
}

// Reader reads one Source. Poll is called from one goroutine; the other methods may be called at any time.
type Reader interface {
	// Poll waits up to wait for the first element, then returns what is there, at most maxElements and about maxBytes. An empty
	// Batch is normal; its Watermark and Positions still count. After an error the reader is of no more use: what it had fetched may be
	// gone. The engine closes it and opens another at the positions that are committed.
	Poll(ctx context.Context, maxElements, maxBytes int, wait time.Duration) (Batch, error)
	// Durable tells that everything up to these positions is durable: the place to commit group offsets.
	Durable(positions []Position)
	// Describe lists the splits for people: name, position, end, watermark, idle.
	Describe() []SplitStatus
	Close() error
}

// SplitStatus describes one split to people and to the HTTP API.
type SplitStatus struct {
	Split     string `json:"split"`
	Position  int64  `json:"position"`  // next record to read
	End       int64  `json:"end"`       // known end of the split, -1 if unknown
	Committed int64  `json:"committed"` // position up to which a durable commit exists, -1 if none (filled in by the engine or reader)
	Watermark string `json:"watermark"`
	Idle      bool   `json:"idle"`
	// Problem says why the outside cannot be asked at the moment, "" when it can: an outage shows here and does not fail the job.
	Problem string `json:"problem,omitempty"`
}

// Sink is a kind of native sink.
type Sink interface {
	Validate(config []byte) error
	// Open connects, takes the place of any earlier writer of the same job and stage, and finds out how far that one came. mark is
	// the highest sequence of which the outside itself says that it and all before it have been written; 0 if the sink cannot tell,
	// or nothing was written yet. The engine drops blocks up to mark unpublished.
	Open(ctx context.Context, config []byte, as Identity) (w Writer, mark uint64, err error)
}

// Marker is implemented by a Sink that may keep a mark of how far it has come.
type Marker interface {
	// Marks says whether a sink of this configuration keeps a mark: then nothing is written twice, if no commit is ever taken back
	// whose blocks were written.
	Marks(config []byte) bool
	// Mark tells how far the writers have come, without taking the place of one that may still write; what that one writes meanwhile
	// may be in it or not. A sink that keeps no mark, as it is configured, says so.
	Mark(ctx context.Context, config []byte, as Identity) (Mark, error)
}

// Mark is how far the writers of a sink have come.
type Mark struct {
	Kept    bool      // false: nobody knows
	Seq     uint64    // the highest sequence that, with all before it, has been written; 0: none
	Records int64     // written up to it, in all
	At      time.Time // when it was written
	Target  string    // where to, for people: topic "totals"
}

// Identity is whose blocks a Writer writes.
type Identity struct {
	// Job and Stage are stable names, unique together among all jobs of all servers, from which producer ids may be derived.
	Job, Stage string
	// Published is the highest sequence that the engine has durably dropped from the outbox as written. A sink that keeps a mark
	// outside refuses to go on when its mark is lower: the mark was lost, and so it is not known what was written after it.
	Published uint64
	// Admit is asked about the mark before the sink leaves a trace outside, and nil admits any: an error gives the opening up, and the
	// earlier writer goes on.
	Admit func(mark uint64) error
}

// OutboxBlock is a block with its place in the sink's outbox. Sequences rise but are not contiguous; one names the same block for
// ever, over crashes, too.
type OutboxBlock struct {
	Seq   uint64
	Block element.Block
}

// Opaque is implemented by a Source or Sink that does not look into its elements: they may have any coder, and be in any windows.
type Opaque interface{ Opaque() }

// IsOpaque tells whether that is so of a native transform.
func IsOpaque(natives Registry, urn URN) bool {
	if s, ok := natives.Source(urn); ok {
		_, opaque := s.(Opaque)
		return opaque
	}
	s, _ := natives.Sink(urn)
	_, opaque := s.(Opaque)
	return opaque
}

// Fitter is implemented by a Source or Sink that has to know how its elements are encoded. An SDK may change the coder of a
// PCollection after the transform was configured, for example because the user gave it a type: the plan's word is the last.
type Fitter interface {
	// Fit returns config for elements of the framing program element (see plan.Edge.Element), in windows of the coding window.
	// An error is fault.Pipeline: such elements cannot be read or written.
	Fit(config []byte, element string, window plan.WindowCoding) ([]byte, error)
}

// Observed is implemented by a Writer that can tell people why a Publish takes long.
type Observed interface {
	// Problem says what the outside does not do, "" when all is well. It may be called at any time.
	Problem() string
}

// Writer writes one Sink.
type Writer interface {
	// Publish writes the elements of blocks (windowed values in the sink's element coder, in order) and returns when the outside
	// has acknowledged all of them. After an error none, some or all may have arrived; unless the error ends the job, the engine calls
	// again with the same blocks. A writer whose Open returns a mark writes all of a call's blocks or none, together with the new
	// mark, and on a repeated call leaves out what had arrived.
	Publish(ctx context.Context, blocks []OutboxBlock) error
	Close() error
}
