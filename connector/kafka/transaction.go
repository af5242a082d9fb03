package kafka

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"padstone/connector"
	"padstone/internal/fault"
)

// Limits of transactions.
const (
	fenceTimeout      = 30 * time.Second // a new cluster has to make its transaction log first
	rollBackTimeout   = 2 * time.Second
	txnTimeoutDefault = time.Minute // transaction.timeout.ms
)

// transactions is what a writer that is exactly-once knows beyond its connection.
//
// Every Publish is one transaction: its records, and a mark with the sequence of its last block. So whether a transaction was
// committed can be asked at any time, and nothing rests on an open one outliving anything. After every error the client is thrown
// away. The next one begins with InitProducerID, which ends what the earlier one may have left open, then reads the mark.
//
// InitProducerID lets everybody in and shuts out whoever was there before, so that it cannot tell a writer that its transaction had
// merely timed out from one that was replaced. Therefore a writer leaves its name when it opens. One that was shut out comes back in
// only to look at the name: is it still its own, it goes on; is it another's, it stops for good, and the other one, which
// that visit has shut out, comes back in turn, finds its name, and goes on. Likewise one whose place was asked for by a writer that was
// not admitted: that one leaves no name.
type transactions struct {
	id      string // transactional.id
	owner   string // names this writer
	topic   string // of marks
	mark    uint64 // the last block that is known to be written
	records int64  // up to the mark, in all
	claimed bool   // the topic has had our name since Open
	ask     func(mark uint64) error
}

func newTransactions(as connector.Identity, set *settings) *transactions {
	return &transactions{
		id: "padstone/" + as.Job + "/" + as.Stage, owner: rand.Text(), topic: set.producer.marksTopic, mark: as.Published, ask: as.Admit,
	}
}

// options are those of the client that writes.
func (t *transactions) options(p *producerSettings) []kgo.Opt {
	return []kgo.Opt{kgo.TransactionalID(t.id), kgo.TransactionTimeout(p.txnTimeout)}
}

// enter takes the transactional id and finds out how far its writers have come.
func (w *writer) enter(ctx context.Context, kafka *cluster) error {
	ctx, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	t := w.txn
	if err := kafka.ensureMarks(ctx, t.topic, w.log); err != nil {
		return err
	}
	if _, err := retrying(ctx, func() (struct{}, error) {
		_, _, err := kafka.client.ProducerID(ctx)
		return struct{}{}, err
	}); err != nil {
		return w.transactionError(kafka, "taking the transactional id", err)
	}
	if err := kafka.client.BeginTransaction(); err != nil {
		return w.transactionError(kafka, "beginning a transaction", err)
	}
	// Our name, in a transaction that stays open until the topic has been read, is also where reading ends.
	name := markRecord(t.topic, t.id, ownerSuffix, t.owner)
	if err := kafka.client.ProduceSync(ctx, name).FirstErr(); err != nil {
		return w.transactionError(kafka, "writing a mark", err)
	}
	found, err := readMarks(ctx, w.set, t.topic, t.id, name.Offset)
	if err == nil {
		err = t.admit(found)
	}
	if err != nil {
		return err
	}
	if err := kafka.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return w.transactionError(kafka, "ending a transaction", err)
	}
	t.mark, t.records, t.claimed = found.mark, found.records, true
	return nil
}

// admit decides whether the writer may go on.
func (t *transactions) admit(found marks) error {
	if t.claimed && found.owner != t.owner {
		return fault.New(fault.Corruption, codeFenced, "another writer has taken the transactional id %q", t.id).
			WithHint("the job runs in another server, too, on a copy of its data directory: stop one of them")
	}
	if found.mark < t.mark {
		return fault.New(fault.Environment, codeMarkLost, "topic %q says that block %d was the last one written, but block %d has been",
			t.topic, found.mark, t.mark).
			WithHint("records or all of the topic were deleted, so that what was written since cannot be told; restore it or start a new job")
	}
	if !t.claimed && t.ask != nil {
		return t.ask(found.mark)
	}
	return nil
}

// commit writes the records and the mark in one transaction.
func (w *writer) commit(ctx context.Context, records []*kgo.Record, mark uint64) error {
	kafka, t := w.kafka, w.txn
	if err := kafka.client.BeginTransaction(); err != nil {
		return w.transactionError(kafka, "beginning a transaction", err)
	}
	count := t.records + int64(len(records))
	marked := markRecord(t.topic, t.id, markSuffix, strconv.FormatUint(mark, 10))
	marked.Headers = []kgo.RecordHeader{{Key: recordsHeader, Value: strconv.AppendInt(nil, count, 10)}}
	records = append(records, marked)
	if err := w.produce(ctx, records); err != nil {
		return err
	}
	if err := kafka.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return w.transactionError(kafka, "ending a transaction", err)
	}
	t.mark, t.records = mark, count
	return nil
}

// rollBack ends an open transaction, so that readers of committed records do not wait until it times out. What becomes of it does
// not matter: the next client ends it, too.
func (w *writer) rollBack(kafka *cluster) {
	ctx, cancel := context.WithTimeout(context.Background(), rollBackTimeout)
	defer cancel()
	err := kafka.client.AbortBufferedRecords(ctx)
	if err == nil {
		err = kafka.client.EndTransaction(ctx, kgo.TryAbort)
	}
	if err != nil {
		w.log.Info("a transaction was left to time out", zap.String("transactional_id", w.txn.id), zap.Error(err))
	}
}

// isFenced reports that brokers no longer know the producer: another has taken its place, its transaction has timed out, or its sequence
// numbers are not those they expect. Which of these it is, only the marks tell; brokers differ in which error they answer with. Sequence
// numbers go wrong in the client (franz-go 1.22.2) about once in a hundred transactions that follow the first one with a new topic, where
// brokers change the epoch with each (KIP-890): the one of that topic is not reset.
func isFenced(err error) bool {
	for _, e := range []error{
		kerr.InvalidProducerEpoch, kerr.ProducerFenced, kerr.InvalidProducerIDMapping, kerr.UnknownProducerID, kerr.TransactionAbortable,
		kerr.InvalidTxnState, kerr.OperationNotAttempted, kerr.OutOfOrderSequenceNumber,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// transactionError is the *fault.Error of a request about transactions.
func (w *writer) transactionError(kafka *cluster, doing string, err error) error {
	if fault.Of(err) != nil {
		return err
	}
	var broker *kerr.Error
	if !errors.As(err, &broker) {
		return kafka.openError(err)
	}
	code, hint := codeTransaction, ""
	switch {
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed), isAuth(err):
		code, hint = codeAuth, "allow the user to write the transactional ids that begin with padstone/ and the topic of marks, "+
			"or set padstone.delivery to at-least-once"
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		hint = "lower transaction.timeout.ms to at most the brokers' transaction.max.timeout.ms"
	case errors.Is(err, kerr.UnsupportedVersion):
		hint = "brokers without transactions need padstone.delivery=at-least-once"
	}
	return fault.New(fault.Environment, code, "%s of %q: %w", doing, w.txn.id, err).WithHint("%s", hint)
}
