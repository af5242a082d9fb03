package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/grpc"

	"padstone/jobserver"
)

const (
	// rejoinTries and rejoinAfter bound how long a watcher looks for a server that broke the message stream off.
	rejoinTries = 5
	rejoinAfter = time.Second
	// lastWordsFor is how long messages are awaited after a terminal state, as in the Python client.
	lastWordsFor = 5 * time.Second
	// cancelFor bounds one Cancel call.
	cancelFor = 10 * time.Second
)

// jobBoard follows the jobs of one script: state and messages, from the Job service. Goroutines: one for each job, which ends with
// the job, with the server or with the context given to add; wait and close wait for them.
type jobBoard struct {
	client  jobpb.JobServiceClient
	console *console
	verbose bool

	watchers sync.WaitGroup
	mu       struct {
		sync.Mutex
		jobs    []*boardJob // in the order in which they were submitted
		refused []string
	}
}

// boardJob is what is known of one job; guarded by its board.
type boardJob struct {
	id    string
	state jobpb.JobState_Enum
	error string // the last error message
	lost  error  // why the job is no longer followed although it has not ended
	ended chan struct{}
}

func newJobBoard(console *console, verbose bool) *jobBoard {
	return &jobBoard{console: console, verbose: verbose}
}

// connect says where to ask; before there are jobs to ask for.
func (b *jobBoard) connect(conn grpc.ClientConnInterface) { b.client = jobpb.NewJobServiceClient(conn) }

// add follows the job with the id until it ends or ctx is done; adding it twice changes nothing.
func (b *jobBoard) add(ctx context.Context, id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, j := range b.mu.jobs {
		if j.id == id {
			return
		}
	}
	job := &boardJob{id: id, ended: make(chan struct{})}
	b.mu.jobs = append(b.mu.jobs, job)
	b.watchers.Go(func() {
		defer close(job.ended)
		b.follow(ctx, job)
	})
}

// refuse notes that the server refused a pipeline of the script's.
func (b *jobBoard) refuse(message string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.refused = append(b.mu.refused, message)
}

// follow reads the message stream until the job ends; a broken stream is opened again, and what it repeats is skipped.
func (b *jobBoard) follow(ctx context.Context, job *boardJob) {
	seen := 0
	for try := 0; ; try++ {
		before := seen
		err := b.followOnce(ctx, job, &seen)
		if b.snapshot(job).terminal() || ctx.Err() != nil {
			return
		}
		// A stream that ended without a terminal state may have been cut at its very end.
		if response, stateErr := b.client.GetState(ctx, &jobpb.GetJobStateRequest{JobId: job.id}); stateErr == nil {
			b.state(job, response.GetState())
		}
		if b.snapshot(job).terminal() {
			return
		}
		if err == nil {
			err = errors.New("the server ended the message stream")
		}
		if seen > before {
			try = 0
		}
		if try == rejoinTries {
			b.update(func() { job.lost = err })
			b.console.printf("padstone: job %s: lost sight of it: %v", job.id, err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rejoinAfter):
		}
	}
}

// followOnce reads one message stream. seen counts the messages printed so far, over all streams of the job.
func (b *jobBoard) followOnce(ctx context.Context, job *boardJob, seen *int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := b.client.GetMessageStream(ctx, &jobpb.JobMessagesRequest{JobId: job.id})
	if err != nil {
		return err
	}
	for n := 0; ; {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if message := response.GetMessageResponse(); message != nil {
			if n++; n > *seen {
				*seen = n
				b.message(job, message)
			}
		}
		if event := response.GetStateResponse(); event != nil {
			b.state(job, event.GetState())
			if jobserver.IsTerminal(event.GetState()) {
				// The server ends the stream after the last message; if it does not, the job has still ended.
				defer time.AfterFunc(lastWordsFor, cancel).Stop()
			}
		}
	}
}

// state notes and prints a transition; nothing follows a terminal state. STOPPED, the state before the start, is not printed: to the
// reader of a terminal the word says that something has ended.
func (b *jobBoard) state(job *boardJob, state jobpb.JobState_Enum) {
	changed := false
	b.update(func() {
		if changed = job.state != state && !jobserver.IsTerminal(job.state); changed {
			job.state = state
		}
	})
	if changed && jobserver.IsTerminal(state) {
		// The next look at what still runs puts it back.
		b.console.setLive("")
	}
	if changed && state != jobpb.JobState_STOPPED {
		b.console.printf("padstone: job %s: %s", job.id, state)
	}
}

// message prints a message for the user. Of an error only the gist: the SDK's client prints all of it, and what it does not print is
// said at the end.
func (b *jobBoard) message(job *boardJob, m *jobpb.JobMessage) {
	text := strings.TrimRight(m.GetMessageText(), "\n")
	switch m.GetImportance() {
	case jobpb.JobMessage_JOB_MESSAGE_ERROR:
		b.update(func() { job.error = text })
		b.console.printf("padstone: job %s: error: %s", job.id, gist(text))
	case jobpb.JobMessage_JOB_MESSAGE_WARNING:
		b.console.printf("padstone: job %s: warning: %s", job.id, text)
	case jobpb.JobMessage_JOB_MESSAGE_DEBUG, jobpb.JobMessage_JOB_MESSAGE_DETAILED:
		if b.verbose {
			b.console.printf("padstone: job %s: %s", job.id, text)
		}
	default:
		b.console.printf("padstone: job %s: %s", job.id, text)
	}
}

func (b *jobBoard) update(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// jobEnd is a copy of what is known of one job.
type jobEnd struct {
	id    string
	state jobpb.JobState_Enum
	error string
	lost  error
}

// terminal tells whether the job has ended.
func (j jobEnd) terminal() bool { return jobserver.IsTerminal(j.state) }

func (b *jobBoard) snapshot(job *boardJob) jobEnd {
	b.mu.Lock()
	defer b.mu.Unlock()
	return jobEnd{id: job.id, state: job.state, error: job.error, lost: job.lost}
}

// all returns what is known of every job, in the order of submission, and the refusals.
func (b *jobBoard) all() (jobs []jobEnd, refused []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, j := range b.mu.jobs {
		jobs = append(jobs, jobEnd{id: j.id, state: j.state, error: j.error, lost: j.lost})
	}
	return jobs, append(refused, b.mu.refused...)
}

// unfinished returns the jobs that are still followed.
func (b *jobBoard) unfinished() []string {
	jobs, _ := b.all()
	var ids []string
	for _, j := range jobs {
		if !j.terminal() && j.lost == nil {
			ids = append(ids, j.id)
		}
	}
	return ids
}

// cancel asks the server to cancel the unfinished jobs and returns how many there were.
func (b *jobBoard) cancel(ctx context.Context) (int, error) {
	ids := b.unfinished()
	var errs []error
	for _, id := range ids {
		ctx, cancel := context.WithTimeout(ctx, cancelFor)
		if _, err := b.client.Cancel(ctx, &jobpb.CancelJobRequest{JobId: id}); err != nil {
			errs = append(errs, fmt.Errorf("cancelling job %s: %w", id, err))
		}
		cancel()
	}
	return len(ids), errors.Join(errs...)
}

// wait returns when every job known now is no longer followed, or when ctx is done.
func (b *jobBoard) wait(ctx context.Context) error {
	b.mu.Lock()
	jobs := append([]*boardJob(nil), b.mu.jobs...)
	b.mu.Unlock()
	for _, j := range jobs {
		select {
		case <-j.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// close waits for the watchers; their context must be done, or their jobs ended.
func (b *jobBoard) close() { b.watchers.Wait() }
