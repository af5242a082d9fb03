package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"padstone/internal/fault"
)

// The codes of this package; docs/errors/kafka.md has a section for each.
const (
	codeProperty    fault.Code = "kafka-property"
	codeUnreachable fault.Code = "kafka-unreachable"
	codeAuth        fault.Code = "kafka-auth"
	codeTopic       fault.Code = "kafka-topic-missing"
	codeOffset      fault.Code = "kafka-offset-lost"
	codeRead        fault.Code = "kafka-read"
	codeWrite       fault.Code = "kafka-write"
	codeRecord      fault.Code = "kafka-record-refused"
	codeTransaction fault.Code = "kafka-transaction"
	codeFenced      fault.Code = "kafka-fenced"
	codeMarks       fault.Code = "kafka-marks"
	codeMarkLost    fault.Code = "kafka-mark-lost"
	codeDeserialize fault.Code = "kafka-deserialize"
	codeTimestamp   fault.Code = "kafka-timestamp-type"
	codeElement     fault.Code = "kafka-element"
	codeType        fault.Code = "kafka-element-type"
	codePosition    fault.Code = "kafka-position"
	codeSchema      fault.Code = "kafka-row-schema"
)

// isAuth reports whether a broker refused who we are or what we may do.
func isAuth(err error) bool {
	for _, e := range []error{
		kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState, kerr.TopicAuthorizationFailed,
		kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.SecurityDisabled,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func isUnknownTopic(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}

// readError turns the error of a fetch into one that ends the reader, or nil when the client goes on by itself.
func readError(topic string, partition int32, err error) error {
	var loss *kgo.ErrDataLoss
	switch {
	case errors.As(err, &loss):
		return nil // the client has gone back to where the broker's log still agrees; the reader logs it
	case isAuth(err):
		return fault.New(fault.Environment, codeAuth, "reading topic %q: %w", topic, err)
	case isUnknownTopic(err):
		return missingTopic(topic, err)
	case errors.Is(err, kerr.OffsetOutOfRange):
		return fault.New(fault.Environment, codeOffset, "topic %q partition %d no longer has the records to go on with: %w",
			topic, partition, err).WithHint("set auto.offset.reset to earliest or latest to go on with what is left")
	}
	var broker *kerr.Error
	if errors.As(err, &broker) && !broker.Retriable {
		return fault.New(fault.Environment, codeRead, "reading topic %q partition %d: %w", topic, partition, err)
	}
	if errors.Is(err, kgo.ErrClientClosed) {
		return fault.New(fault.Environment, codeRead, "the reader is closed: %w", err)
	}
	return nil
}

// writeError classifies what a record's promise returned.
func writeError(r *kgo.Record, err error) error {
	switch {
	case isAuth(err):
		return fault.New(fault.Environment, codeAuth, "writing topic %q: %w", r.Topic, err)
	case isUnknownTopic(err):
		return missingTopic(r.Topic, err)
	}
	for _, refused := range []error{
		kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTopicException, kerr.InvalidTimestamp,
		kerr.UnsupportedForMessageFormat, kerr.UnsupportedCompressionType, kerr.PolicyViolation, kerr.CorruptMessage,
	} {
		if errors.Is(err, refused) {
			return fault.New(fault.Pipeline, codeRecord, "topic %q does not take a record of %d bytes: %w",
				r.Topic, len(r.Key)+len(r.Value), err).
				WithHint("compare the record with the topic's limits and with max.request.size in producer_config")
		}
	}
	return fault.New(fault.Environment, codeWrite, "writing topic %q: %w", r.Topic, err)
}

func missingTopic(topic string, err error) error {
	return fault.New(fault.Environment, codeTopic, "topic %q does not exist: %w", topic, err).
		WithHint("create the topic, or correct its name in the pipeline")
}
