package bundle

import (
	"bytes"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/protobuf/proto"
)

// readAhead is the next page of a side input, which is read while the harness works on the one before. There is one at a time, so that
// a bundle holds two pages at most. Not for concurrent use; the zero value is empty.
type readAhead struct{ next *pageAhead }

type pageAhead struct {
	key   *fnpb.StateKey
	token []byte
	done  chan struct{} // closed when page or err is set
	page  *fnpb.StateGetResponse
	err   error
}

// start begins to read a page. What was read and not taken is forgotten.
func (r *readAhead) start(key *fnpb.StateKey, token []byte, read func(*fnpb.StateKey, []byte) (*fnpb.StateGetResponse, error)) {
	r.end()
	p := &pageAhead{key: key, token: token, done: make(chan struct{})}
	r.next = p
	go func() {
		defer close(p.done)
		p.page, p.err = read(p.key, p.token)
	}()
}

// take returns the page if it is the one that is read, and waits for it then.
func (r *readAhead) take(key *fnpb.StateKey, token []byte) (page *fnpb.StateGetResponse, err error, ok bool) {
	p := r.next
	if p == nil || !bytes.Equal(p.token, token) || !proto.Equal(p.key, key) {
		return nil, nil, false
	}
	r.end()
	return p.page, p.err, true
}

// end waits until nothing is being read.
func (r *readAhead) end() {
	if r.next != nil {
		<-r.next.done
		r.next = nil
	}
}
