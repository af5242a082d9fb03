package fnapi

import (
	"crypto/rand"
	"strings"
)

// WorkerID is what a harness sends as worker_id metadata. It is the only thing that admits it, hence unguessable.
type WorkerID string

// InstructionID names one bundle. It must never be used twice, also not by a later process of the runner: harnesses remember the
// finished ones and drop their data.
type InstructionID string

// DescriptorID names one ProcessBundleDescriptor. Harnesses cache descriptors by id for ever, so an id names one content. It admits
// whoever asks for that content by it, hence unguessable, too.
type DescriptorID string

// NewWorkerID returns a fresh id with 130 bits of randomness. The prefix is for people who read logs; characters that do not suit a
// gRPC header value or a file name are replaced.
func NewWorkerID(prefix string) WorkerID {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-':
			return r
		default:
			return '-'
		}
	}, prefix)
	const prefixMax = 40
	if len(clean) > prefixMax {
		clean = clean[:prefixMax]
	}
	return WorkerID(clean + "-" + strings.ToLower(rand.Text()))
}
