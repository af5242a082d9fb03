package codertest

import (
	"fmt"
	"strconv"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/connector/kafka/row"
)

// URNs of the coders. Package urn of translate derives the same from the protos; a test compares them.
const (
	Bytes         = "beam:coder:bytes:v1"
	StringUTF8    = "beam:coder:string_utf8:v1"
	Bool          = "beam:coder:bool:v1"
	Varint        = "beam:coder:varint:v1"
	Double        = "beam:coder:double:v1"
	KVs           = "beam:coder:kv:v1"
	Iterable      = "beam:coder:iterable:v1"
	StateBacked   = "beam:coder:state_backed_iterable:v1"
	Nullable      = "beam:coder:nullable:v1"
	LengthPrefix  = "beam:coder:length_prefix:v1"
	ShardedKey    = "beam:coder:sharded_key:v1"
	Timers        = "beam:coder:timer:v1"
	WindowedValue = "beam:coder:windowed_value:v1"
	ParamWindowed = "beam:coder:param_windowed_value:v1"
	GlobalWindow  = "beam:coder:global_window:v1"
	Interval      = "beam:coder:interval_window:v1"
	CustomWindow  = "beam:coder:custom_window:v1"
	Rows          = "beam:coder:row:v1"
)

// arity is the number of components of the coders that have some.
var arity = map[string]int{
	KVs: 2, Iterable: 1, StateBacked: 1, Nullable: 1, LengthPrefix: 1, ShardedKey: 1, Timers: 2, WindowedValue: 2, ParamWindowed: 2,
	CustomWindow: 1,
}

// Coder is a coder with all that it is made of.
type Coder struct {
	URN     string
	Payload []byte
	Parts   []*Coder
	// State is what state tokens in iterables stand for: encoded elements. It is looked up in the iterable's own coder.
	State map[string][]byte

	schema *pipepb.Schema // of a row
	rows   *row.Coder
}

// Of returns a pipeline's coder as a tree. Errors: one that is missing, nested in itself, or has the wrong number of components.
func Of(id string, coders map[string]*pipepb.Coder) (*Coder, error) { return of(id, coders, 0) }

func of(id string, coders map[string]*pipepb.Coder, depth int) (*Coder, error) {
	const depthMax = 100
	p := coders[id]
	if p == nil || depth > depthMax {
		return nil, fmt.Errorf("coder %q is missing or nested too deeply", id)
	}
	c := &Coder{URN: p.GetSpec().GetUrn(), Payload: p.GetSpec().GetPayload()}
	for _, part := range p.GetComponentCoderIds() {
		component, err := of(part, coders, depth+1)
		if err != nil {
			return nil, err
		}
		c.Parts = append(c.Parts, component)
	}
	return c, c.init()
}

// init checks the number of components and reads the payload of a row coder.
func (c *Coder) init() error {
	if want, ok := arity[c.URN]; ok && len(c.Parts) != want {
		return fmt.Errorf("%s has %d components, wants %d", c.URN, len(c.Parts), want)
	}
	if c.URN != Rows {
		return nil
	}
	c.schema = &pipepb.Schema{}
	if err := proto.Unmarshal(c.Payload, c.schema); err != nil {
		return err
	}
	var err error
	c.rows, err = row.New(c.schema)
	return err
}

// known are the coders of which this package knows where a value ends.
func (c *Coder) known() bool {
	_, composite := arity[c.URN]
	switch c.URN {
	case Bytes, StringUTF8, Bool, Varint, Double, GlobalWindow, Interval, Rows:
		return true
	}
	return composite
}

// Framed tells whether it can be known where a value ends in the nested context. A length prefix around what cannot be framed holds
// opaque bytes.
func (c *Coder) Framed() bool {
	if c.URN == LengthPrefix {
		return true
	}
	for _, part := range c.Parts {
		if !part.Framed() {
			return false
		}
	}
	return c.known()
}

// AddTo puts the coder into a pipeline's coders, its components under ids of their own, and returns its id.
func (c *Coder) AddTo(coders map[string]*pipepb.Coder) string {
	p := &pipepb.Coder{Spec: &pipepb.FunctionSpec{Urn: c.URN, Payload: c.Payload}}
	for _, part := range c.Parts {
		p.ComponentCoderIds = append(p.ComponentCoderIds, part.AddTo(coders))
	}
	id := "c" + strconv.Itoa(len(coders))
	coders[id] = p
	return id
}

// String prints the tree, for messages.
func (c *Coder) String() string {
	if len(c.Parts) == 0 {
		return c.URN
	}
	return fmt.Sprint(c.URN, c.Parts)
}
